"""Tests whether two models differ on the same images by more than chance.

DeLong's and McNemar's tests take images as independent. :func:`paired_auc` and :func:`paired_accuracy` do not, nor does
:func:`pneumo_edge.evaluation.bootstrap.bootstrap_difference`, which takes other statistics besides and more time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
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
    placed = _placed(labels, first) - _placed(labels, second)
    found = _auc_shares(labels, placed, patients)
    differing = int(np.count_nonzero(_by_patient(_any(placed).astype(np.float64), patients)))
    return _normal(found.value, found.covariance(found), differing, found.patients, confidence)


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
    found = _mean_shares(images, patients)
    differing = int(np.count_nonzero(_by_patient(np.abs(images), patients)))
    return _normal(found.value, found.covariance(found), differing, found.patients, confidence)


@dataclass(frozen=True)
class PatientShares:
    """A metric of one network, or of the difference of two, and by how much each patient moves it.

    Attributes:
        value: The metric.
        parts: How much each patient moves it, shape (parts, patients): by the images of each class where the classes
            count apart.
        units: Patients behind each part.
    """

    value: float
    parts: tuple[Scores, ...]
    units: tuple[int, ...]

    @property
    def patients(self) -> int:
        """Patients in all."""
        return len(self.parts[0])

    def less(self, other: PatientShares) -> PatientShares:
        """The difference of two metrics on the same images."""
        parts = tuple(one - two for one, two in zip(self.parts, other.parts, strict=True))
        return PatientShares(self.value - other.value, parts, self.units)

    def covariance(self, other: PatientShares) -> float:
        """The covariance of two metrics on the same images of the same patients; with itself the variance."""
        found = sum(
            _inflation(count) * float(one @ two)
            for one, two, count in zip(self.parts, other.parts, self.units, strict=True)
        )
        if len(self.parts) == 2:
            # A patient may have images of both classes.
            crossed = float(self.parts[0] @ other.parts[1]) + float(self.parts[1] @ other.parts[0])
            found += _inflation(self.patients) * crossed
        return found


def auc_shares(labels: Labels, scores: Scores, patients: Sequence[str]) -> PatientShares:
    """The AUC of a network, with DeLong's structural components summed by patient (Obuchowski, Biometrics 53, 1997).

    Args:
        labels: 0 or 1, shape (images,); or the place of the class.
        scores: Shape (images,), or (images, classes): then of the macro AUC.
        patients: Whose image each is.

    Raises:
        ValueError: A class is missing, the shapes do not fit, or a score is NaN.
    """
    labels = np.asarray(labels)
    if not len(labels) == len(scores) == len(patients):
        raise ValueError("labels, scores and patients are not of the same images")
    return _auc_shares(labels, _placed(labels, scores), patients)


def accuracy_shares(right: npt.NDArray[np.bool_], patients: Sequence[str]) -> PatientShares:
    """The accuracy of a network, by patient.

    Args:
        right: Whether each image is decided rightly, shape (images,).
        patients: Whose image each is.

    Raises:
        ValueError: There are no images, or not the same number of both.
    """
    if not 0 < len(right) == len(patients):
        raise ValueError("decisions and patients are not of the same images")
    return _mean_shares(np.asarray(right, dtype=np.float64), patients)


def _placed(labels: Labels, scores: Scores) -> Scores:
    """Structural components, shape (images,); of several classes shape (images, classes)."""
    if np.ndim(scores) == 2:
        return class_placements(labels, scores)
    images = np.zeros(len(labels))
    for label, part in zip((1, 0), placements(labels, scores), strict=True):
        images[labels == label] = part
    return images


def _any(placed: Scores) -> npt.NDArray[np.bool_]:
    return placed != 0 if placed.ndim == 1 else np.asarray(placed.any(axis=1))


def _auc_shares(labels: Labels, placed: Scores, patients: Sequence[str]) -> PatientShares:
    if placed.ndim == 2:
        macro = macro_auc(labels, placed)
        moved = _by_patient(macro.parts, patients)
        return PatientShares(macro.value, (moved,), (len(moved),))
    value = float(placed[labels == 1].mean())
    of_class = [labels == label for label in (1, 0)]
    parts = tuple(_by_patient(np.where(chosen, placed - value, 0.0) / chosen.sum(), patients) for chosen in of_class)
    patient_of = _patients(tuple(patients))
    counts = tuple(int(np.count_nonzero(np.bincount(patient_of[chosen]))) for chosen in of_class)
    return PatientShares(value, parts, counts)


def _mean_shares(images: Scores, patients: Sequence[str]) -> PatientShares:
    value = float(images.mean())
    moved = _by_patient((images - value) / len(images), patients)
    return PatientShares(value, (moved,), (len(moved),))


def _by_patient(values: Scores, patients: Sequence[str]) -> Scores:
    """Sums over the images of each patient, shape (patients,)."""
    return np.bincount(_patients(tuple(patients)), weights=values).astype(np.float64)


@lru_cache(maxsize=8)
def _patients(names: tuple[str, ...]) -> npt.NDArray[np.intp]:
    """The place of each image's patient among the patients."""
    return np.asarray(np.unique(np.asarray(names, dtype=np.str_), return_inverse=True)[1])


def _inflation(units: int) -> float:
    """What makes the variance of so many units that of a sample; infinite for one, which shows none."""
    return units / (units - 1) if units > 1 else math.inf


def _normal(value: float, variance: float, differing: int, units: int, confidence: float) -> Interval:
    # Of one patient the variance is infinite, or infinity times 0.
    error = math.sqrt(max(0.0, variance)) if not math.isnan(variance) else math.inf
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    found = Interval(value, max(-1.0, value - half), min(1.0, value + half))
    return open_difference(found, differing, units, confidence=confidence)
