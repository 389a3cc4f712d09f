"""When not to answer: split-conformal prediction sets, for each class apart, calibrated by patient.

A prediction set names the classes that an image may well be of. For each class it is calibrated on validation images of
that class alone (Mondrian; Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005). So it contains
the true class for a stated share of the images of *each* class, independent of how common that class is: pneumonia is
more common in one place than in another.

Images of one patient resemble each other, so it is patients that are exchangeable, not images. Each patient weighs the
same, shared out among the patient's images, and the patient to come weighs as much as one of them and counts as the
worst (Lee, Barber and Willett, Distribution-free inference with hierarchical data, 2023; Dunn, Wasserman and Ramdas,
JASA 2023). With one image a patient that is the usual split-conformal quantile. The share is kept for an image of a new
patient from where the validation patients come from; of other places nothing is promised.

Two classes get wider sets than that where it helps to flag errors. Images that are changed to look as if they came from
other machines count as groups of their own, each with its own coverage. And an answer near the decision threshold is
never certain: errors are most frequent there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pneumo_edge.evaluation.metrics import Interval, Labels, Scores, decide, wilson
from pneumo_edge.evaluation.operating_point import logits

#: Share of each class's images whose prediction set has the true class. With as many as 19 patients of a class the
#: quantile is not yet the worst of them; more would hang on single ones.
COVERAGE = 0.95
#: The same for images of each kind of counterfactual validation.
COUNTERFACTUAL_COVERAGE = 0.9
#: Share of the calibration images that are uncertain because their logits are the nearest to the threshold.
NEAREST = 0.08
_ROUNDING = 1e-12


@dataclass(frozen=True)
class ConformalBounds:
    """Which probabilities of the positive class keep a class in the prediction set.

    The positive class is in it where the probability is at least ``least_positive``, the negative class where it is at
    most ``most_negative``; so it may hold one class, both or none.
    """

    least_positive: float
    most_negative: float


def reachable(coverage: float, patients: int) -> float:
    """The coverage, or the most that so many calibration patients can promise where that is less.

    The patient to come is the strangest of them and itself with a probability of 1 / (patients + 1).
    """
    return min(coverage, patients / (patients + 1))


def conformal_bounds(labels: Labels, scores: Scores, patients: Sequence[object], coverage: float) -> ConformalBounds:
    """Calibrate the prediction set on images that the model was not fitted to.

    Args:
        labels: 0 or 1, shape (images,).
        scores: Probabilities of class 1, shape (images,).
        patients: Whose each image is; any values that can be compared, in a sequence of length images.
        coverage: Share of each class's images whose set shall have the true class, above 0 and below 1.

    Returns:
        The tightest bounds; where a class has too few patients for that coverage, ones that always keep it.

    Raises:
        ValueError: The lengths differ, or ``coverage`` is out of range.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage}, not between 0 and 1")
    if not len(labels) == len(scores) == len(patients):
        raise ValueError(
            f"{len(labels)} labels, {len(scores)} scores and {len(patients)} patients do not belong together"
        )
    labels, scores, whose = np.asarray(labels), np.asarray(scores, dtype=np.float64), np.asarray(patients)
    positive, negative = labels == 1, labels == 0
    return ConformalBounds(
        least_positive=max(0.0, -conformal_quantile(-scores[positive], whose[positive], coverage)),
        most_negative=min(1.0, conformal_quantile(scores[negative], whose[negative], coverage)),
    )


def class_bounds(
    labels: Labels, probabilities: Scores, patients: Sequence[object], coverage: float
) -> tuple[float, ...]:
    """Calibrate the prediction set of any number of classes: which probability of a class keeps it in the set.

    Args:
        labels: The place of each image's class, shape (images,); every class has images.
        probabilities: Of every class, shape (images, classes).
        patients: As of :func:`conformal_bounds`.
        coverage: As there.

    Returns:
        For each class the least probability at which it is in the set; 0, at which it always is, where it has too few
        patients for that coverage.

    Raises:
        ValueError: As :func:`conformal_bounds`.
    """
    bounds = (
        conformal_bounds((labels == place).astype(np.int64), probabilities[:, place], patients, coverage)
        for place in range(probabilities.shape[1])
    )
    return tuple(each.least_positive for each in bounds)


def widen(
    bounds: ConformalBounds,
    labels: Labels,
    scores: Scores,
    changed: Mapping[str, Scores],
    patients: Sequence[object],
    threshold: float,
) -> ConformalBounds:
    """Widen prediction sets: for changed images, and for probabilities near the threshold.

    A class stays in the set for at least :data:`COUNTERFACTUAL_COVERAGE` of its images of each kind of change. Both
    classes are in it for probabilities around the threshold: as far from it on either side, in logits, as the nearest
    :data:`NEAREST` of all images, changed and unchanged.

    Args:
        bounds: From :func:`conformal_bounds`, on the unchanged images.
        labels: 0 or 1, shape (images,).
        scores: Probabilities of class 1, shape (images,).
        changed: Those of the same images after a change, by its kind; may be empty.
        patients: As of :func:`conformal_bounds`.
        threshold: The decision threshold.

    Returns:
        Bounds of sets that contain those of ``bounds``.
    """
    labels = np.asarray(labels)
    whose = np.asarray(patients)
    fewest = min(len(np.unique(whose[labels == place])) for place in (0, 1))
    coverage = reachable(COUNTERFACTUAL_COVERAGE, fewest)
    groups = [bounds, *(conformal_bounds(labels, each, patients, coverage) for each in changed.values())]
    width = _nearest(logits(np.concatenate([scores, *changed.values()])) - logits(threshold))
    low, high = (float(1 / (1 + np.exp(-(logits(threshold) + side)))) for side in (-width, width))
    # Where no image is near, rounding must not move the threshold into the set of both.
    near = ConformalBounds(low, high) if width else ConformalBounds(1.0, 0.0)
    return ConformalBounds(
        least_positive=min(each.least_positive for each in (*groups, near)),
        most_negative=max(each.most_negative for each in (*groups, near)),
    )


def _nearest(differences: Scores) -> float:
    """The largest distance that at most :data:`NEAREST` of all images do not exceed; 0 where that is none."""
    values, counts = np.unique(np.abs(differences), return_counts=True)
    within = np.cumsum(counts) <= NEAREST * len(differences) + _ROUNDING
    return float(values[within][-1]) if within.any() else 0.0


def carry_over(scores: Scores, reference: Scores, changed: Scores) -> Scores:
    """Estimate a file's probabilities of changed images from those of the network that it was made from.

    The change moves the logit of an image as far as it moves the network's. So a file needs no second pass over
    validation, and its own rounding, which its probabilities of the unchanged images show, is kept.

    Args:
        scores: The file's probabilities of the unchanged images, shape (images,).
        reference: The network's of the same, likewise.
        changed: The network's of the changed images, likewise.
    """
    return np.asarray(1 / (1 + np.exp(-(logits(scores) + logits(changed) - logits(reference)))))


def conformal_quantile(strangeness: Scores, patients: npt.NDArray[np.generic], coverage: float) -> float:
    """What the strangeness of a new patient's image does not exceed with a probability of at least ``coverage``.

    Args:
        strangeness: Of each calibration image, the larger the stranger, shape (images,).
        patients: Whose each image is, shape (images,).
        coverage: Between 0 and 1.

    Returns:
        One of the values, or infinity where there are too few patients.
    """
    _, of_image, images = np.unique(patients, return_inverse=True, return_counts=True)
    weights = 1 / (images[of_image] * (len(images) + 1))
    order = np.argsort(strangeness, kind="stable")
    enough = np.cumsum(weights[order]) >= coverage - _ROUNDING
    return float(strangeness[order][np.argmax(enough)]) if enough.any() else np.inf


@dataclass(frozen=True)
class Answered:
    """Coverage and accuracy of prediction sets on labelled images.

    ``coverage`` is the share of images whose set has the true class, and ``by_class`` that of each class, in the order
    of labels. An image is answered where its set is the decided class alone; ``share`` is that of the answered images,
    ``accuracy`` theirs, and ``accuracy_of_all`` that of every image; ``errors_flagged`` is the share of wrong decisions
    that are not answered. Each has its Wilson interval.
    """

    coverage: Interval
    by_class: tuple[Interval, ...]
    share: Interval
    accuracy: Interval
    accuracy_of_all: Interval
    errors_flagged: Interval


def evaluate_sets(labels: Labels, scores: Scores, threshold: float, bounds: ConformalBounds) -> Answered:
    """Compare prediction sets of two classes with labels.

    Args:
        labels: 0 or 1, shape (images,).
        scores: Probabilities of class 1, shape (images,).
        threshold: An image is called positive where its score is at least this.
        bounds: From :func:`conformal_bounds`, on other images.
    """
    scores = np.asarray(scores, dtype=np.float64)
    kept = np.stack([scores <= bounds.most_negative, scores >= bounds.least_positive], axis=1)
    return _answered(labels, kept, decide(scores, threshold))


def evaluate_class_sets(labels: Labels, probabilities: Scores, least: Sequence[float]) -> Answered:
    """Compare prediction sets of any number of classes with labels, where the most probable class is the answer.

    Args:
        labels: The place of each image's class, shape (images,).
        probabilities: Of every class, shape (images, classes).
        least: From :func:`class_bounds`, on other images.
    """
    return _answered(labels, np.asarray(probabilities) >= np.asarray(least), decide(probabilities, None))


def _answered(labels: Labels, kept: npt.NDArray[np.bool_], decided: Labels) -> Answered:
    """Compare sets, which classes are kept for each image, shape (images, classes), with labels."""
    labels, images = np.asarray(labels), np.arange(len(labels))
    covered, right = kept[images, labels], decided == labels
    answered = kept[images, decided] & (kept.sum(axis=1) == 1)

    def share(what: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_] | slice = slice(None)) -> Interval:
        return wilson(int(what[among].sum()), len(what[among]))

    return Answered(
        coverage=share(covered),
        by_class=tuple(share(covered, labels == place) for place in range(kept.shape[1])),
        share=share(answered),
        accuracy=share(right, answered),
        accuracy_of_all=share(right),
        errors_flagged=share(~answered, ~right),
    )
