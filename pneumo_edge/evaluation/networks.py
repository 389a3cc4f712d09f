"""Whether one network is better than another where each was trained several times: about networks, not files.

Two things are chance: the seed that a network was trained with, and the patients that it was tested on. Seeds are
nested in the network, and every training is tested on the same patients. That is the model of Obuchowski and Rockette
(Communications in Statistics: Simulation and Computation 24, 1995) with trainings in the place of readers, in its form
for readers who are nested in the test (Hillis, Statistics in Medicine 33, 2014). The two networks may have different
numbers of trainings, and vary differently between them (Satterthwaite, Biometrics Bulletin 2, 1946).

``make network-simulation`` counts how often its intervals hold the truth (docs/evaluation.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pneumo_edge.evaluation.comparison import PatientShares
from pneumo_edge.evaluation.intervals import LEAST_DIFFERING, Interval, open_difference, open_share, p_by_inversion
from pneumo_edge.evaluation.outcomes import Outcome
from pneumo_edge.evaluation.student import student_quantile, two_sided_p

#: Trainings of a network that a claim takes. With two, one false alarm too many was counted in the simulation.
LEAST_TRAININGS = 3
#: A claim is decided where its p-value, corrected for the number of claims, is at most this.
LEVEL = 0.05
#: From here on degrees of freedom are rounded down, which widens an interval by less than a hundredth.
_MANY = 30


@dataclass(frozen=True)
class Leaning:
    """The outcome of a claim, and the p-value of the margin that its estimate lies beyond."""

    outcome: Outcome
    p: float


@dataclass(frozen=True)
class NetworkEstimate:
    """A metric of a network, or the difference of two networks, over other trainings and other patients.

    Attributes:
        value: The mean over trainings, or the difference of two such means.
        trainings: Trainings of each network.
        training_sd: Standard deviation between the trainings of each network, on these images.
        error_trainings: The standard error that comes from the trainings.
        error_patients: The standard error that all trainings share, because they were tested on these patients.
        freedom: Degrees of freedom of the interval.
        patients: Patients behind it; of an AUC those of the class with fewer.
        differing: Patients who move it; of a difference, those on whom the networks differ.
        is_difference: Whether it is a difference.
    """

    value: float
    trainings: tuple[int, ...]
    training_sd: tuple[float, ...]
    error_trainings: float
    error_patients: float
    freedom: float
    patients: int
    differing: int
    is_difference: bool

    @property
    def error(self) -> float:
        """The standard error."""
        return math.hypot(self.error_trainings, self.error_patients)

    def reversed(self) -> NetworkEstimate:
        """The difference the other way: the second network less the first."""
        return replace(self, value=-self.value)

    def interval(self, confidence: float = 0.95) -> Interval:
        """Student's interval, not cut to the range of the metric; opened where too few patients show a variance."""
        half = student_quantile(self.freedom, confidence) * self.error if self.error else 0.0
        found = Interval(self.value, self.value - half, self.value + half)
        if not self.is_difference:
            return open_share(found, self.patients)
        return open_difference(found, self.differing, self.patients, confidence=confidence)

    def p(self, value: float = 0.0) -> float:
        """The two-sided p-value of the hypothesis that the truth is this value; it agrees with the interval."""
        if self.error and self.differing >= LEAST_DIFFERING:
            return two_sided_p((self.value - value) / self.error, self.freedom)
        return p_by_inversion(self.interval, value)


def estimate(trainings: Sequence[PatientShares]) -> NetworkEstimate:
    """A metric of a network.

    Args:
        trainings: The metric of each of its trainings, on the same images.

    Raises:
        ValueError: There are fewer than two trainings.
    """
    return _estimate((trainings,), (1.0,))


def compare(first: Sequence[PatientShares], second: Sequence[PatientShares]) -> NetworkEstimate:
    """A metric of the first network less that of the second.

    Args:
        first: The metric of each training of the first network.
        second: The same of the second, on the same images.

    Raises:
        ValueError: A network has fewer than two trainings; then the difference is one of files
            (:func:`pneumo_edge.evaluation.comparison.paired_auc`).
    """
    return _estimate((first, second), (1.0, -1.0))


def compare_paired(first: Sequence[PatientShares], second: Sequence[PatientShares]) -> NetworkEstimate:
    """The same where each training has a result on either side: one network in two formats.

    Args:
        first: The metric of each training, in one format.
        second: That of the same trainings in the other format, in the same order.

    Raises:
        ValueError: There are fewer than two trainings, or not as many on both sides.
    """
    differences = [one.less(other) for one, other in zip(first, second, strict=True)]
    return replace(_estimate((differences,), (1.0,)), is_difference=True)


def _estimate(networks: Sequence[Sequence[PatientShares]], signs: Sequence[float]) -> NetworkEstimate:
    if min(map(len, networks)) < 2:
        raise ValueError("a claim about a network takes at least two trainings of it")
    counts = [len(trainings) for trainings in networks]
    values = [np.array([training.value for training in trainings]) for trainings in networks]
    # The mean squares between trainings hold the chance of training and what the patients do to each training apart.
    spreads = [float(of_network.var(ddof=1)) for of_network in values]
    shared = sum(
        signs[one] * signs[two] * _shared(networks[one], networks[two], same=one == two)
        for one in range(len(networks))
        for two in range(len(networks))
    )
    parts = [spread / count for spread, count in zip(spreads, counts, strict=True)]
    variance = sum(parts) + max(0.0, shared)
    below = sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
    most = float(networks[0][0].patients - 1)
    freedom = min(most, variance**2 / below) if below else most
    return NetworkEstimate(
        value=float(sum(sign * of_network.mean() for sign, of_network in zip(signs, values, strict=True))),
        trainings=tuple(counts),
        training_sd=tuple(math.sqrt(spread) for spread in spreads),
        error_trainings=math.sqrt(sum(parts)),
        error_patients=math.sqrt(max(0.0, shared)),
        freedom=freedom if freedom < _MANY else float(math.floor(freedom)),
        patients=min(networks[0][0].units),
        differing=_moving(networks, signs),
        is_difference=len(networks) > 1,
    )


def _moving(networks: Sequence[Sequence[PatientShares]], signs: Sequence[float]) -> int:
    """Patients who move the estimate."""
    parts = len(networks[0][0].parts)
    moved = [
        sum(
            sign * np.mean([training.parts[part] for training in of_network], axis=0)
            for sign, of_network in zip(signs, networks, strict=True)
        )
        for part in range(parts)
    ]
    return int(np.count_nonzero(np.any(moved, axis=0)))


def _shared(first: Sequence[PatientShares], second: Sequence[PatientShares], *, same: bool) -> float:
    """The mean covariance of two different trainings through the patients: of one network, or of two."""
    found = [
        one.covariance(other)
        for place, one in enumerate(first)
        for number, other in enumerate(second)
        if not (same and place == number)
    ]
    return float(np.mean(found))


def lean(value: float, p_of: Callable[[float], float], least: float, most_against: float | None = None) -> Leaning:
    """What an estimate says of the claim that a quantity lies above a threshold, before it is corrected.

    Args:
        value: The estimate.
        p_of: The two-sided p-value of a hypothesis.
        least: The threshold, as of :func:`pneumo_edge.evaluation.outcomes.settle`.
        most_against: As there.
    """
    against = least if most_against is None else most_against
    if value > least:
        return Leaning("supported", p_of(least))
    return Leaning("refuted", p_of(against)) if value < against else Leaning("not separable", 1.0)


def settle_all(leanings: Sequence[Leaning]) -> tuple[Leaning, ...]:
    """The claims with p-values that are corrected for their number, "not separable" where one is above the level."""
    return tuple(
        Leaning(leaning.outcome if p <= LEVEL else "not separable", p)
        for leaning, p in zip(leanings, holm(leaning.p for leaning in leanings), strict=True)
    )


def holm(p_values: Iterable[float]) -> tuple[float, ...]:
    """P-values corrected for their number (Holm, Scandinavian Journal of Statistics 6, 1979), in the same order."""
    given: npt.NDArray[np.float64] = np.asarray(tuple(p_values), dtype=np.float64)
    order = np.argsort(given, kind="stable")
    steps = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    corrected = np.empty(len(given))
    corrected[order] = np.minimum(1.0, steps)
    return tuple(corrected.tolist())
