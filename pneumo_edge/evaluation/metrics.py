"""How well probabilities and decisions agree with labels, each with a 95 % interval.

Labels are 0 or 1, scores are probabilities of class 1; both are arrays of shape (images,). Of more than two classes,
labels are places in the order of classes, and scores have the probability of every class, shape (images, classes). The
AUC is then the macro average: the mean over the classes of each against the rest.
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


@dataclass(frozen=True)
class ConfusionMatrix:
    """Counts of decisions against labels for more than two classes: a row for each label, a column for each decision.

    Sensitivity and specificity are macro averages, each class against the rest.
    """

    counts: tuple[tuple[Count, ...], ...]

    def __post_init__(self) -> None:
        if len(self.counts) < 2 or any(len(row) != len(self.counts) for row in self.counts):
            raise ValueError("counts are not as many rows as columns, and at least 2")

    @property
    def accuracy(self) -> Interval:
        """Share of images that are decided rightly."""
        right = sum(row[place] for place, row in enumerate(self.counts))
        return wilson(right, sum(map(sum, self.counts)))

    @property
    def sensitivity(self) -> Interval:
        """Mean over the classes of the share of their images that are called so; NaN where a class is missing.

        The classes have other images, so the squares of their intervals add up (Zou and Donner, Statistics in Medicine
        27, 2008).
        """
        shares = [each.sensitivity for each in self.by_class]
        value = sum(each.value for each in shares) / len(shares)
        below, above = (
            math.sqrt(sum((getattr(each, end) - each.value) ** 2 for each in shares)) / len(shares)
            for end in ("low", "high")
        )
        return Interval(value, value - below, value + above)

    @property
    def specificity(self) -> Interval:
        """Mean over the classes of the share of other images that are not called so; NaN where there are none.

        The classes share their images, so the ends are the means of the ends of their intervals.
        """
        shares = [each.specificity for each in self.by_class]
        value, low, high = (
            sum(getattr(each, part) for each in shares) / len(shares) for part in ("value", "low", "high")
        )
        return Interval(value, low, high)

    @property
    def balanced_accuracy(self) -> float:
        """The value of :attr:`sensitivity`."""
        return self.sensitivity.value

    @property
    def by_class(self) -> tuple[Confusion, ...]:
        """Each class against the rest."""
        counts = np.array(self.counts)
        right, labelled, called = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
        return tuple(
            Confusion(
                true_positives=int(right[place]),
                false_negatives=int(labelled[place] - right[place]),
                true_negatives=int(counts.sum() - labelled[place] - called[place] + right[place]),
                false_positives=int(called[place] - right[place]),
            )
            for place in range(len(counts))
        )


def decide(scores: Scores, threshold: float | None) -> npt.NDArray[np.int64]:
    """Which class each image is called, shape (images,).

    Args:
        scores: Shape (images,), or (images, classes).
        threshold: Class 1 is called where its score is at least this; None for scores of every class, of which the
            most probable is called, and of several as probable the first.
    """
    called = np.argmax(scores, axis=1) if threshold is None else scores >= threshold
    return np.asarray(called, dtype=np.int64)


def distances(first: Scores, second: Scores) -> Scores:
    """How far scores are from other scores of the same images, shape (images,); of several classes the largest."""
    apart: Scores = np.abs(first - second)
    return apart if apart.ndim == 1 else np.asarray(apart.max(axis=1))


def mean_distances(first: Scores, second: Scores) -> Scores:
    """How far scores are from other scores of the same images, shape (images,); of several classes the mean."""
    apart: Scores = np.abs(first - second)
    return apart if apart.ndim == 1 else np.asarray(apart.mean(axis=1))


def margins(scores: Scores, threshold: float | None) -> Scores:
    """How much the probability of an image would have to change for another decision, shape (images,).

    Args:
        scores: As of :func:`decide`.
        threshold: As there; without one it is half of what the most probable class has more than the next.
    """
    if threshold is not None:
        return np.asarray(np.abs(scores - threshold))
    ranked = np.sort(scores, axis=1)
    return np.asarray((ranked[:, -1] - ranked[:, -2]) / 2)


def tabulate(labels: Labels, scores: Scores, threshold: float | None) -> Confusion | ConfusionMatrix:
    """Count decisions against labels; arguments as of :func:`decide`."""
    if threshold is not None:
        return confusion(labels, scores >= threshold)
    classes = scores.shape[1]
    cells = np.bincount(classes * labels + decide(scores, None), minlength=classes**2)
    return ConfusionMatrix(tuple(map(tuple, cells.reshape(classes, classes).tolist())))


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

    Of more than two classes it is the mean over the classes of each against the rest.

    Raises:
        ValueError: A class is missing, or a score is NaN.
    """
    if np.ndim(scores) == 2:
        return float(class_aucs(labels, scores).mean())
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
    if np.ndim(scores) == 2:
        fewest = min(int(np.sum(labels == label)) for label in range(np.shape(scores)[1]))
        if fewest < 2:
            raise ValueError("an interval of the AUC takes at least two images of each class")
        macro = macro_auc(labels, class_placements(labels, scores))
        half = _Z95 * macro.error
        return open_share(Interval(macro.value, max(0.0, macro.value - half), min(1.0, macro.value + half)), fewest)
    above_negatives, above_positives = placements(labels, scores)
    if min(len(above_negatives), len(above_positives)) < 2:
        raise ValueError("an interval of the AUC takes at least two images of each class")
    value = float(above_negatives.mean())
    spread = _Z95 * delong_error((above_negatives, above_positives))
    found = Interval(value, max(0.0, value - spread), min(1.0, value + spread))
    return open_share(found, min(len(above_negatives), len(above_positives)))


def grouped_auc(labels: Labels, scores: Scores, groups: npt.NDArray[np.intp], confidence: float = 0.95) -> Interval:
    """AUC with an interval that takes the images of a patient as one unit, cut to 0 to 1.

    That is Obuchowski's (Biometrics 53, 1997): each patient's variance is that of the sum over the images of how much
    each moves the AUC. It is opened as that of :func:`auc_interval`.

    Args:
        labels: Shape (images,), 0 or 1.
        scores: Shape (images,).
        groups: The number of the patient of each image, from 0, shape (images,).
        confidence: That of the interval.

    Raises:
        ValueError: A class is missing, or a score is NaN.
    """
    above_negatives, above_positives = placements(labels, scores)
    value = float(above_negatives.mean())
    moved = np.empty(len(labels))
    moved[labels == 1] = (above_negatives - value) / len(above_negatives)
    moved[labels == 0] = (above_positives - value) / len(above_positives)
    people = np.bincount(groups, weights=moved)
    variance = float((people**2).sum()) * len(people) / max(1, len(people) - 1)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance)
    fewest = min(len(np.unique(groups[labels == label])) for label in (0, 1))
    return open_share(Interval(value, max(0.0, value - half), min(1.0, value + half)), fewest)


def class_aucs(labels: Labels, scores: Scores) -> Scores:
    """The AUC of each class against the rest, shape (classes,).

    Raises:
        ValueError: A class is missing, or a score is NaN.
    """
    placed = class_placements(labels, scores)
    return np.array([placed[labels == place, place].mean() for place in range(placed.shape[1])])


def class_placements(labels: Labels, scores: Scores) -> Scores:
    """The structural components (:func:`placements`) of each class against the rest, shape (images, classes).

    Raises:
        ValueError: A class is missing, or a score is NaN.
    """
    placed = np.empty(np.shape(scores))
    for place in range(placed.shape[1]):
        positive = labels == place
        placed[positive, place], placed[~positive, place] = placements(positive.astype(np.int64), scores[:, place])
    return placed


@dataclass(frozen=True)
class MacroAuc:
    """A macro AUC, or a weighted sum of several, and by how much each image moves it.

    ``parts`` have shape (images,) and sum to 0; ``error`` is the standard error with images as independent. That of two
    classes is DeLong's.
    """

    value: float
    parts: Scores
    error: float


def macro_auc(labels: Labels, placed: Scores) -> MacroAuc:
    """The macro AUC of structural components of each class against the rest, or of their weighted sum over models.

    Args:
        labels: Shape (images,).
        placed: From :func:`class_placements`, shape (images, classes).
    """
    classes = placed.shape[1]
    of_label = [labels == label for label in range(classes)]
    areas = np.array([placed[chosen, place].mean() for place, chosen in enumerate(of_label)])
    parts = np.zeros(len(labels))
    for place, positive in enumerate(of_label):
        images = np.where(positive, positive.sum(), (~positive).sum())
        parts += (placed[:, place] - areas[place]) / (classes * images)
    variance = sum(chosen.sum() * parts[chosen].var(ddof=1) for chosen in of_label if chosen.sum() > 1)
    return MacroAuc(float(areas.mean()), parts, math.sqrt(float(variance)))


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
    if len(positives) + len(negatives) != len(scores):
        raise ValueError("a label is neither 0 nor 1")
    if not len(positives) or not len(negatives):
        raise ValueError("the ROC curve takes images of both classes")
    return positives, negatives
