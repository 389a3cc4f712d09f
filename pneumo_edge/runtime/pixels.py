"""From grey pixels to the tensor that a model takes: its layout, its scaling and its type, as its ModelSpec says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pneumo_edge.imaging import images
from pneumo_edge.runtime.engines.tensors import Tensor
from pneumo_edge.spec import InputSpec

#: Every value that a pixel may have.
_VALUES = 256
_RGB = 3

#: Puts an image of one channel, of the model's size, into a tensor of the model's shape.
Filler = Callable[[Tensor, "Image.Image | images.Pixels"], None]


def shape(spec: InputSpec) -> tuple[int, int, int, int]:
    """The shape of the tensor that a model takes."""
    if spec.layout == "nchw":
        return 1, spec.channels, spec.height, spec.width
    return 1, spec.height, spec.width, spec.channels


def filler(spec: InputSpec) -> Filler:
    """Choose how an image gets into a model's tensor.

    Args:
        spec: What the model takes.

    Returns:
        A function of the tensor, shape (1, height, width, channels) or (1, channels, height, width) by the layout, and
        the grey image, uint8 of shape (height, width) or as Pillow has it. It writes every element of the tensor.
    """
    if _takes_pixels(spec):
        return lambda tensor, grey: images.fill(tensor[0], grey)
    tables = _tables(spec)
    axis = 1 if spec.layout == "nchw" else 3

    def fill(tensor: Tensor, grey: Image.Image | images.Pixels) -> None:
        pixels = np.asarray(grey, dtype=np.uint8)
        channels = np.moveaxis(tensor, axis, 0)
        for channel, table in zip(channels, tables, strict=True):
            channel[0] = table[pixels]

    return fill


def convert(spec: InputSpec, pixels: images.Pixels) -> Tensor:
    """Turn pixels of three channels, uint8 of shape (height, width, 3), into the tensor that a model takes.

    The channels of an X-ray are equal; of others, each is scaled by itself, and a model of one channel gets the first.
    """
    if _takes_pixels(spec):
        return pixels[np.newaxis].astype(spec.dtype, copy=False)
    planes = [table[pixels[..., channel]] for channel, table in enumerate(_tables(spec))]
    return np.ascontiguousarray(np.stack(planes, axis=0 if spec.layout == "nchw" else -1)[np.newaxis])


def _takes_pixels(spec: InputSpec) -> bool:
    return spec.scaling is None and spec.layout == "nhwc" and spec.channels == _RGB


def _tables(spec: InputSpec) -> list[npt.NDArray[Any]]:
    """For each channel, what the model gets for each value of a pixel, of the model's type."""
    values = np.arange(_VALUES, dtype=np.float64)
    scaling = spec.scaling
    if scaling is None:
        return [values.astype(spec.dtype)] * spec.channels
    tables = [values * scale + offset for scale, offset in zip(scaling.scale, scaling.offset, strict=True)]
    if scaling.step is None:
        return [table.astype(spec.dtype) for table in tables]
    limits = np.iinfo(spec.dtype)
    return [
        np.clip(np.rint(table / scaling.step) + scaling.zero_point, limits.min, limits.max).astype(spec.dtype)
        for table in tables
    ]
