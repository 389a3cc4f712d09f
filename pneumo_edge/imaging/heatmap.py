"""A heatmap over its X-ray, with numpy and Pillow alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pneumo_edge._util import files

#: The upper part of the colour map inferno of matplotlib (CC0, https://bids.github.io/colormap/), which is perceptually
#: uniform, in equal steps; its lower part is too dark to be told from an X-ray.
_INFERNO = (
    (106, 23, 110),
    (147, 38, 103),
    (188, 55, 84),
    (221, 81, 58),
    (243, 120, 25),
    (252, 165, 10),
    (246, 215, 70),
    (243, 246, 138),
)
#: What a cell must add to the logit to get the last colour, where no cell of the image adds more: so a faint heatmap
#: looks faint, and two X-rays can be told apart by it.
FULL = 12.0
#: Of the colour over the X-ray, at :data:`FULL`; half of that and more has it, less has less.
_OPACITY = 0.6
_LEVELS = 256
_STEPS = np.linspace(0, 1, _LEVELS)


def draw(image: Image.Image, heatmap: npt.NDArray[np.float32]) -> Image.Image:
    """Lay a heatmap over the X-ray that it explains.

    Evidence for the positive class is coloured, from purple through orange to yellow; the stronger it is, the less
    transparent. Evidence against it is not coloured.

    Args:
        image: The X-ray, of mode ``"L"`` and any size.
        heatmap: ``Prediction.heatmap``: float32 of shape (grid height, grid width), finite.

    Returns:
        An image of mode ``"RGB"`` and of the X-ray's size, without any of its metadata.
    """
    share = np.clip(heatmap / max(float(heatmap.max()), FULL), 0, 1)
    # In 8 bits before it is enlarged, because an X-ray may have millions of pixels.
    levels = Image.fromarray(np.rint(share * (_LEVELS - 1)).astype(np.uint8))
    levels = levels.resize(image.size, Image.Resampling.BILINEAR)
    mask = levels.point(opacities().tolist())
    levels.putpalette(colours().tobytes())
    picture = Image.composite(levels.convert("RGB"), image.convert("RGB"), mask)
    picture.info.clear()
    return picture


def colours() -> npt.NDArray[np.uint8]:
    """The colour of each of 256 levels of a heatmap, of shape (256, 3), RGB."""
    anchors = np.linspace(0, 1, len(_INFERNO))
    palette = [np.interp(_STEPS, anchors, channel) for channel in zip(*_INFERNO, strict=True)]
    return np.asarray(np.rint(np.stack(palette, axis=-1)), np.uint8)


def opacities() -> npt.NDArray[np.uint8]:
    """How much of the X-ray each of 256 levels covers, of shape (256,): 0 nothing, 255 all."""
    return np.asarray(np.rint(255 * _OPACITY * np.minimum(2 * _STEPS, 1)), np.uint8)


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture as a PNG file, which is complete or absent.

    Raises:
        OSError: The file cannot be written. An existing file is not changed.
    """
    with files.atomic(path) as temporary:
        picture.save(temporary, "PNG")
