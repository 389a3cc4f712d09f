"""Intervals by resampling patients, for any statistic of one model and for its difference between two.

Images of one patient resemble each other, so an interval that takes them as independent is too narrow. Here whole
patients are drawn with replacement, and all their images come along (the cluster bootstrap: Field and Welsh, JRSS B
2007; percentile intervals: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). Patients with
images of one class, of the other, and of both are drawn apart, so that no replicate lacks a class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pneumo_edge.evaluation.calibration import brier_scores, calibration_errors
from pneumo_edge.evaluation.metrics import Interval, Labels, Scores
from pneumo_edge.evaluation.tally import Counts, Tally, tally

REPLICATES = 2000
#: Replicates that are in memory at once.
_BLOCK = 250


@dataclass(frozen=True)
class Judged:
    """What a model said of some images: probabilities of class 1, shape (images,), and its decision threshold."""

    scores: Scores
    threshold: float


class Outcome:
    """Counts of decisions against labels, each of shape (weightings,).

    Args:
        counted: The images by class and score.
        threshold: An image is called positive where its score is at least this.
    """

    def __init__(self, counted: Tally, threshold: float) -> None:
        self.counted = counted
        called = counted.scores >= threshold
        self.true_positives, self.false_positives = (
            part[:, called].sum(axis=1) for part in (counted.positives, counted.negatives)
        )
        self.false_negatives, self.true_negatives = (
            part[:, ~called].sum(axis=1) for part in (counted.positives, counted.negatives)
        )

    @property
    def sensitivity(self) -> Scores:
        """Share of positive images that are called positive."""
        return _share(self.true_positives, self.false_negatives)

    @property
    def specificity(self) -> Scores:
        """Share of negative images that are called negative."""
        return _share(self.true_negatives, self.false_positives)


def _share(part: Counts, rest: Counts) -> Scores:
    """``part`` of both together; NaN where both are 0."""
    whole = part + rest
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _auc(outcome: Outcome) -> Scores:
    positives, negatives = outcome.counted.positives, outcome.counted.negatives
    # Twice, so that ties are counted in whole numbers.
    twice_below = 2 * negatives.cumsum(axis=1) - negatives
    won = (positives * twice_below).sum(axis=1)
    return np.asarray(won / (2 * positives.sum(axis=1) * negatives.sum(axis=1)))


#: Each takes the decisions of all replicates at once. PPV and NPV are NaN where nothing is called so.
STATISTICS: dict[str, Callable[[Outcome], Scores]] = {
    "accuracy": lambda o: _share(o.true_positives + o.true_negatives, o.false_positives + o.false_negatives),
    "balanced_accuracy": lambda o: (o.sensitivity + o.specificity) / 2,
    "sensitivity": lambda o: o.sensitivity,
    "specificity": lambda o: o.specificity,
    "ppv": lambda o: _share(o.true_positives, o.false_positives),
    "npv": lambda o: _share(o.true_negatives, o.false_negatives),
    "f1": lambda o: _share(2 * o.true_positives, o.false_positives + o.false_negatives),
    "auc": _auc,
    "brier": lambda o: brier_scores(o.counted),
    "ece": lambda o: calibration_errors(o.counted),
}


def bootstrap(
    labels: Labels,
    judged: Judged,
    patients: Sequence[str],
    *,
    statistics: Iterable[str] = tuple(STATISTICS),
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Statistics of one model, each with its 95 % percentile interval.

    A replicate in which a statistic is not defined does not count for it; where none is left, value and
    interval are NaN. The calibration error of a replicate has the noise of its bins twice, so its interval
    lies too high: the better calibrated the model, the more.

    Args:
        labels: 0 or 1, shape (images,).
        judged: The model's probabilities and threshold.
        patients: Whose image each is.
        statistics: Names out of :data:`STATISTICS`.
        replicates: How often the patients are drawn.
        seed: Chooses the draws; they do not depend on the order of the images.

    Raises:
        ValueError: The shapes do not fit, a class is missing, or a label, score or argument is out of range.
    """
    once, drawn = _evaluate(labels, (judged,), patients, tuple(statistics), replicates, seed)
    return {name: _interval(once[0][name], drawn[0][name]) for name in once[0]}


def bootstrap_difference(
    labels: Labels,
    first: Judged,
    second: Judged,
    patients: Sequence[str],
    *,
    statistics: Iterable[str] = tuple(STATISTICS),
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Statistics of the first model less those of the second, on the same images of the same drawn patients.

    Arguments, undefined replicates and errors are those of :func:`bootstrap`.
    """
    once, drawn = _evaluate(labels, (first, second), patients, tuple(statistics), replicates, seed)
    return {name: _interval(once[0][name] - once[1][name], drawn[0][name] - drawn[1][name]) for name in once[0]}


def _evaluate(
    labels: Labels,
    models: Sequence[Judged],
    patients: Sequence[str],
    statistics: tuple[str, ...],
    replicates: int,
    seed: int,
) -> tuple[list[dict[str, Scores]], list[dict[str, Scores]]]:
    """Every statistic of every model, on all images once and on the drawn ones."""
    _check(labels, models, patients, statistics, replicates)
    once = [_statistics(tally(labels, model.scores), model.threshold, statistics) for model in models]
    blocks: list[list[dict[str, Scores]]] = [
        [_statistics(tally(labels, model.scores, weights), model.threshold, statistics) for model in models]
        for weights in _draw(labels, patients, replicates, seed)
    ]
    drawn = [
        {name: np.concatenate([block[index][name] for block in blocks]) for name in statistics}
        for index in range(len(models))
    ]
    return once, drawn


def _check(
    labels: Labels, models: Sequence[Judged], patients: Sequence[str], statistics: tuple[str, ...], replicates: int
) -> None:
    if len(np.unique(labels)) < 2:
        raise ValueError("the bootstrap takes images of both classes")
    if len(patients) != len(labels):
        raise ValueError(f"there are {len(patients)} patients for {len(labels)} images")
    if replicates < 1:
        raise ValueError(f"replicates is {replicates}, not at least 1")
    if unknown := [name for name in statistics if name not in STATISTICS]:
        raise ValueError(f"{unknown} are not among {list(STATISTICS)}")
    if any(np.isnan(model.threshold) for model in models):
        raise ValueError("a threshold is NaN")


def _statistics(counted: Tally, threshold: float, names: tuple[str, ...]) -> dict[str, Scores]:
    outcome = Outcome(counted, threshold)
    return {name: STATISTICS[name](outcome) for name in names}


def _draw(labels: Labels, patients: Sequence[str], replicates: int, seed: int) -> Iterator[Counts]:
    """How often each image counts, shape (replicates, images), in blocks of replicates."""
    names, patient_of = np.unique(np.asarray(patients, dtype=np.str_), return_inverse=True)
    has_class = np.stack([np.bincount(patient_of, labels == label, len(names)) > 0 for label in (0, 1)], axis=1)
    strata: dict[tuple[bool, ...], list[int]] = {}
    for patient, classes in enumerate(has_class.tolist()):
        strata.setdefault(tuple(classes), []).append(patient)
    generator = np.random.default_rng(seed)
    for start in range(0, replicates, _BLOCK):
        rows = min(_BLOCK, replicates - start)
        times = np.empty((rows, len(names)), dtype=np.int64)
        for members in strata.values():
            size = len(members)
            drawn = generator.integers(size, size=(rows, size)) + size * np.arange(rows)[:, np.newaxis]
            times[:, members] = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
        yield times[:, patient_of]


def _interval(value: Scores, drawn: Scores) -> Interval:
    defined = drawn[~np.isnan(drawn)]
    low, high = np.quantile(defined, (0.025, 0.975)) if len(defined) else (np.nan, np.nan)
    return Interval(float(value[0]), float(low), float(high))
