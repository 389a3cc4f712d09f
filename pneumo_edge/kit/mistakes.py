"""Common mistakes of ports, step by step: what a port would have computed if it had made one.

If the result of a port departs from what it should be, and equals that of a mistake, the check names the mistake.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from pneumo_edge.imaging import images
from pneumo_edge.imaging.images import Pixels
from pneumo_edge.scaling import SCALINGS
from pneumo_edge.spec import InputSpec

Array = npt.NDArray[Any]
#: What was done instead, and its result.
Mistakes = Iterator[tuple[str, Array]]


def of_decoding(content: bytes, upright: Pixels) -> Mistakes:
    """Of the step ``decode``, from the bytes of the file and the pixels that they hold."""
    if upright.ndim == 3:
        yield "the channels are in the order blue, green, red", upright[..., ::-1]
    image = images.open_image(content)
    if image.getexif().get(0x0112, 1) != 1:
        yield "the EXIF orientation is ignored", np.asarray(image)
    for turn, about in (
        (Image.Transpose.ROTATE_90, "turned the wrong way"),
        (Image.Transpose.ROTATE_180, "upside down"),
        (Image.Transpose.ROTATE_270, "turned the wrong way"),
        (Image.Transpose.FLIP_LEFT_RIGHT, "mirrored"),
        (Image.Transpose.FLIP_TOP_BOTTOM, "upside down"),
    ):
        yield about, np.asarray(Image.fromarray(upright).transpose(turn))
    if image.mode == "RGBA":
        for colour in ("black", "white"):
            behind = Image.new("RGBA", image.size, colour)
            behind.alpha_composite(ImageOps.exif_transpose(image))
            yield f"transparency is blended with {colour}", np.asarray(behind.convert("RGB"))


def of_grey(decoded: Pixels) -> Mistakes:
    """Of the step ``grey``, from decoded pixels."""
    if decoded.ndim == 2:
        return
    channels = decoded.astype(np.float64)
    for about, weights in (
        ("the channels are in the order blue, green, red", (0.114, 0.587, 0.299)),
        ("the channels are averaged, all with the same weight", (1 / 3, 1 / 3, 1 / 3)),
        ("the weights are those of ITU-R BT.709, not BT.601", (0.2126, 0.7152, 0.0722)),
        ("the first channel alone is taken", (1, 0, 0)),
        ("the second channel alone is taken", (0, 1, 0)),
        ("the last channel alone is taken", (0, 0, 1)),
    ):
        yield about, np.rint(channels @ np.array(weights))


def of_resizing(grey: Pixels, size: InputSpec) -> Mistakes:
    """Of the step ``resize``, from grey pixels."""
    height, width = size.height, size.width
    for about, antialias, centres in (
        ("without antialiasing", False, _centres),
        ("without antialiasing, and half a pixel off", False, lambda old, new: np.arange(new) * old / new + 0.5),
        ("without antialiasing, and with the corners aligned", False, _aligned),
        ("half a pixel off", True, lambda old, new: np.arange(new) * old / new),
        ("half a pixel off", True, lambda old, new: (np.arange(new) + 1) * old / new),
        ("half a pixel off", True, lambda old, new: _centres(old, new) + 0.5),
        ("half a pixel off", True, lambda old, new: _centres(old, new) - 0.5),
    ):
        rows = _weights(grey.shape[0], centres(grey.shape[0], height), antialias)
        columns = _weights(grey.shape[1], centres(grey.shape[1], width), antialias)
        yield about, np.rint(rows @ grey.astype(np.float64) @ columns.T)
    picture = Image.fromarray(grey)
    for about, resample in (
        ("with the nearest pixel", Image.Resampling.NEAREST),
        ("with the mean of each area (box)", Image.Resampling.BOX),
        ("with bicubic interpolation", Image.Resampling.BICUBIC),
        ("with a Lanczos filter", Image.Resampling.LANCZOS),
    ):
        yield about, np.asarray(picture.resize((width, height), resample))
    bilinear = Image.Resampling.BILINEAR
    yield "the aspect ratio is kept, with a border", np.asarray(ImageOps.pad(picture, (width, height), bilinear))
    yield "the aspect ratio is kept, and the rest cut off", np.asarray(ImageOps.fit(picture, (width, height), bilinear))
    if height == width:
        yield "rows and columns are exchanged", np.asarray(picture.resize((width, height), bilinear)).T


def _centres(old: int, new: int) -> Array:
    """Where the centre of each pixel of the result lies in the image; the first pixel is from 0 to 1."""
    return (np.arange(new) + 0.5) * old / new


def _aligned(old: int, new: int) -> Array:
    return np.arange(new) * (old - 1) / max(new - 1, 1) + 0.5


def _weights(size: int, centres: Array, antialias: bool) -> Array:
    """How much of each of ``size`` pixels goes into each pixel of the result, shape (centres, size)."""
    support = max(size / len(centres), 1.0) if antialias else 1.0
    if not antialias:
        # Beyond the centre of the first and of the last pixel, that pixel is repeated.
        centres = np.clip(centres, 0.5, size - 0.5)
    weights = np.maximum(0, 1 - np.abs(np.arange(size) + 0.5 - centres[:, np.newaxis]) / support)
    return np.asarray(weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9))


def of_tensor(resized: Pixels, size: InputSpec, right: Array) -> Mistakes:
    """Of the step ``tensor``, from pixels of the model's size and the tensor that they make."""
    pixels = np.stack([resized] * size.channels, axis=0 if size.layout == "nchw" else -1)[np.newaxis]
    values = pixels.astype(np.float64)
    yield "the pixels are not scaled", values
    yield "the pixels are taken as 0 to 1", values / 255
    yield "the pixels are taken as -1 to 1", values / 127.5 - 1
    if size.channels == 3:
        shape = (1, 3, 1, 1) if size.layout == "nchw" else (1, 1, 1, 3)
        for name, scaling in SCALINGS.items():
            scale, offset = (np.broadcast_to(each, 3).reshape(shape) for each in (scaling.scale, scaling.offset))
            yield f"the pixels are scaled as `{name}`", values * scale + offset
    yield "128 is subtracted from the pixels", values - 128
    axis = 1 if size.layout == "nchw" else 3
    yield "the channels are in the order blue, green, red", np.flip(right, axis)
    if size.channels == 3:
        turned = np.moveaxis(right, axis, 3 if axis == 1 else 1)
        yield "height, width and channels are in another order", turned.reshape(right.shape)
        turned = right.swapaxes(2, 3) if size.layout == "nchw" else right.swapaxes(1, 2)
        if turned.shape == right.shape:
            yield "rows and columns are exchanged", turned


def of_probabilities(right: Mapping[str, float], given: Mapping[str, float]) -> str | None:
    """What may have been done instead, where the probabilities of a port are not those of the model."""
    values, wrong = np.array(list(right.values())), np.array([given[name] for name in right])
    if not np.isfinite(wrong).all() or wrong.max() > 1 or wrong.min() < 0:
        return "the output is not dequantized, or logits are not turned into probabilities"
    powers = np.exp(values)
    close = _Close(wrong)
    if close.to(powers / powers.sum()):
        return "softmax is applied to probabilities"
    if not close.to(values) and _Close(np.sort(wrong)).to(np.sort(values)):
        return "the classes are in another order"
    return None


class _Close:
    def __init__(self, values: Array) -> None:
        self._values = values

    def to(self, others: Array) -> bool:
        return bool(np.allclose(self._values, others, atol=0.02))


def of_threshold(right: float, positives: Mapping[float, bool]) -> str | None:
    """Which threshold a port seems to use.

    Args:
        right: The threshold of the ModelSpec.
        positives: For probabilities of the positive class, whether the port reports it.
    """
    reported = [value for value, is_positive in positives.items() if is_positive]
    others = [value for value, is_positive in positives.items() if not is_positive]
    least, most = min(reported, default=math.inf), max(others, default=-math.inf)
    if least <= most:
        return None
    if most < 0.5 <= least:
        return f"the threshold seems to be 0.5, not {right:.4g}"
    return f"the threshold seems to lie within {most:.4g} to {least:.4g}, not at {right:.4g}"
