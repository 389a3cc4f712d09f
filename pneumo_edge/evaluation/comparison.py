"""Two models on the same images: is the difference more than chance?

Both tests take images as independent; :func:`pneumo_edge.evaluation.bootstrap.bootstrap_difference` does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from pneumo_edge.evaluation.metrics import Interval, Labels, Scores, placements

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
    ``L S L'`` with its covariance inside, and exactly 0 where the two rank all images alike.

    Args:
        labels: 0 or 1, shape (images,).
        first: Scores of the first model, shape (images,).
        second: Scores of the second model, shape (images,).

    Raises:
        ValueError: There are fewer than two images of a class, the shapes do not fit, or a score is NaN.
    """
    if not np.shape(labels) == np.shape(first) == np.shape(second):
        raise ValueError("labels and scores are not of the same images")
    by_class = [one - other for one, other in zip(placements(labels, first), placements(labels, second), strict=True)]
    if min(map(len, by_class)) < 2:
        raise ValueError("a comparison of AUCs takes at least two images of each class")
    value = float(by_class[0].mean())
    error = math.sqrt(sum(part.var(ddof=1) / len(part) for part in by_class))
    difference = Interval(value, max(-1.0, value - _Z95 * error), min(1.0, value + _Z95 * error))
    if error == 0:
        return AucDifference(difference, None, None) if value else AucDifference(difference, 0.0, 1.0)
    z = value / error
    return AucDifference(difference, z, math.erfc(abs(z) / math.sqrt(2)))
