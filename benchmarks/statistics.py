"""The statistics of claims about time and memory: intervals over processes, and the rule that decides a claim.

The calls of one process share its memory layout, so they are not independent observations. A process counts as one
observation, for any number of calls. For few processes, intervals of the percentile bootstrap are too narrow: with ten,
a nominal 95 % covers about 90 %. So the intervals here are Student's, on the logarithms of the processes' values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from pneumo_edge.evaluation.intervals import Interval, open_difference
from pneumo_edge.evaluation.metrics import Labels, Scores, class_placements, delong_error, macro_auc, placements
from pneumo_edge.evaluation.student import student_quantile

#: A difference below this share counts as none, even where the interval is narrower (criterion.rs does the same).
LEAST_DIFFERENCE = 0.01

Values = Sequence[float] | npt.NDArray[np.float64]
Relation = Literal["less", "more", "not separable"]


def paired_ratio(numerator: Values, denominator: Values, *, confidence: float = 0.95) -> Interval:
    """Ratio of two values that every process measured side by side, with its interval over processes.

    The value is the geometric mean of the processes' ratios; the interval is Student's on their logarithms.

    Args:
        numerator: One positive value for each process, for example the median CPU time of its calls.
        denominator: The values of the other unit, in the same order of processes.
        confidence: The confidence of the interval.

    Returns:
        The ratio; for a single process with an interval from 0 to infinity.

    Raises:
        ValueError: There are no processes, their numbers differ, or a value is not positive.
    """
    one, other = _logarithms(numerator), _logarithms(denominator)
    if len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} processes cannot be paired")
    logs = one - other
    return _interval(float(logs.mean()), _variance(logs), len(logs) - 1, confidence)


def unpaired_ratio(numerator: Values, denominator: Values, *, confidence: float = 0.95) -> Interval:
    """Ratio of two values that different processes measured, with its interval (Welch, Biometrika 1947).

    Args:
        numerator: One positive value for each process.
        denominator: The values of the other unit or run; the number of processes may differ.
        confidence: The confidence of the interval.

    Returns:
        The ratio of the geometric means; with an interval from 0 to infinity where either has a single process.

    Raises:
        ValueError: There are no processes, or a value is not positive.
    """
    one, other = _logarithms(numerator), _logarithms(denominator)
    first, second = _variance(one), _variance(other)
    freedom: float = min(len(one), len(other)) - 1
    if freedom > 0 and first + second > 0:
        freedom = (first + second) ** 2 / (first**2 / (len(one) - 1) + second**2 / (len(other) - 1))
    return _interval(float(one.mean() - other.mean()), first + second, freedom, confidence)


def geometric_mean(values: Values) -> Interval:
    """The geometric mean of a value of every process, with its 95 % interval over processes.

    Args:
        values: One positive value for each process, for example the median time of its calls.

    Returns:
        The mean; for a single process with an interval from 0 to infinity.

    Raises:
        ValueError: There are no processes, or a value is not positive.
    """
    return paired_ratio(values, np.ones(len(values)))


def reach(ratio: Interval) -> float:
    """How far from 1 a ratio's interval extends, as a share: 0.02 for both [0.99, 1.02] and [1 / 1.02, 1].

    For a unit against itself this is the noise floor: the half-width of the interval, and more where it is not centred
    on 1.
    """
    if ratio.low <= 0 or math.isinf(ratio.high):
        return math.inf
    return max(ratio.high, 1 / ratio.low) - 1


def relation(ratio: Interval, noise_floor: float) -> Relation:
    """Tell whether the numerator is less or more than the denominator.

    Args:
        ratio: The ratio with its interval.
        noise_floor: The noise that a unit against itself showed (:func:`reach`).

    Returns:
        "less" or "more" only where the whole interval lies outside the band from 1 / b to b, where b is one plus the
        greater of :data:`LEAST_DIFFERENCE` and the noise floor.
    """
    band = 1 + max(LEAST_DIFFERENCE, noise_floor)
    if ratio.high < 1 / band:
        return "less"
    return "more" if ratio.low > band else "not separable"


def early_stopping_rank(calls: int, percentile: float = 0.9, confidence: float = 0.99) -> int:
    """The rank from the top of the latency that bounds a percentile, by MLPerf's early stopping.

    The largest t for which the probability that at most t of the calls lie above the percentile is at most one minus
    the confidence (exact binomial). MLPerf then discards the t - 1 highest latencies
    (mlcommons/inference, loadgen/early_stopping.cc, with a tolerance of 0).

    Args:
        calls: Number of calls.
        percentile: The percentile, as a share.
        confidence: The confidence of the bound.

    Returns:
        t, or 0 where there are too few calls for a bound.
    """
    below, above = math.log(percentile), math.log1p(-percentile)
    total = 0.0
    for count in range(calls + 1):
        ways = math.lgamma(calls + 1) - math.lgamma(count + 1) - math.lgamma(calls - count + 1)
        total += math.exp(ways + count * above + (calls - count) * below)
        if total > 1 - confidence:
            return max(0, count - 1)
    return calls


def early_stopping_bound(latencies: npt.NDArray[np.float64], percentile: float = 0.9) -> float | None:
    """Upper bound of a percentile of latency, with a confidence of 99 %; None for too few calls."""
    rank = early_stopping_rank(len(latencies), percentile)
    return float(np.sort(latencies)[-rank]) if rank else None


def auc_contrast(labels: Labels, weighted: Sequence[tuple[float, Scores]]) -> Interval:
    """A weighted sum of the AUCs of several models on the same images, with its 95 % interval.

    The variance is ``L S L'`` of DeLong, DeLong and Clarke-Pearson (Biometrics 1988). The interval is widened where
    fewer than five images differ (:func:`~pneumo_edge.evaluation.intervals.open_difference`).

    Args:
        labels: 0 or 1, shape (images,), at least two of each.
        weighted: The weight and the scores of each model: shape (images,), or (images, classes) for macro AUCs.

    Raises:
        ValueError: A class is missing, or a score is NaN.
    """
    reach = sum(abs(weight) for weight, _ in weighted) / 2
    if np.ndim(weighted[0][1]) == 2:
        placed = sum(weight * class_placements(labels, scores) for weight, scores in weighted)
        assert isinstance(placed, np.ndarray)
        macro = macro_auc(labels, placed)
        half = 1.959964 * macro.error
        found = Interval(macro.value, macro.value - half, macro.value + half)
        return open_difference(found, int(placed.any(axis=1).sum()), len(placed), reach=reach)
    parts: list[npt.NDArray[np.float64]] = [np.zeros(1), np.zeros(1)]
    for weight, scores in weighted:
        parts = [part + weight * one for part, one in zip(parts, placements(labels, scores), strict=True)]
    value = float(parts[0].mean())
    error = delong_error(parts)
    found = Interval(value, value - 1.959964 * error, value + 1.959964 * error)
    differing = sum(int(np.count_nonzero(part)) for part in parts)
    return open_difference(found, differing, sum(map(len, parts)), reach=reach)


def _logarithms(values: Values) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.all(array > 0) or not np.all(np.isfinite(array)):
        raise ValueError("a ratio needs a positive value for each of at least one process")
    return np.log(array)


def _variance(logs: npt.NDArray[np.float64]) -> float:
    """Variance of the mean."""
    return float(logs.var(ddof=1) / len(logs)) if len(logs) > 1 else 0.0


def _interval(log: float, variance: float, freedom: float, confidence: float = 0.95) -> Interval:
    if freedom < 1:
        return Interval(_exp(log), 0.0, math.inf)
    half = student_quantile(freedom, confidence) * math.sqrt(variance)
    return Interval(_exp(log), _exp(log - half), _exp(log + half))


def _exp(log: float) -> float:
    """The exponential function; infinite where the end of an interval exceeds a float64."""
    try:
        return math.exp(log)
    except OverflowError:
        return math.inf
