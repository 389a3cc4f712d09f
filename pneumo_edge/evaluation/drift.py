"""Whether answers on other images are distributed as on the validation images.

Two numbers describe how far two distributions are apart, here of the input check's distance and of probabilities:

- the population stability index, the sum over ten intervals of (p - q) ln(p / q), where p and q are shares of images.
  Its size is read as: below 0.1 little, above 0.25 much;
- the Kolmogorov-Smirnov statistic, the largest difference of the two cumulative shares, 0 to 1.

Both are above 0 by chance, the more the fewer images there are. A file carries the distribution on its validation
images as a histogram (:class:`pneumo_edge.spec.ValidationDistributionSpec`), so counts of other images can be added up
part by part, and memory does not grow with their number.

**The rule**: there is drift where the p-value of the Kolmogorov-Smirnov test, corrected for the number of comparisons
(Holm), is at most 0.05. The null hypothesis: images like the validation images, of other patients, and as many of each
patient as in validation. Of all comparisons together, one is then wrong in at most 5 % of cases. The index has no part
in the rule: it says how large a drift is.

Images of one patient resemble each other, and so tell less than as many patients. The test takes the worst case, that
the images of a patient are identical: m images of each of several patients then count as (sum m)^2 / sum m^2 images
(Kish, Survey Sampling, 1965). Other images have no patients that are known, so they count for the same share of their
number as those of validation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pneumo_edge.evaluation.metrics import Scores
from pneumo_edge.evaluation.networks import holm
from pneumo_edge.spec import HistogramSpec, ValidationDistributionSpec
from pneumo_edge.task import Task

#: There is drift at a corrected p-value of at most this.
LEVEL = 0.05
#: Groups with fewer images are not compared: their images may be those of a few patients.
LEAST_IMAGES = 50
#: Where images without drift reach a greater statistic by chance, no drift found means nothing.
MOST_BY_CHANCE = 0.5
#: Intervals of a histogram, and of those of the population stability index, each with as many images as the others.
BINS, INDEX_BINS = 100, 10
#: A share below this counts as this: the logarithm of an empty interval is not defined.
_LEAST_SHARE = 1e-4
_DRAWS, _SEED = 2000, 0
_TERMS = 100

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """A distribution on other images beside that on the validation images.

    Attributes:
        number: ``"distance"`` or ``"probability"``.
        class_name: The class of the probability; None for the distance.
        group: The part of the images, such as a day or a folder; None for all.
        images: How many there are.
        index: Population stability index, at least 0.
        index_by_chance: What the index of images without drift does not exceed in 95 % of cases.
        statistic: Kolmogorov-Smirnov statistic, 0 to 1.
        statistic_by_chance: The same for the statistic.
        p: P-value of the statistic.
        p_corrected: The same, corrected for the number of all comparisons (Holm).
        drift: Whether the two distributions differ by more than chance: ``p_corrected`` is at most :data:`LEVEL`.
    """

    number: str
    class_name: str | None
    group: str | None
    images: int
    index: float
    index_by_chance: float
    statistic: float
    statistic_by_chance: float
    p: float
    p_corrected: float = 1.0
    drift: bool = False

    @property
    def can_be_told(self) -> bool:
        """Whether there is drift, or there would have been enough images to find a large one."""
        return self.drift or self.statistic_by_chance <= MOST_BY_CHANCE


@dataclass(frozen=True)
class Counted:
    """Counts of images in the intervals of a file's histograms; counts of several parts are added up.

    Attributes:
        probabilities: For each class of the histograms, shape (intervals,).
        distance: The same for the distance; None where the file has no histogram of it.
    """

    probabilities: Mapping[str, Counts]
    distance: Counts | None

    def __add__(self, other: Counted) -> Counted:
        both = {name: counts + other.probabilities[name] for name, counts in self.probabilities.items()}
        distance = None if self.distance is None or other.distance is None else self.distance + other.distance
        return Counted(both, distance)

    @property
    def images(self) -> int:
        """How many images were counted."""
        return int(next(iter(self.probabilities.values())).sum())


def by_class(task: Task, scores: Scores) -> dict[str, Scores]:
    """The scores of images by the class that a file has a histogram of: the positive one, or every class.

    Args:
        task: The model's task.
        scores: Those of :meth:`pneumo_edge.task.Task.scores`: shape (images,), or (images, classes) without a positive
            class.
    """
    if task.positive_class is not None:
        return {task.positive_class: scores}
    return dict(zip(task.class_names, scores.T, strict=True))


def describe(
    probabilities: Mapping[str, Scores], distances: Scores | None, patients: Sequence[object], chosen_on: str
) -> ValidationDistributionSpec:
    """Describe a file's answers on the validation images.

    Args:
        probabilities: Those of the positive class by its name, or those of every class; each of shape (images,).
        distances: Of the input check, shape (images,); None without one. They should be those of images that mean and
            scale were not taken from (:func:`pneumo_edge.evaluation.input_check.held_out_distances`).
        patients: Whose each image is, in a sequence of length images.
        chosen_on: What the images are, in words.
    """
    _, images = np.unique(np.asarray(patients), return_counts=True)
    return ValidationDistributionSpec(
        {name: histogram(values) for name, values in probabilities.items()},
        None if distances is None else histogram(distances),
        float(f"{images.sum() ** 2 / (images**2).sum():.6g}"),
        chosen_on,
    )


def histogram(values: Scores, bins: int = BINS) -> HistogramSpec:
    """Count values in intervals that hold about as many values each; equal values share an interval.

    Args:
        values: Finite numbers, shape (values,), at least one.
        bins: Number of intervals, at most; one of values that are all equal is an interval of its own.
    """
    values = np.asarray(values, dtype=np.float64)
    inner = np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf") if bins > 1 else values[:1]
    edges = np.unique([float(f"{edge:.7g}") for edge in inner])
    return HistogramSpec(tuple(edges.tolist()), tuple(_count(edges, values).tolist()))


def count(
    described: ValidationDistributionSpec, probabilities: Mapping[str, Scores], distances: Scores | None
) -> Counted:
    """Count answers in the intervals of a file's histograms.

    Args:
        described: What the file carries.
        probabilities: Of each class that it has a histogram of, shape (images,).
        distances: Shape (images,); None where the file has no histogram of it.
    """
    counts = {
        name: _count(np.array(of.edges), np.asarray(probabilities[name], dtype=np.float64))
        for name, of in described.probabilities.items()
    }
    of_distance = described.distance
    if of_distance is None or distances is None:
        return Counted(counts, None)
    return Counted(counts, _count(np.array(of_distance.edges), np.asarray(distances, dtype=np.float64)))


def _count(edges: npt.NDArray[np.float64], values: Scores) -> Counts:
    """How many values are within each interval; the upper end belongs to it."""
    found: Counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1).astype(np.int64)
    return found


def compare(described: ValidationDistributionSpec, groups: Mapping[str | None, Counted]) -> tuple[Comparison, ...]:
    """Compare answers on other images with those on the validation images.

    Args:
        described: What the file carries.
        groups: Counts by the name of the group; None is the name of all images together. Groups of fewer images than
            :data:`LEAST_IMAGES` are left out, but not all images together.

    Returns:
        A comparison for each number of each group, with p-values that are corrected for the number of all of them.
    """
    found = []
    for name, counted in groups.items():
        if counted.images >= (1 if name is None else LEAST_IMAGES):
            if described.distance is not None and counted.distance is not None:
                found.append(_compare("distance", None, name, described.distance, counted.distance, described))
            for class_name, of in described.probabilities.items():
                counts = counted.probabilities[class_name]
                found.append(_compare("probability", class_name, name, of, counts, described))
    corrected = holm(each.p for each in found)
    return tuple(replace(each, p_corrected=p, drift=p <= LEVEL) for each, p in zip(found, corrected, strict=True))


def _compare(
    number: str,
    class_name: str | None,
    group: str | None,
    of: HistogramSpec,
    counts: Counts,
    described: ValidationDistributionSpec,
) -> Comparison:
    expected, images = np.array(of.counts), int(counts.sum())
    validation = int(expected.sum())
    independent = min(described.independent, validation)
    others = max(1.0, images * independent / validation)
    size = independent * others / (independent + others)
    statistic = float(np.abs(np.cumsum(counts) / images - np.cumsum(expected) / validation).max())
    starts = _merged(expected)
    ten = np.add.reduceat(expected, starts) / validation
    return Comparison(
        number,
        class_name,
        group,
        images,
        float(stability_index(np.add.reduceat(counts, starts) / images, ten)),
        _by_chance(tuple(ten.tolist()), independent, float(f"{others:.1e}")),
        statistic,
        _SCALED_AT_LEVEL / _factor(size),
        kolmogorov(_factor(size) * statistic),
    )


def _merged(expected: Counts) -> npt.NDArray[np.intp]:
    """Where intervals begin that are merged to about :data:`INDEX_BINS` of equal shares of validation images."""
    middle = np.cumsum(expected) - expected / 2
    of = np.minimum((INDEX_BINS * middle / expected.sum()).astype(np.intp), INDEX_BINS - 1)
    return np.asarray(np.unique(of, return_index=True)[1])


def stability_index(shares: Scores, expected: Scores) -> Scores:
    """The population stability index of shares of images, each at least 0; the last axis is over intervals."""
    p, q = np.maximum(shares, _LEAST_SHARE), np.maximum(expected, _LEAST_SHARE)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1))


def index_by_chance(expected: Sequence[float] | Scores, independent: float, others: float) -> float:
    """What the population stability index does not exceed in 95 % of cases where nothing has changed.

    The intervals end at values of the validation images, so the true shares of a new image are a draw of a Dirichlet
    distribution around those of validation; the other images are a multinomial draw of these.

    Args:
        expected: Shares of the validation images within the intervals, shape (intervals,).
        independent: Number of independent validation images.
        others: Number of independent other images.
    """
    random = np.random.default_rng(_SEED)
    truth = random.dirichlet(np.maximum(expected, _LEAST_SHARE) * independent, _DRAWS)
    drawn = random.multinomial(round(others), truth) / round(others)
    return float(np.quantile(stability_index(drawn, np.asarray(expected)), 1 - LEVEL))


#: Of numbers of images with two digits there are few, so many groups take little time.
_by_chance = lru_cache(maxsize=4096)(index_by_chance)


def _factor(size: float) -> float:
    """What a Kolmogorov-Smirnov statistic is multiplied by before its limiting distribution (Stephens, JRSS B 1970)."""
    return math.sqrt(size) + 0.12 + 0.11 / math.sqrt(size)


def kolmogorov(scaled: float) -> float:
    """The probability that Kolmogorov's limiting distribution exceeds a number (Giornale dell'Istituto 1933)."""
    # Below this the probability is 1 to the last digit, and the series alternates without end.
    if scaled < 0.2:
        return 1.0
    terms = (math.copysign(math.exp(-2 * (term * scaled) ** 2), term % 2 - 0.5) for term in range(1, _TERMS))
    return min(1.0, max(0.0, 2 * sum(terms)))


#: Where :func:`kolmogorov` is :data:`LEVEL`.
_SCALED_AT_LEVEL = 1.3580986393225507
