"""How well probabilities and decisions agree with labels, each with a 95 % interval.

Labels are 0 or 1, scores are probabilities of class 1; both are arrays of shape (images,).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from pneumo_edge._util.records import Count
from pneumo_edge.evaluation.intervals import Interval as Interval
from pneumo_edge.evaluation.intervals import open_share

Labels = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]

_Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Confusion:
    """Counts of decisions against labels."""

    true_positives: Count
    false_negatives: Count
    true_negatives: Count
    false_positives: Count

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

    @property
    def ppv(self) -> Interval:
        """Share of the images called positive that are positive (positive predictive value, precision)."""
        return wilson(self.true_positives, self.true_positives + self.false_positives)

    @property
    def npv(self) -> Interval:
        """Share of the images called negative that are negative (negative predictive value)."""
        return wilson(self.true_negatives, self.true_negatives + self.false_negatives)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of sensitivity and specificity; NaN where a class is missing. Not a proportion of images."""
        return (self.sensitivity.value + self.specificity.value) / 2

    @property
    def f1(self) -> float:
        """Harmonic mean of PPV and sensitivity; NaN where no image is positive or called so."""
        missed_or_wrong = self.false_negatives + self.false_positives
        if not self.true_positives + missed_or_wrong:
            return math.nan
        return 2 * self.true_positives / (2 * self.true_positives + missed_or_wrong)


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
    above_negatives, _ = placements(labels, scores)
    return float(above_negatives.mean())


def auc_interval(labels: Labels, scores: Scores) -> Interval:
    """AUC with the interval of DeLong, DeLong and Clarke-Pearson (Biometrics 1988), cut to 0 to 1.

    Near the ends DeLong's variance vanishes, however few images there are. As many pairs of a positive and a negative
    as the smaller class has images are independent, so the interval is never narrower there than the exact one of so
    many pairs that are all in order (:func:`~pneumo_edge.evaluation.intervals.open_share`).

    Raises:
        ValueError: Fewer than two images of a class are present, or a score is NaN.
    """
    above_negatives, above_positives = placements(labels, scores)
    if min(len(above_negatives), len(above_positives)) < 2:
        raise ValueError("an interval of the AUC takes at least two images of each class")
    value = float(above_negatives.mean())
    spread = _Z95 * delong_error((above_negatives, above_positives))
    found = Interval(value, max(0.0, value - spread), min(1.0, value + spread))
    return open_share(found, min(len(above_negatives), len(above_positives)))


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


def _share_at_least(scores: Scores, thresholds: Scores) -> Scores:
    return (len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")) / len(scores)


def placements(labels: Labels, scores: Scores) -> tuple[Scores, Scores]:
    """The structural components of DeLong, DeLong and Clarke-Pearson (1988), ties counted half.

    Returns:
        For each positive the share of negatives below it, and for each negative the share of positives
        above it; each class in the order of its images.

    Raises:
        ValueError: Only one class is present, or a score is NaN.
    """
    positives, negatives = _by_class(labels, scores)
    return _share_below(np.sort(negatives), positives), 1 - _share_below(np.sort(positives), negatives)


def delong_error(components: Sequence[Scores]) -> float:
    """The standard error of an AUC, or of a weighted sum of AUCs, by DeLong, DeLong and Clarke-Pearson (1988).

    Args:
        components: For each class the structural components of its images (:func:`placements`), or their weighted sum
            over models, which is the paper's ``L S L'`` with its covariance inside.
    """
    return math.sqrt(sum(part.var(ddof=1) / len(part) for part in components))


def _share_below(sorted_scores: Scores, scores: Scores) -> Scores:
    below, below_or_tied = (np.searchsorted(sorted_scores, scores, side=side) for side in ("left", "right"))
    return np.asarray((below + below_or_tied) / (2 * len(sorted_scores)), dtype=np.float64)


def _by_class(labels: Labels, scores: Scores) -> tuple[Scores, Scores]:
    scores = np.asarray(scores, dtype=np.float64)
    if np.isnan(scores).any():
        # NaN sorts last, and would count as the highest score.
        raise ValueError("a score is NaN")
    positives, negatives = scores[labels == 1], scores[labels == 0]
    if not len(positives) or not len(negatives):
        raise ValueError("the ROC curve takes images of both classes")
    return positives, negatives
