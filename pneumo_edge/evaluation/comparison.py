"""Tests whether two models differ on the same images by more than chance.

DeLong's and McNemar's tests take images as independent. :func:`paired_auc` and :func:`paired_accuracy` do not, nor does
:func:`pneumo_edge.evaluation.bootstrap.bootstrap_difference`, which takes other statistics besides and more time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from pneumo_edge.evaluation.intervals import Interval, open_difference
from pneumo_edge.evaluation.metrics import (
    Labels,
    Scores,
    class_placements,
    delong_error,
    macro_auc,
    placements,
)

_Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class McNemar:
    """Images that only one of two models decides rightly, and the two-sided p-value of their balance."""

    only_first_right: int
    only_second_right: int
    p: float


@dataclass(frozen=True)
class AucDifference:
    """AUC of the first model less that of the second, with its 95 % interval, its z and its two-sided p-value.

    ``z`` and ``p`` are None where the areas differ and the images show no variance to measure that by.
    """

    difference: Interval
    z: float | None
    p: float | None


def p_value(p: float | None) -> str:
    """A p-value in words; None is one that is not defined."""
    if p is None:
        return "p not defined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def mcnemar(first_right: npt.NDArray[np.bool_], second_right: npt.NDArray[np.bool_]) -> McNemar:
    """McNemar's test (Psychometrika 1947) in its exact form: a binomial test of the discordant images.

    Args:
        first_right: Whether the first model decides each image rightly, shape (images,).
        second_right: The same of the second model.

    Raises:
        ValueError: There are no images, or not the same number for both.
    """
    first_right, second_right = np.asarray(first_right, dtype=np.bool_), np.asarray(second_right, dtype=np.bool_)
    if first_right.shape != second_right.shape or first_right.ndim != 1 or not len(first_right):
        raise ValueError(f"decisions of shapes {first_right.shape} and {second_right.shape} are not of the same images")
    only_first, only_second = int(np.sum(first_right & ~second_right)), int(np.sum(~first_right & second_right))
    return McNemar(only_first, only_second, _binomial_p(min(only_first, only_second), only_first + only_second))


def _binomial_p(fewer: int, trials: int) -> float:
    """Two-sided p-value of at most ``fewer`` successes of probability one half, in whole numbers until the end."""
    combinations = tail = 1
    for successes in range(fewer):
        combinations = combinations * (trials - successes) // (successes + 1)
        tail += combinations
    return min(1.0, 2 * tail / (1 << trials))


def compare_auc(labels: Labels, first: Scores, second: Scores) -> AucDifference:
    """The paired test of DeLong, DeLong and Clarke-Pearson (Biometrics 1988).

    The variance is that of the difference of the two models' structural components, which is the paper's
    ``L S L'`` with its covariance inside, and exactly 0 where the two rank all images alike; where fewer than five
    images differ, the interval is opened (:func:`~pneumo_edge.evaluation.intervals.open_difference`).

    Args:
        labels: 0 or 1, shape (images,); or the place of the class.
        first: Scores of the first model, shape (images,), or (images, classes): then of macro AUCs.
        second: Scores of the second model, of the same shape.

    Raises:
        ValueError: There are fewer than two images of a class, the shapes do not fit, or a score is NaN.
    """
    if not (len(labels) == len(first) and np.shape(first) == np.shape(second)):
        raise ValueError("labels and scores are not of the same images")
    if np.ndim(first) == 2:
        placed = class_placements(labels, first) - class_placements(labels, second)
        if min(int(np.sum(labels == label)) for label in range(placed.shape[1])) < 2:
            raise ValueError("a comparison of AUCs takes at least two images of each class")
        macro = macro_auc(labels, placed)
        return _tested(macro.value, macro.error, int(placed.any(axis=1).sum()), len(placed))
    by_class = [one - other for one, other in zip(placements(labels, first), placements(labels, second), strict=True)]
    if min(map(len, by_class)) < 2:
        raise ValueError("a comparison of AUCs takes at least two images of each class")
    value = float(by_class[0].mean())
    differing = sum(int(np.count_nonzero(part)) for part in by_class)
    return _tested(value, delong_error(by_class), differing, sum(map(len, by_class)))


def _tested(value: float, error: float, differing: int, images: int) -> AucDifference:
    found = Interval(value, max(-1.0, value - _Z95 * error), min(1.0, value + _Z95 * error))
    difference = open_difference(found, differing, images)
    if error == 0:
        return AucDifference(difference, None, None) if value else AucDifference(difference, 0.0, 1.0)
    z = value / error
    return AucDifference(difference, z, math.erfc(abs(z) / math.sqrt(2)))


def paired_auc(
    labels: Labels, first: Scores, second: Scores, patients: Sequence[str], confidence: float = 0.95
) -> Interval:
    """AUC of the first model less that of the second, with an interval that takes patients as independent.

    DeLong's structural components are summed by patient (Obuchowski, Biometrics 53, 1997). Where fewer than five
    patients differ, the interval is opened (:func:`~pneumo_edge.evaluation.intervals.open_difference`).

    Args:
        labels: 0 or 1, shape (images,); or the place of the class.
        first: Scores of the first model, shape (images,), or (images, classes): then of macro AUCs.
        second: Scores of the second model, of the same shape.
        patients: Whose image each is.
        confidence: That of the interval.

    Raises:
        ValueError: A class is missing, the shapes do not fit, or a score is NaN.
    """
    labels = np.asarray(labels)
    if not len(labels) == len(first) == len(second) == len(patients):
        raise ValueError("labels, scores and patients are not of the same images")
    if np.ndim(first) == 2:
        placed = class_placements(labels, first) - class_placements(labels, second)
        macro = macro_auc(labels, placed)
        moved = _by_patient(macro.parts, patients)
        differing = int(np.count_nonzero(_by_patient(placed.any(axis=1).astype(np.float64), patients)))
        return _normal(macro.value, _inflation(len(moved)) * float(moved @ moved), differing, len(moved), confidence)
    images = np.zeros(len(labels))
    for label, one, other in zip((1, 0), placements(labels, first), placements(labels, second), strict=True):
        images[labels == label] = one - other
    value = float(images[labels == 1].mean())
    of_class = [labels == label for label in (1, 0)]
    sums = [_by_patient(np.where(chosen, images - value, 0.0) / chosen.sum(), patients) for chosen in of_class]
    counts = [len(np.unique(np.asarray(patients, dtype=np.str_)[chosen])) for chosen in of_class]
    people = len(sums[0])
    variance = sum(_inflation(count) * float(part @ part) for part, count in zip(sums, counts, strict=True))
    variance += 2 * _inflation(people) * float(sums[0] @ sums[1])
    differing = int(np.count_nonzero(_by_patient((images != 0).astype(np.float64), patients)))
    return _normal(value, variance, differing, people, confidence)


def paired_accuracy(
    first_right: npt.NDArray[np.bool_],
    second_right: npt.NDArray[np.bool_],
    patients: Sequence[str],
    confidence: float = 0.95,
) -> Interval:
    """Share of images that the first model decides rightly less that of the second; patients are independent.

    Args:
        first_right: Whether the first model decides each image rightly, shape (images,).
        second_right: The same of the second model.
        patients: Whose image each is.
        confidence: That of the interval.

    Raises:
        ValueError: There are no images, or not the same number everywhere.
    """
    if not 0 < len(first_right) == len(second_right) == len(patients):
        raise ValueError("decisions and patients are not of the same images")
    images = np.asarray(first_right, dtype=np.float64) - np.asarray(second_right, dtype=np.float64)
    value = float(images.mean())
    sums = _by_patient((images - value) / len(images), patients)
    differing = int(np.count_nonzero(_by_patient(np.abs(images), patients)))
    return _normal(value, _inflation(len(sums)) * float(sums @ sums), differing, len(sums), confidence)


def _by_patient(values: Scores, patients: Sequence[str]) -> Scores:
    """Sums over the images of each patient, shape (patients,)."""
    _, patient_of = np.unique(np.asarray(patients, dtype=np.str_), return_inverse=True)
    return np.bincount(patient_of, weights=values).astype(np.float64)


def _inflation(units: int) -> float:
    """What makes the variance of so many units that of a sample; infinite for one, which shows none."""
    return units / (units - 1) if units > 1 else math.inf


def _normal(value: float, variance: float, differing: int, units: int, confidence: float) -> Interval:
    # Of one patient the variance is infinite, or infinity times 0.
    error = math.sqrt(max(0.0, variance)) if not math.isnan(variance) else math.inf
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    found = Interval(value, max(-1.0, value - half), min(1.0, value + half))
    return open_difference(found, differing, units, confidence=confidence)
