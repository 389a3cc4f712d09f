"""How far the pixels at one place of an image alone tell the classes.

A linear probe sees nothing but a cell of a grid, the border or the centre: the mean and the standard deviation of
blocks of pixels. Where it tells the classes from a place without lungs, a model can do so, too.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from pneumo_edge.data.samples import Sample
from pneumo_edge.evaluation import metrics
from pneumo_edge.evaluation.metrics import Interval
from pneumo_edge.imaging import images
from pneumo_edge.task import Task

#: Mean and standard deviation of the blocks of an image, 0 to 255: uint8, shape (2, 28, 28).
Blocks = npt.NDArray[np.uint8]
_Features = npt.NDArray[np.float32]

#: Height and width at which images are compared, in pixels, and those of a block.
_SIDE, _BLOCK = 224, 8
_BLOCKS = _SIDE // _BLOCK
#: Cells along a side of the grid, and blocks along a side of a cell.
GRID = 7
_OF_CELL = _BLOCKS // GRID
#: Blocks between the edge of the image and the inner edge of the border, and those around the centre.
_BORDER, _AROUND_CENTRE = 2, 7
#: Parts into which the patients are divided, each of which is scored by probes of the others.
_FOLDS = 5
#: Strength of ridge regression on standardized features, per image.
_RIDGE = 0.1
#: Least patients of each class.
_LEAST_PATIENTS = 10
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Place:
    """A place of the image, and how far its pixels alone tell the classes.

    Attributes:
        name: ``"border"``, ``"centre"``, or ``"row R, column C"`` of the grid, counted from 1 at the upper left.
        left, top, width, height: The place, as shares of the image's width and height, 0 to 1; of the border its outer
            edge.
        outer: Whether it touches an edge of the image.
        class_name: The class that it tells best from the others.
        auc: Of a linear probe in cross-validation by patient, on the training images. The intervals of all places
            together have a confidence of 95 % (Bonferroni).
    """

    name: str
    left: float
    top: float
    width: float
    height: float
    outer: bool
    class_name: str
    auc: Interval


def blocks(grey: Image.Image) -> Blocks:
    """Mean and standard deviation of the blocks of an image.

    Args:
        grey: The image, decoded by :func:`pneumo_edge.imaging.images.decode`.
    """
    seen = np.asarray(images.resize(grey, _SIDE, _SIDE), dtype=np.float32)
    parts = seen.reshape(_BLOCKS, _BLOCK, _BLOCKS, _BLOCK)
    return np.asarray(np.stack([parts.mean(axis=(1, 3)), parts.std(axis=(1, 3))]).round(), dtype=np.uint8)


def border_of(seen: Blocks) -> npt.NDArray[np.uint8]:
    """The means of the blocks along the edges of an image, shape (blocks,)."""
    return np.asarray(seen[0][_masks()["border"]])


def probe_places(samples: Sequence[Sample], blocks_of: Mapping[str, Blocks], task: Task) -> tuple[Place, ...] | None:
    """Probe every place.

    Args:
        samples: Training images.
        blocks_of: The blocks of each by its name.
        task: Their classes.

    Returns:
        The border, the centre, and the cells of the grid by row; None with fewer than ten patients of a class.
    """
    labels = np.array([sample.label for sample in samples], dtype=np.int64)
    patients = [f"{sample.patient} {sample.kind}" for sample in samples]
    people = [len({who for who, of in zip(patients, labels, strict=True) if of == each}) for each in _labels(task)]
    if min(people) < _LEAST_PATIENTS:
        return None
    groups = np.unique(patients, return_inverse=True)[1]
    # Ordered by a hash, so that the same patients are always in one part.
    order = [hashlib.sha256(who.encode()).digest() for who in patients]
    parts = np.array([digest[0] % _FOLDS for digest in order])
    seen = np.stack([blocks_of[sample.name] for sample in samples])
    masks = _masks()
    wanted = list(_labels(task)) if task.positive_index is None else [task.positive_index]
    confidence = 1 - (1 - _CONFIDENCE) / (len(masks) * len(wanted))
    targets = np.stack([labels == each for each in wanted], axis=1)
    found = []
    for name, mask in masks.items():
        scores = _probe(seen[:, :, mask].reshape(len(seen), -1).astype(np.float32), targets, parts)
        aucs = [
            _widen(metrics.grouped_auc(target.astype(np.int64), of_class, groups, confidence))
            for target, of_class in zip(targets.T, scores.T, strict=True)
        ]
        best = max(range(len(aucs)), key=lambda each: aucs[each].value)
        found.append(_place(name, mask, task.class_names[wanted[best]], aucs[best]))
    return tuple(found)


def _labels(task: Task) -> range:
    return range(len(task.class_names))


@functools.cache
def _masks() -> dict[str, npt.NDArray[np.bool_]]:
    """Which blocks each place has, shape (28, 28), by its name."""
    inner = np.zeros((_BLOCKS, _BLOCKS), np.bool_)
    inner[_BORDER:-_BORDER, _BORDER:-_BORDER] = True
    centre = np.zeros_like(inner)
    centre[_AROUND_CENTRE:-_AROUND_CENTRE, _AROUND_CENTRE:-_AROUND_CENTRE] = True
    return {"border": ~inner, "centre": centre, **dict(_cells())}


def _cells() -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    for row, column in np.ndindex(GRID, GRID):
        cell = np.zeros((_BLOCKS, _BLOCKS), np.bool_)
        cell[row * _OF_CELL : (row + 1) * _OF_CELL, column * _OF_CELL : (column + 1) * _OF_CELL] = True
        yield f"row {row + 1}, column {column + 1}", cell


def _probe(features: _Features, targets: npt.NDArray[np.bool_], parts: npt.NDArray[np.intp]) -> metrics.Scores:
    """Scores of each image by ridge regression on the other parts, shape (images, classes)."""
    scores = np.zeros(targets.shape)
    for part in np.unique(parts):
        held, fitted = parts == part, parts != part
        mean, scale = features[fitted].mean(axis=0), np.maximum(features[fitted].std(axis=0), 1)
        standardized = (features - mean) / scale
        known, wanted = standardized[fitted], targets[fitted] - targets[fitted].mean(axis=0)
        gram = known.T @ known + _RIDGE * len(known) * np.eye(known.shape[1], dtype=np.float32)
        scores[held] = standardized[held] @ np.linalg.solve(gram, known.T @ wanted)
    return scores


def _widen(found: Interval) -> Interval:
    """The interval with what the choice of training images adds (Nadeau and Bengio, Machine Learning 52, 2003)."""
    wider = math.sqrt(1 + _FOLDS / (_FOLDS - 1))
    low, high = (found.value + wider * (end - found.value) for end in (found.low, found.high))
    return Interval(found.value, max(0.0, low), min(1.0, high))


def _place(name: str, mask: npt.NDArray[np.bool_], class_name: str, auc: Interval) -> Place:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = float(rows[0] / _BLOCKS), float(columns[0] / _BLOCKS)
    bottom, right = float((rows[-1] + 1) / _BLOCKS), float((columns[-1] + 1) / _BLOCKS)
    outer = min(top, left) == 0 or max(bottom, right) == 1
    return Place(name, left, top, right - left, bottom - top, outer, class_name, auc)
