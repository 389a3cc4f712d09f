"""How well probabilities and decisions agree with labels, each with a 95 % interval.

Labels are 0 or 1, scores are probabilities of class 1; both are arrays of shape (images,).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]

_Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Confusion:
    """Counts of decisions against labels."""

    true_positives: int
    false_negatives: int
    true_negatives: int
    false_positives: int

    @property
    def accuracy(self) -> Interval:
        """Share of images that are decided rightly."""
        right = self.true_positives + self.true_negatives
        return wilson(right, right + self.false_negatives + self.false_positives)

    @property
    def sensitivity(self) -> Interval:
        """Share of positive images that are called positive."""
        return wilson(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> Interval:
        """Share of negative images that are called negative."""
        return wilson(self.true_negatives, self.true_negatives + self.false_positives)


def confusion(labels: Labels, decisions: npt.NDArray[np.bool_]) -> Confusion:
    """Count decisions (True for class 1) against labels."""
    positive = labels == 1
    return Confusion(
        true_positives=int(np.sum(positive & decisions)),
        false_negatives=int(np.sum(positive & ~decisions)),
        true_negatives=int(np.sum(~positive & ~decisions)),
        false_positives=int(np.sum(~positive & decisions)),
    )


def wilson(successes: int, trials: int) -> Interval:
    """A proportion with its Wilson score interval (Wilson 1927); (nan, 0, 1) without trials."""
    if trials == 0:
        return Interval(math.nan, 0.0, 1.0)
    share = successes / trials
    spread = _Z95 * math.sqrt(share * (1 - share) / trials + _Z95**2 / (4 * trials**2))
    scale = 1 + _Z95**2 / trials
    centre = share + _Z95**2 / (2 * trials)
    # At 0 and at 1 the interval ends at the share itself, which rounding must not put outside of it.
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return Interval(share, min(share, max(0.0, low)), max(share, min(1.0, high)))


def auc(labels: Labels, scores: Scores) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counted half.

    Raises:
        ValueError: Only one class is present, or a score is NaN.
    """
    above_negatives, _ = _placements(labels, scores)
    return float(above_negatives.mean())


def auc_interval(labels: Labels, scores: Scores) -> Interval:
    """AUC with the interval of DeLong, DeLong and Clarke-Pearson (Biometrics 1988), cut to 0 to 1.

    Where no positive scores below a negative, the interval has no width, however few images there are.

    Raises:
        ValueError: Fewer than two images of a class are present, or a score is NaN.
    """
    above_negatives, above_positives = _placements(labels, scores)
    if min(len(above_negatives), len(above_positives)) < 2:
        raise ValueError("an interval of the AUC takes at least two images of each class")
    value = float(above_negatives.mean())
    variance = above_negatives.var(ddof=1) / len(above_negatives) + above_positives.var(ddof=1) / len(above_positives)
    spread = _Z95 * math.sqrt(variance)
    return Interval(value, max(0.0, value - spread), min(1.0, value + spread))


def roc(labels: Labels, scores: Scores) -> tuple[Scores, Scores, Scores]:
    """The ROC curve at every distinct score, from the highest threshold to the lowest.

    Returns:
        (thresholds, sensitivity, false positive rate), arrays of one length; an image is called
        positive where its score is at least the threshold.

    Raises:
        ValueError: Only one class is present, or a score is NaN.
    """
    positives, negatives = _by_class(labels, scores)
    thresholds = np.unique(scores)[::-1]
    return thresholds, _share_at_least(positives, thresholds), _share_at_least(negatives, thresholds)


def _share_at_least(sorted_scores: Scores, thresholds: Scores) -> Scores:
    return (len(sorted_scores) - np.searchsorted(sorted_scores, thresholds, side="left")) / len(sorted_scores)


def _placements(labels: Labels, scores: Scores) -> tuple[Scores, Scores]:
    """For each positive its share of negatives below it, for each negative its share of positives above it."""
    positives, negatives = _by_class(labels, scores)
    below = np.searchsorted(negatives, positives, side="left")
    below_or_tied = np.searchsorted(negatives, positives, side="right")
    above = len(positives) - np.searchsorted(positives, negatives, side="right")
    above_or_tied = len(positives) - np.searchsorted(positives, negatives, side="left")
    return (below + below_or_tied) / (2 * len(negatives)), (above + above_or_tied) / (2 * len(positives))


def _by_class(labels: Labels, scores: Scores) -> tuple[Scores, Scores]:
    scores = np.asarray(scores, dtype=np.float64)
    if np.isnan(scores).any():
        # NaN sorts last, and would count as the highest score.
        raise ValueError("a score is NaN")
    positives, negatives = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    if not len(positives) or not len(negatives):
        raise ValueError("the ROC curve takes images of both classes")
    return positives, negatives
