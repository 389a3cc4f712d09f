"""EfficientNet-Lite0, which Keras has not.

EfficientNet-B0 as it was changed for edge devices (Liu 2020,
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite): without squeeze-and-excite, with ReLU6
instead of swish, because both quantize badly or run slowly; its stem and head are the same for every size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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
    for number, stage in enumerate(_STAGES, start=1):
        for repeat in range(stage.repeats):
            tensor = _block(tensor, f"block{number}{'abcd'[repeat]}", stage, stage.stride if repeat == 0 else 1)
    return keras.Model(image, _convolution(tensor, "head_conv", "head_bn", _HEAD), name="efficientnetlite0")


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
