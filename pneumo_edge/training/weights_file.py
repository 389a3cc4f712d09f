"""Reads weights that Keras saved, and makes sure that they are all of a network's and no others."""

from __future__ import annotations

import hashlib
import io
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import extras

#: The weights inside a ``.keras`` file.
_IN_ARCHIVE = "model.weights.h5"
#: Parts of a path inside a file that lead to what is no weight of a layer.
_NO_WEIGHTS = frozenset(
    {"optimizer", "optimizer_weights", "seed_generator", "metrics", "compile_metrics", "loss_tracker"}
)
#: Of shapes that are quoted in a message.
_QUOTED = 3


class DoesNotFitError(ValueError):
    """A file whose weights are not those of the network; the message says what differs."""


def load(network: Any, path: Path) -> None:
    """Load weights from a file that has as many as the network, of the same shapes.

    Keras leaves layers that it finds nothing for as they are, and passes over what a file has beyond the network. So
    shapes are compared before, and values after: each array of the network is then one of the file.

    Args:
        network: A ``keras.Model``.
        path: A ``.weights.h5``, legacy ``.h5`` or ``.keras`` file, whatever it is called.

    Raises:
        DoesNotFitError: The file is none of these, is cut short, or holds more, less or other arrays than the network,
            or values that are not finite. The network may have been changed in part by then.
    """
    content = _hdf5(path)
    h5py = extras.need("h5py", "train")
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            arrays = list(_arrays(h5py, file))
            # What Keras wrote before version 3 names its layers in attributes.
            is_legacy = "layer_names" in file.attrs or "model_weights" in file
    except Exception as error:  # h5py promises no common base class for broken input
        raise DoesNotFitError(f"it cannot be read: {error}") from error
    _compare_shapes(arrays, network)
    if not all(np.isfinite(array).all() for array in arrays):
        raise DoesNotFitError("it holds values that are not finite")
    # Under a name by which Keras chooses the right reader.
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "weights.h5" if is_legacy else "copy.weights.h5")
        copy.write_bytes(content)
        try:
            # Keras only warns of groups that it finds nothing in.
            with warnings.catch_warnings(action="error", category=UserWarning):
                network.load_weights(copy)
        except (ValueError, OSError, KeyError, UserWarning) as error:
            raise DoesNotFitError(str(error)) from error
    if Counter(map(_identity, network.get_weights())) != Counter(map(_identity, arrays)):
        raise DoesNotFitError("Keras took only a part of its arrays")


def _hdf5(path: Path) -> bytes:
    content = path.read_bytes()
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        try:
            return archive.read(_IN_ARCHIVE)
        except (KeyError, zipfile.BadZipFile, OSError) as error:
            raise DoesNotFitError("it is an archive, but none that Keras saved a model in") from error


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
    parts = [f"it holds {found.total()} arrays, the network {wanted.total()}"]
    parts += [f"{_quote(missing)} {'is' if missing.total() == 1 else 'are'} missing"] if missing else []
    parts += [f"{_quote(beyond)} {'is' if beyond.total() == 1 else 'are'} none of the network's"] if beyond else []
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
