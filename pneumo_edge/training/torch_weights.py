"""Reads arrays out of a file that PyTorch saved before version 1.6, without PyTorch and without running what is in it.

Such a file is a row of pickles: a number by which it is known, a version, sizes of types, a dictionary of tensors, and
the names of the storages whose numbers follow. A pickle may call any function, so only those that PyTorch writes for
tensors are known here, and they make records.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
_LENGTH = 8
_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class NotReadableError(ValueError):
    """The file is damaged, or has more in it than tensors; the message says what."""


class _Storage(NamedTuple):
    """Name and type of an array of numbers that follows the pickles, and how many they are."""

    key: str
    kind: np.dtype[Any]
    length: int


class _Tensor(NamedTuple):
    """A view of a storage: the first number, lengths, and numbers between neighbours along each axis."""

    storage: _Storage
    first: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]


def is_torch(content: bytes) -> bool:
    """Whether bytes begin as such a file does."""
    return content.startswith(_MAGIC)


def read(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """Read the tensors of a ``state_dict``, by name.

    Raises:
        NotReadableError: It is damaged, or has something else in it.
    """
    stream = io.BytesIO(content)
    try:
        for _ in range(3):
            _Unpickler(stream).load()
        tensors, keys = _Unpickler(stream).load(), _Unpickler(stream).load()
        storages = {each.storage.key: each.storage for each in tensors.values()}
        data = {}
        for key in keys:
            (count,) = np.frombuffer(stream.read(_LENGTH), "<i8")
            storage = storages[key]
            if count != storage.length:
                raise NotReadableError(f"storage {key} has {count} numbers, not {storage.length}")
            data[key] = np.frombuffer(stream.read(storage.length * storage.kind.itemsize), storage.kind)
        return {str(name): _view(each, data[each.storage.key]) for name, each in tensors.items()}
    except NotReadableError:
        raise
    except Exception as error:  # pickle has no common base class for a broken file
        raise NotReadableError(f"it cannot be read as a file of PyTorch: {error}") from error


def _view(tensor: _Tensor, numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    last = tensor.first + sum((length - 1) * step for length, step in zip(tensor.shape, tensor.steps, strict=True))
    if min(tensor.first, *tensor.shape, *tensor.steps, 0) < 0 or last >= len(numbers) != 0:
        raise NotReadableError("a tensor reaches beyond its numbers")
    places = np.full(tensor.shape, tensor.first)
    for axis, step in enumerate(tensor.steps):
        shape = [1] * len(tensor.shape)
        shape[axis] = -1
        places = places + np.reshape(np.arange(tensor.shape[axis]) * step, shape)
    return np.asarray(numbers[places])


def _rebuild(storage: _Storage, first: int, shape: tuple[int, ...], steps: tuple[int, ...], *_: object) -> _Tensor:
    return _Tensor(storage, first, tuple(shape), tuple(steps))


class _Unpickler(pickle.Unpickler):
    """Knows what a dictionary of tensors is made of, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise NotReadableError(f"it has {module}.{name} in it, which is not read")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, key, _, count = pid[1:5]
        return _Storage(str(key), kind, int(count))
