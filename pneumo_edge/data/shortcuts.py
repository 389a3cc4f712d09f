"""Simple measures of an image, such as its brightness, that may separate the classes of a data set by accident."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from pneumo_edge.evaluation import metrics
from pneumo_edge.evaluation.metrics import Labels, Scores

Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class Measures:
    """File size in bytes; mean (brightness) and standard deviation (contrast) of the grey values, 0 to 255."""

    file_size: int
    brightness: float
    contrast: float


def measure(data: bytes, grey: Image.Image) -> Measures:
    """Measure an image.

    Args:
        data: The bytes of its file.
        grey: The image, decoded by :func:`pneumo_edge.imaging.images.decode`.
    """
    pixels = np.asarray(grey, dtype=np.float32)
    return Measures(len(data), float(pixels.mean()), float(pixels.std()))


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
