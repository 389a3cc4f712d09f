"""Intervals by resampling patients, for any statistic of one model and for its difference between two.

Images of one patient resemble each other, so an interval that takes them as independent is too narrow. Here whole
patients are drawn with replacement, and all their images come along (the cluster bootstrap: Field and Welsh, JRSS B
2007; percentile intervals: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). Patients with
images of one class, of the other, and of both are drawn apart, so that no replicate lacks a class.

Drawing again shows nothing that the images did not: a model without an error would have an interval without width. So
the ends are opened by what as many patients leave open (:mod:`pneumo_edge.evaluation.intervals`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pneumo_edge.evaluation.intervals import Interval, open_difference, open_share
from pneumo_edge.evaluation.metrics import Labels, Scores, placements
from pneumo_edge.evaluation.reliability import brier_scores, calibration_errors
from pneumo_edge.evaluation.tally import Counts, Tally, tally

REPLICATES = 2000
#: Replicates that are in memory at once.
_BLOCK = 250


@dataclass(frozen=True)
class Predictions:
    """What a model said of some images: probabilities of class 1, shape (images,), and its decision threshold."""

    scores: Scores
    threshold: float


class DecisionCounts:
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


def _auc(outcome: DecisionCounts) -> Scores:
    positives, negatives = outcome.counted.positives, outcome.counted.negatives
    # Twice, so that ties are counted in whole numbers.
    twice_below = 2 * negatives.cumsum(axis=1) - negatives
    won = (positives * twice_below).sum(axis=1)
    return np.asarray(won / (2 * positives.sum(axis=1) * negatives.sum(axis=1)))


#: Each takes the decisions of all replicates at once. PPV and NPV are NaN where nothing is called so.
STATISTICS: dict[str, Callable[[DecisionCounts], Scores]] = {
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
    predictions: Predictions,
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
        predictions: The model's probabilities and threshold.
        patients: Whose image each is.
        statistics: Names out of :data:`STATISTICS`.
        replicates: How often the patients are drawn.
        seed: Chooses the draws; they do not depend on the order of the images.

    Raises:
        ValueError: The shapes do not fit, a class is missing, or a label, score or argument is out of range.
    """
    once, drawn = _evaluate(labels, (predictions,), patients, tuple(statistics), replicates, seed)
    units = _Units(labels, patients, predictions)
    return {name: open_share(_interval(once[0][name], drawn[0][name]), units.of(name)) for name in once[0]}


def bootstrap_difference(
    labels: Labels,
    first: Predictions,
    second: Predictions,
    patients: Sequence[str],
    *,
    statistics: Iterable[str] = tuple(STATISTICS),
    replicates: int = REPLICATES,
    seed: int = 0,
    open_ends: bool = True,
) -> dict[str, Interval]:
    """Statistics of the first model less those of the second, on the same images of the same drawn patients.

    Other arguments, undefined replicates and errors are those of :func:`bootstrap`.

    Args:
        labels: As there.
        first: The first model.
        second: The second model.
        patients: As there.
        statistics: As there.
        replicates: As there.
        seed: As there.
        open_ends: Whether the interval is opened where too few patients differ. Two models that were trained may
            differ on other patients; a conversion is held to its network image by image, and need not be.
    """
    once, drawn = _evaluate(labels, (first, second), patients, tuple(statistics), replicates, seed)
    found = {name: _interval(once[0][name] - once[1][name], drawn[0][name] - drawn[1][name]) for name in once[0]}
    if not open_ends:
        return found
    units = _Units(labels, patients, first, second)
    return {name: open_difference(found[name], units.differing(name), units.behind(name)) for name in found}


class _Units:
    """How many patients stand behind a statistic, and in how many of them two models differ."""

    def __init__(self, labels: Labels, patients: Sequence[str], *predictions: Predictions) -> None:
        self._positive = np.asarray(labels) == 1
        self._patient_of = np.unique(np.asarray(patients, dtype=np.str_), return_inverse=True)[1]
        self._labels = np.asarray(labels)
        self._judged = predictions
        self._called = [np.asarray(each.scores) >= each.threshold for each in predictions]

    def of(self, name: str) -> int:
        """Independent patients, or pairs of them, behind a statistic of one model."""
        if name in ("auc", "balanced_accuracy"):
            return min(self._count(self._positive), self._count(~self._positive))
        return self.behind(name)

    def behind(self, name: str) -> int:
        """Patients whose images a statistic looks at."""
        return min(self._count(self._behind(name, called)) for called in self._called)

    def differing(self, name: str) -> int:
        """Patients with an image that the two models do not judge alike, so far as the statistic sees it."""
        if name == "auc":
            one, other = (self._placements(each) for each in self._judged)
            return self._count(one != other)
        if name in ("brier", "ece"):
            one, other = (np.asarray(each.scores) for each in self._judged)
            return self._count(one != other)
        first, second = self._called
        return self._count((first != second) & (self._behind(name, first) | self._behind(name, second)))

    def _behind(self, name: str, called: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """The images that a statistic of decisions looks at."""
        looked_at = {
            "sensitivity": self._positive,
            "specificity": ~self._positive,
            "ppv": called,
            "npv": ~called,
            "f1": called | self._positive,
        }
        return looked_at[name] if name in looked_at else np.ones(len(called), dtype=np.bool_)

    def _placements(self, predictions: Predictions) -> Scores:
        """DeLong's structural component of each image."""
        found = np.empty(len(self._positive))
        found[self._positive], found[~self._positive] = placements(self._labels, predictions.scores)
        return found

    def _count(self, chosen: npt.NDArray[np.bool_]) -> int:
        return len(np.unique(self._patient_of[chosen]))


def _evaluate(
    labels: Labels,
    models: Sequence[Predictions],
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
    labels: Labels, models: Sequence[Predictions], patients: Sequence[str], statistics: tuple[str, ...], replicates: int
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
    outcome = DecisionCounts(counted, threshold)
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
