"""Simple measures of an image, such as its brightness, that may separate the classes of a data set by accident."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from pneumo_edge.evaluation import metrics
from pneumo_edge.evaluation.metrics import Labels, Scores
from pneumo_edge.imaging import images

Direction = Literal["higher", "lower"]

#: Height and width at which sharpness is measured: what a model sees of an image.
_SIDE = 224


@dataclass(frozen=True)
class Measures:
    """File size in bytes; mean (brightness) and standard deviation (contrast) of the grey values, 0 to 255."""

    file_size: int
    brightness: float
    contrast: float


@dataclass(frozen=True)
class Appearance:
    """How an image was taken and saved, apart from what it shows.

    Attributes:
        height: In pixels.
        aspect_ratio: Width over height.
        tone: Where the median grey value is between the darkest and the brightest 2 %, 0 to 1.
        sharpness: Standard deviation of the image less its copy blurred by a Gaussian of 1 pixel, over that of the
            image, both at 224 x 224 pixels.
        quantization: Mean of the encoder's luminance table, of a JPEG file; the higher, the more detail was lost.
    """

    height: int
    aspect_ratio: float
    tone: float
    sharpness: float
    quantization: float | None


def measure(data: bytes, grey: Image.Image) -> Measures:
    """Measure an image.

    Args:
        data: The bytes of its file.
        grey: The image, decoded by :func:`pneumo_edge.imaging.images.decode`.
    """
    pixels = np.asarray(grey, dtype=np.float32)
    return Measures(len(data), float(pixels.mean()), float(pixels.std()))


def look_at(opened: Image.Image, grey: Image.Image) -> Appearance:
    """Measure how an image was taken and saved.

    Args:
        opened: Pillow's image of its file.
        grey: The image, decoded by :func:`pneumo_edge.imaging.images.decode`.
    """
    darkest, median, brightest = np.percentile(np.asarray(grey), (2, 50, 98))
    small = images.resize(grey, _SIDE, _SIDE)
    seen = np.asarray(small, dtype=np.float32)
    fine = seen - np.asarray(small.filter(ImageFilter.GaussianBlur(1)), dtype=np.float32)
    tables = getattr(opened, "quantization", None)
    return Appearance(
        height=grey.height,
        aspect_ratio=grey.width / grey.height,
        tone=float((median - darkest) / max(brightest - darkest, 1)),
        sharpness=float(fine.std() / max(float(seen.std()), 1)),
        quantization=float(np.mean(tables[min(tables)])) if tables else None,
    )


def appearance_columns(appearances: Sequence[Appearance], has_files: bool) -> dict[str, Scores]:
    """Return the measures by their printed names, each of shape (images,), without those in which all images are alike.

    Args:
        appearances: One for each image.
        has_files: Whether the image files are real, see :class:`~pneumo_edge.data.sources.Source`.
    """
    found = {
        "height": [float(each.height) for each in appearances],
        "aspect ratio": [each.aspect_ratio for each in appearances],
        "tone": [each.tone for each in appearances],
        "sharpness": [each.sharpness for each in appearances],
    }
    tables = [each.quantization for each in appearances if each.quantization is not None]
    if has_files and len(tables) == len(appearances):
        found["JPEG quantization"] = tables
    return {name: np.array(values, np.float64) for name, values in found.items() if len(set(values)) > 1}


def columns(measures: Sequence[Measures], has_files: bool) -> dict[str, Scores]:
    """Return the measures by their printed names, each of shape (images,).

    Args:
        measures: One for each image.
        has_files: Whether file sizes mean something, see :class:`~pneumo_edge.data.sources.Source`.
    """
    found = {"file size": [float(each.file_size) for each in measures]} if has_files else {}
    found["brightness"] = [each.brightness for each in measures]
    found["contrast"] = [each.contrast for each in measures]
    return {name: np.array(values, dtype=np.float64) for name, values in found.items()}


def find_direction(labels: Labels, values: Scores) -> Direction:
    """Whether class 1 has the higher or the lower values, by the AUC.

    Raises:
        ValueError: Only one class is present.
    """
    return "higher" if metrics.auc(labels, values) >= 0.5 else "lower"


def as_scores(values: Scores, direction: Direction) -> Scores:
    """Return values as scores of class 1: the higher, the more likely is class 1."""
    return values if direction == "higher" else -values
