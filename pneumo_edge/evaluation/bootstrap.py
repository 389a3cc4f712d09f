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
from pneumo_edge.evaluation.metrics import Labels, Scores, class_placements, decide, placements
from pneumo_edge.evaluation.reliability import brier_scores, calibration_errors
from pneumo_edge.evaluation.tally import Counts, Tally, tally

REPLICATES = 2000
#: Replicates that are in memory at once.
_BLOCK = 250


@dataclass(frozen=True)
class Predictions:
    """A model's probabilities of class 1 for some images, shape (images,), and its decision threshold.

    With more than two classes: the probability of every class, shape (images, classes), and no threshold.
    """

    scores: Scores
    threshold: float | None

    def __post_init__(self) -> None:
        if (self.threshold is None) != (np.ndim(self.scores) == 2):
            raise ValueError(f"the threshold {self.threshold} is not for scores of shape {np.shape(self.scores)}")


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


def _area(counted: Tally) -> Scores:
    """The AUC of each weighting."""
    positives, negatives = counted.positives, counted.negatives
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
    "auc": lambda o: _area(o.counted),
    "brier": lambda o: brier_scores(o.counted),
    "ece": lambda o: calibration_errors(o.counted),
}


class ClassCounts:
    """Counts of decisions for more than two classes, for many weightings of the same images.

    Args:
        labels: The place of each image's class, shape (images,).
        scores: The probability of every class, shape (images, classes).
        weights: How often each image counts, shape (weightings, images); by default once.

    Raises:
        ValueError: As :func:`~pneumo_edge.evaluation.tally.tally`, or a label is not the place of a class.
    """

    def __init__(self, labels: Labels, scores: Scores, weights: Counts | None = None) -> None:
        labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
        self.classes = scores.shape[1]
        if not np.isin(labels, np.arange(self.classes)).all():
            raise ValueError(f"a label is not the place of a class, 0 to {self.classes - 1}")
        self.labels, self.scores = labels, scores
        self.weights = np.ones((1, len(labels)), dtype=np.int64) if weights is None else weights
        self.tallies = [
            tally((labels == place).astype(np.int64), scores[:, place], self.weights) for place in range(self.classes)
        ]
        cells = self.classes * labels + decide(scores, None)
        order = np.argsort(cells, kind="stable")
        found, starts = np.unique(cells[order], return_index=True)
        matrix = np.zeros((len(self.weights), self.classes**2), dtype=np.int64)
        matrix[:, found] = np.add.reduceat(self.weights[:, order], starts, axis=1)
        #: Shape (weightings, labels, decisions).
        self.matrix = matrix.reshape(-1, self.classes, self.classes)
        #: Each of shape (weightings, classes).
        self.right = np.diagonal(self.matrix, axis1=1, axis2=2)
        self.labelled, self.called = self.matrix.sum(axis=2), self.matrix.sum(axis=1)

    @property
    def images(self) -> Counts:
        """Images in all, shape (weightings,)."""
        return np.asarray(self.matrix.sum(axis=(1, 2)))

    @property
    def aucs(self) -> Scores:
        """The AUC of each class against the rest, shape (weightings, classes)."""
        return np.stack([_area(counted) for counted in self.tallies], axis=1)

    @property
    def brier(self) -> Scores:
        """Half of the mean squared distance of probabilities and label, 0 to 1, shape (weightings,)."""
        squares = ((self.scores - np.eye(self.classes)[self.labels]) ** 2).sum(axis=1) / 2
        return np.asarray(self.weights @ squares / self.images)


def _macro(part: Counts, whole: Counts) -> Scores:
    """The mean over the classes of a share, which is 0 where there is nothing to be a part of."""
    return np.asarray(np.divide(part, whole, out=np.zeros(whole.shape), where=whole > 0).mean(axis=1))


#: The same for more than two classes; averages over classes are macro averages, each against the rest. The precision
#: of a class that no image is called is 0.
CLASS_STATISTICS: dict[str, Callable[[ClassCounts], Scores]] = {
    "accuracy": lambda o: _share(o.right.sum(axis=1), o.images - o.right.sum(axis=1)),
    "balanced_accuracy": lambda o: _macro(o.right, o.labelled),
    "specificity": lambda o: _macro(
        o.images[:, np.newaxis] - o.labelled - o.called + o.right, o.images[:, np.newaxis] - o.labelled
    ),
    "precision": lambda o: _macro(o.right, o.called),
    "f1": lambda o: _macro(2 * o.right, o.labelled + o.called),
    "auc": lambda o: np.asarray(o.aucs.mean(axis=1)),
    "least_auc": lambda o: np.asarray(o.aucs.min(axis=1)),
    "brier": lambda o: o.brier,
}


def bootstrap(
    labels: Labels,
    predictions: Predictions,
    patients: Sequence[str],
    *,
    statistics: Iterable[str] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Statistics of one model, each with its 95 % percentile interval.

    A replicate in which a statistic is not defined does not count for it; where none is left, value and
    interval are NaN. The calibration error of a replicate has the noise of its bins twice, so its interval
    lies too high: the better calibrated the model, the more.

    Args:
        labels: 0 or 1, shape (images,); or the place of the class.
        predictions: The model's probabilities and threshold.
        patients: Whose image each is.
        statistics: Names out of :data:`STATISTICS`, without a threshold out of :data:`CLASS_STATISTICS`; by default
            all.
        replicates: How often the patients are drawn.
        seed: Chooses the draws; they do not depend on the order of the images.

    Raises:
        ValueError: The shapes do not fit, a class is missing, or a label, score or argument is out of range.
    """
    once, drawn = _evaluate(labels, (predictions,), patients, statistics, replicates, seed)
    units = _Units(labels, patients, predictions)
    return {name: open_share(_interval(once[0][name], drawn[0][name]), units.of(name)) for name in once[0]}


def bootstrap_difference(
    labels: Labels,
    first: Predictions,
    second: Predictions,
    patients: Sequence[str],
    *,
    statistics: Iterable[str] | None = None,
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
            differ on other patients; a conversion is compared with its network image by image, and need not be.
    """
    once, drawn = _evaluate(labels, (first, second), patients, statistics, replicates, seed)
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
        self._called = [decide(np.asarray(each.scores), each.threshold) for each in predictions]
        self._classes = _classes(predictions[0])

    def of(self, name: str) -> int:
        """Independent patients, or pairs of them, behind a statistic of one model."""
        of_classes = set(CLASS_STATISTICS) - {"accuracy", "brier"} if self._classes else {"auc", "balanced_accuracy"}
        if name in of_classes:
            return min(self._count(self._labels == label) for label in range(self._classes or 2))
        return self.behind(name)

    def behind(self, name: str) -> int:
        """Patients whose images a statistic looks at."""
        return min(self._count(self._behind(name, called)) for called in self._called)

    def differing(self, name: str) -> int:
        """Patients with an image whose contribution to the statistic differs between the two models."""
        if name in ("auc", "least_auc"):
            one, other = (self._placements(each) for each in self._judged)
            return self._count(_any_class(one != other))
        if name in ("brier", "ece"):
            one, other = (np.asarray(each.scores) for each in self._judged)
            return self._count(_any_class(one != other))
        first, second = self._called
        return self._count((first != second) & (self._behind(name, first) | self._behind(name, second)))

    def _behind(self, name: str, called: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """The images that a statistic of decisions looks at."""
        is_called = called == 1
        looked_at = {
            "sensitivity": self._positive,
            "specificity": ~self._positive,
            "ppv": is_called,
            "npv": ~is_called,
            "f1": is_called | self._positive,
        }
        if self._classes:
            looked_at = {}
        return looked_at[name] if name in looked_at else np.ones(len(called), dtype=np.bool_)

    def _placements(self, predictions: Predictions) -> Scores:
        """DeLong's structural component of each image, for each class where there are several."""
        if self._classes:
            return class_placements(self._labels, np.asarray(predictions.scores))
        found = np.empty(len(self._positive))
        found[self._positive], found[~self._positive] = placements(self._labels, predictions.scores)
        return found

    def _count(self, chosen: npt.NDArray[np.bool_]) -> int:
        return len(np.unique(self._patient_of[chosen]))


def _evaluate(
    labels: Labels,
    models: Sequence[Predictions],
    patients: Sequence[str],
    names: Iterable[str] | None,
    replicates: int,
    seed: int,
) -> tuple[list[dict[str, Scores]], list[dict[str, Scores]]]:
    """Every statistic of every model, on all images once and on the drawn ones."""
    known = tuple(CLASS_STATISTICS if _classes(models[0]) else STATISTICS)
    statistics = known if names is None else tuple(names)
    if unknown := [name for name in statistics if name not in known]:
        raise ValueError(f"{unknown} are not among {list(known)}")
    _check(labels, models, patients, replicates)
    once = [_statistics(labels, model, None, statistics) for model in models]
    blocks: list[list[dict[str, Scores]]] = [
        [_statistics(labels, model, weights, statistics) for model in models]
        for weights in draw_patients(labels, patients, replicates, seed)
    ]
    drawn = [
        {name: np.concatenate([block[index][name] for block in blocks]) for name in statistics}
        for index in range(len(models))
    ]
    return once, drawn


def _check(labels: Labels, models: Sequence[Predictions], patients: Sequence[str], replicates: int) -> None:
    classes = _classes(models[0])
    if len(np.unique(labels)) < (classes or 2):
        raise ValueError(f"the bootstrap takes images of {'every class' if classes else 'both classes'}")
    if len(patients) != len(labels):
        raise ValueError(f"there are {len(patients)} patients for {len(labels)} images")
    if replicates < 1:
        raise ValueError(f"replicates is {replicates}, not at least 1")
    if any(model.threshold is not None and np.isnan(model.threshold) for model in models):
        raise ValueError("a threshold is NaN")


def _classes(predictions: Predictions) -> int:
    """How many classes have scores; 0 where class 1 alone has."""
    return np.shape(predictions.scores)[1] if predictions.threshold is None else 0


def _any_class(different: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which images are, in any class where there are several."""
    return different if different.ndim == 1 else np.asarray(different.any(axis=1))


def _statistics(
    labels: Labels, model: Predictions, weights: Counts | None, names: tuple[str, ...]
) -> dict[str, Scores]:
    if model.threshold is None:
        counts = ClassCounts(labels, model.scores, weights)
        return {name: CLASS_STATISTICS[name](counts) for name in names}
    outcome = DecisionCounts(tally(labels, model.scores, weights), model.threshold)
    return {name: STATISTICS[name](outcome) for name in names}


def draw_patients(labels: Labels, patients: Sequence[str], replicates: int, seed: int) -> Iterator[Counts]:
    """Draw patients: how often each image counts, shape (replicates, images), in blocks of replicates."""
    names, patient_of = np.unique(np.asarray(patients, dtype=np.str_), return_inverse=True)
    classes = range(max(2, int(np.max(labels)) + 1))
    has_class = np.stack([np.bincount(patient_of, labels == label, len(names)) > 0 for label in classes], axis=1)
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
