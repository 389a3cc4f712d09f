"""Finds when a unit got slower or faster: change points in its time per inference, second by second.

The statistic of an interval is the largest difference of means over all splits of it in two (of logarithms, with
stalls of single seconds cut off), in standard errors. Neighbouring seconds are alike even where nothing happens, so
the standard error is that of autoregressive noise, estimated from what is left on both sides of the split. Intervals
of many lengths are searched, because in a short one a second change does not pass for noise. A split counts if its
statistic is larger than in all but one of twenty undisturbed series with an autocorrelation of 0.8, which are drawn.
The shortest interval that has such a split gives the change; then both sides are searched in the same way (narrowest
over threshold: Baranowski, Chen and Fryzlewicz, JRSS B 81, 2019; intervals: Kovacs et al., Biometrika 110, 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pneumo_edge.evaluation.intervals import Interval
from pneumo_edge.evaluation.student import student_quantile

Series = npt.NDArray[np.float64]

#: A change by a smaller share is not reported.
LEAST_CHANGE = 0.05
#: Probability that an undisturbed series of autocorrelation :data:`_AUTOCORRELATION` shows a change of any size.
FALSE_ALARMS = 0.05
#: Seconds on each side of a change, at least.
MIN_SEGMENT = 5
#: Undisturbed series that are drawn, and resamples of an interval.
_DRAWN, _RESAMPLES = 500, 500
#: Autocorrelation of those series. With less, there are fewer false alarms.
_AUTOCORRELATION = 0.8
#: Lengths of the intervals that are searched, in seconds, each about 1.4 times the one before.
_LENGTHS = tuple(round(14 * 2 ** (step / 2)) for step in range(13))
#: Longer series are searched in as many means of neighbours.
_MOST_VALUES = 896
#: The estimate of autocorrelation is raised by so many standard errors, and is at most this.
_CAUTION, _MOST_AUTOCORRELATION = 2.0, 0.95
#: Logarithms of the ends of an interval are within this.
_MOST_LOG = 50.0
#: Values further from the median of their neighbourhood (seconds) than so many standard deviations are cut off there.
_CLIP, _NEIGHBOURHOOD = 3.0, 5


@dataclass(frozen=True)
class Change:
    """A change of the time per inference.

    Attributes:
        at_s: The time from which on it was another one, in seconds from the start, with its 95 % interval.
        factor: How many times as long an inference took afterwards as before, between the changes next to this one,
            with its 95 % interval.
    """

    at_s: Interval
    factor: Interval


def find(at_s: Series, times: Series) -> tuple[Change, ...]:
    """Find the changes in a series.

    Args:
        at_s: The seconds, in ascending order, shape (seconds,).
        times: The mean time per inference in each of them, positive, shape (seconds,).

    Returns:
        The changes by at least :data:`LEAST_CHANGE`, in their order; none in a series of fewer than 14 values.
    """
    step = math.ceil(len(times) / _MOST_VALUES) or 1
    starts = np.arange(0, len(times), step)
    logs = np.log(np.add.reduceat(times, starts) / np.diff([*starts, len(times)]))
    at_s = at_s[starts]
    rho = cautious_autocorrelation(logs)
    random = np.random.default_rng(0)
    places = _splits(logs)
    while places:
        ends = [0, *places, len(logs)]
        found = [
            _measure(at_s[before:after], logs[before:after], split - before, rho, random)
            for before, split, after in zip(ends, ends[1:], ends[2:], strict=False)
        ]
        least = min(range(len(found)), key=lambda place: _certain(found[place].factor))
        if _certain(found[least].factor) > math.log1p(LEAST_CHANGE):
            return tuple(found)
        # Without the least change, those beside it have longer parts to be measured on.
        del places[least]
    return ()


def cautious_autocorrelation(logs: Series) -> float:
    """Correlation of neighbours in a series with steps and stalls, within 0 to 0.95, raised by two standard errors.

    That of autoregressive noise is the ratio of the mean squares of differences over two seconds and over one, less 1.
    """
    if len(logs) < 4:
        return 0.0
    one, two = (_mean_square(logs[None, lag:] - logs[None, :-lag])[0] for lag in (1, 2))
    estimate = two / one - 1 if one > 0 else 0.0
    return float(np.clip(estimate + _CAUTION / math.sqrt(len(logs)), 0, _MOST_AUTOCORRELATION))


def block_length(rho: float, count: int) -> int:
    """Length of the blocks of a block bootstrap of a mean (Carlstein, Annals of Statistics 14, 1986)."""
    wanted: float = (math.sqrt(6) * rho / (1 - rho**2)) ** (2 / 3) * count ** (1 / 3)
    return max(1, min(math.ceil(wanted), count // 4))


def ratio(log: float, drawn: Series, count: int, block: int) -> Interval:
    """A ratio with its 95 % interval, from resamples of its logarithm.

    The interval is Student's on their standard deviation, with a degree of freedom less than there are blocks: a few
    long blocks vary less than the series that they are from.

    Args:
        log: The logarithm of the ratio.
        drawn: That of resamples, shape (resamples,).
        count: How many seconds were resampled; for fewer than :data:`MIN_SEGMENT`, the interval has no ends.
        block: Length of the blocks.
    """
    if count < MIN_SEGMENT:
        return Interval(math.exp(log), 0.0, math.inf)
    half = student_quantile(count / block - 1, 0.95) * float(np.std(drawn))
    # Far beyond any ratio, so that every end is a number.
    low, high = (min(max(log + each, -_MOST_LOG), _MOST_LOG) for each in (-half, half))
    return Interval(math.exp(log), math.exp(low), math.exp(high))


def resample(count: int, length: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Moving-block bootstrap: places in a series for each resample, from blocks of neighbours.

    Returns:
        Shape (resamples, count).
    """
    starts = random.integers(0, count - length + 1, (_RESAMPLES, math.ceil(count / length)))
    return (starts[:, :, None] + np.arange(length)).reshape(_RESAMPLES, -1)[:, :count]


def _mean_square(differences: Series) -> Series:
    """The mean square of each row, with values that are no noise cut off."""
    spread = 1.4826 * np.median(np.abs(differences), axis=1, keepdims=True)
    clipped = np.clip(differences, -_CLIP * spread, _CLIP * spread)
    return np.asarray(np.mean(np.where(spread > 0, clipped, differences) ** 2, axis=1))


def _splits(logs: Series) -> list[int]:
    """Places of the changes: that of the shortest interval that has one, then those on both sides of it."""
    count = len(logs)
    if count < _LENGTHS[0]:
        return []
    limits = _limits(_LENGTHS[np.searchsorted(_LENGTHS, count)])
    for length in (*(each for each in _LENGTHS if each < count), count):
        starts = _starts(count, length)
        places, statistics = _best(logs[starts[:, None] + np.arange(length)])
        most = int(statistics.argmax())
        if statistics[most] > np.interp(length, list(limits), list(limits.values())):
            split = int(starts[most] + places[most])
            return [*_splits(logs[:split]), split, *(split + each for each in _splits(logs[split:]))]
    return []


def _starts(count: int, length: int) -> npt.NDArray[np.int64]:
    """Where intervals of a length begin, at most a quarter of it apart, from the first second to the last."""
    return np.linspace(0, count - length, math.ceil(4 * (count - length) / length) + 1).round().astype(np.int64)


def _best(rows: Series) -> tuple[npt.NDArray[np.int64], Series]:
    """The split of each row with the largest difference of means, and that difference in standard errors.

    The standard error is that of autoregressive noise, estimated from what is left on both sides of the split.
    """
    count = rows.shape[1]
    spread = 1.4826 * np.median(np.abs(np.diff(rows, axis=1)), axis=1, keepdims=True) / math.sqrt(2)
    half = _NEIGHBOURHOOD // 2
    padded = np.pad(rows, ((0, 0), (half, half)), mode="edge")
    middle = np.median(np.lib.stride_tricks.sliding_window_view(padded, _NEIGHBOURHOOD, axis=1), axis=2)
    clipped = np.where(spread > 0, np.clip(rows, middle - _CLIP * spread, middle + _CLIP * spread), rows)
    centred = clipped - clipped.mean(axis=1, keepdims=True)
    left = np.arange(MIN_SEGMENT, count - MIN_SEGMENT + 1)
    weight = np.sqrt(left * (count - left) / count)
    # A sum left of the split, over the square of the weight, is the difference of both means.
    sums = np.cumsum(centred, axis=1)[:, left - 1]
    best = np.abs(sums / weight).argmax(axis=1)
    split, largest = left[best][:, None], sums[np.arange(len(rows)), best]
    level = np.where(np.arange(count) < split, 1 / split, -1 / (count - split)) * largest[:, None]
    rest = centred - level
    square = np.sum(rest**2, axis=1) + 1e-18
    rho = np.clip(np.sum(rest[:, 1:] * rest[:, :-1], axis=1) / square, 0, _MOST_AUTOCORRELATION)
    error = np.sqrt(np.mean((rest[:, 1:] - rho[:, None] * rest[:, :-1]) ** 2, axis=1)) / (1 - rho) + 1e-12
    return split[:, 0], np.abs(largest) / weight[best] / error


@lru_cache
def _limits(count: int) -> dict[int, float]:
    """What the statistic of any interval exceeds in :data:`FALSE_ALARMS` of undisturbed series.

    Args:
        count: The length of the series, one of :data:`_LENGTHS`.

    Returns:
        The limit of each length of intervals. Each length has the same share of the false alarms.
    """
    noise = np.random.default_rng(count).standard_normal((_DRAWN, count))
    noise[:, 1:] *= math.sqrt(1 - _AUTOCORRELATION**2)
    for place in range(1, count):
        noise[:, place] += _AUTOCORRELATION * noise[:, place - 1]
    lengths = [each for each in _LENGTHS if each <= count]
    most = np.stack(
        [np.max([_best(noise[:, at : at + length])[1] for at in _starts(count, length)], axis=0) for length in lengths]
    )
    # In each length, the share of series that are at least as extreme; of each series, the least in any length.
    share = 1 - most.argsort(axis=1).argsort(axis=1) / _DRAWN
    allowed = np.quantile(share.min(axis=0), FALSE_ALARMS)
    return dict(zip(lengths, map(float, np.quantile(most, 1 - allowed, axis=1)), strict=True))


def _measure(at_s: Series, logs: Series, split: int, rho: float, random: np.random.Generator) -> Change:
    """When a change was and how large."""
    sides = logs[:split], logs[split:]
    drawn = [side[resample(len(side), block_length(rho, len(side)), random)] for side in sides]
    before, after = (np.median(side, axis=1) for side in drawn)
    count = min(map(len, sides))
    log = float(np.median(sides[1]) - np.median(sides[0]))
    factor = ratio(log, after - before, count, block_length(rho, count))
    places, _ = _best(np.concatenate(drawn, axis=1))
    low, high = map(float, np.quantile(at_s[places], (0.025, 0.975)))
    value = float(at_s[split])
    return Change(Interval(value, min(value, low), max(value, high)), factor)


def _certain(factor: Interval) -> float:
    """The least change that the interval of a factor includes, as a logarithm; negative where it includes none."""
    return max(math.log(factor.low), -math.log(factor.high))
