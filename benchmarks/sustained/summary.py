"""The numbers of a sustained measurement: how each unit's time changed, and whether the order of the units did.

The time per inference of a second is the wall time of its inferences over their number, not their median: a quota or
another process stops this one for a part of each second, and leaves the median as it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from pneumo_edge.benchmarks import statistics
from pneumo_edge.benchmarks.protocol import Unit
from pneumo_edge.benchmarks.sustained import changes
from pneumo_edge.benchmarks.sustained.changes import Change, Series
from pneumo_edge.benchmarks.sustained.records import SustainedSamples, SustainedUnit
from pneumo_edge.evaluation.intervals import Interval

#: Seconds of the window at each end; less, where it would be more than half of the measurement.
WINDOW = 60
Order = Literal["same", "reversed", "not separable"]


@dataclass(frozen=True)
class Course:
    """How the time per inference of a unit changed.

    Attributes:
        result: The raw results.
        at_s: The seconds in which an inference ended, from the start, shape (seconds,).
        mean_ms: Wall time per inference in each of them, in milliseconds.
        first_ms: Wall time per inference in the first window, as the median over its seconds.
        last_ms: The same in the last window.
        first_median_ms: Median wall time of the inferences in the first window.
        last_median_ms: The same in the last window.
        cpu_slower: How many times as much CPU time an inference took in the last window as in the first.
        slower: How many times as long an inference took in the last window as in the first, with its 95 % interval.
        changes: When it got slower or faster.
    """

    result: SustainedUnit
    at_s: Series
    mean_ms: Series
    first_ms: float
    last_ms: float
    first_median_ms: float
    last_median_ms: float
    cpu_slower: float
    slower: Interval
    changes: tuple[Change, ...]

    @property
    def unit(self) -> Unit:
        """The unit."""
        return self.result.unit


@dataclass(frozen=True)
class Pair:
    """Two units in the first and in the last window.

    Attributes:
        one: The unit that was faster in the first window.
        other: The other unit.
        first: How many times as long ``other`` takes as ``one`` in the first window, with its 95 % interval.
        last: The same in the last window.
        order: Whether the two keep their order; not separable where an interval overlaps the band of noise.
    """

    one: Unit
    other: Unit
    first: Interval
    last: Interval
    order: Order


@dataclass(frozen=True)
class Endurance:
    """All units of a sustained measurement.

    Attributes:
        window_s: Seconds of the first and of the last window.
        courses: How each unit's time changed.
        pairs: Each pair of units.
    """

    window_s: int
    courses: tuple[Course, ...]
    pairs: tuple[Pair, ...]

    @property
    def order(self) -> Order:
        """Whether the order of the units in the first window is that in the last; reversed where any pair is."""
        found = {pair.order for pair in self.pairs}
        return "reversed" if "reversed" in found else "not separable" if "not separable" in found else "same"


@dataclass(frozen=True)
class _Window:
    """The seconds of a window in which an inference ended.

    Attributes:
        mean_ms: Wall time per inference in each of them, shape (seconds,).
        cpu_ms: CPU time per inference in each of them.
        each_ms: Wall time of every inference.
    """

    mean_ms: Series
    cpu_ms: Series
    each_ms: Series

    @property
    def level_ms(self) -> float:
        """The median over seconds, which a stall of a single second leaves as it is."""
        return float(np.median(self.mean_ms))

    def resampled(self, block: int) -> Series:
        """Logarithm of the level in resamples. Windows of the same length are resampled in the same seconds."""
        places = changes.resample(len(self.mean_ms), block, np.random.default_rng(0))
        return np.asarray(np.log(np.median(self.mean_ms[places], axis=1)))


class _Seconds:
    """The inferences of a unit by whole second.

    Args:
        samples: The raw results of the unit.
    """

    def __init__(self, samples: SustainedSamples) -> None:
        self.counts = np.array(samples.counts, dtype=np.float64)
        self._ends = np.cumsum(samples.counts)
        self._each_ms = samples.wall_ms
        self._cpu_ms = np.array(samples.cpu_ms)
        # What ended after the last whole second counts only where there is nothing else.
        seconds = _seconds(samples)
        if self.counts[:seconds].any():
            self.counts = self.counts[:seconds]
        totals = np.concatenate([[0.0], np.cumsum(self._each_ms)])
        starts = self._ends - np.array(samples.counts)
        self.wall_ms = (totals[self._ends] - totals[starts])[: len(self.counts)]

    @property
    def autocorrelation(self) -> float:
        called = self.counts > 0
        return changes.cautious_autocorrelation(np.log(self.wall_ms[called] / self.counts[called]))

    def window(self, start: int, end: int) -> _Window:
        first = self._ends[start - 1] if start else 0
        counts = self.counts[start:end]
        called = counts > 0
        return _Window(
            self.wall_ms[start:end][called] / counts[called],
            self._cpu_ms[start:end][called] / counts[called],
            self._each_ms[first : self._ends[end - 1]],
        )

    def windows(self, seconds: int) -> tuple[_Window, _Window]:
        """The first and the last so many seconds, or as many more as an inference takes."""
        called, count = np.flatnonzero(self.counts), len(self.counts)
        return (
            self.window(0, min(count, max(seconds, int(called[0]) + 1))),
            self.window(max(0, min(count - seconds, int(called[-1]))), count),
        )


def summarise(results: Sequence[SustainedUnit], noises: dict[tuple[str, int], float]) -> Endurance | None:
    """Compute the numbers of a sustained measurement; None without one.

    Args:
        results: The raw results of each unit.
        noises: For an engine and a number of threads, the share by which the A/A unit differed from itself.
    """
    if not results:
        return None
    window_s = min(WINDOW, *(_seconds(each.samples) // 2 for each in results))
    seconds = {each.unit: _Seconds(each.samples) for each in results}
    ends = {unit: of_unit.windows(window_s) for unit, of_unit in seconds.items()}
    courses = tuple(_course(each, seconds[each.unit], *ends[each.unit]) for each in results)
    pairs = []
    for pair in combinations((each.unit for each in results), 2):
        one, other = sorted(pair, key=lambda unit: ends[unit][0].level_ms)
        noise = max(noises.get((unit.engine, unit.threads), 0.0) for unit in pair)
        rho = max(seconds[unit].autocorrelation for unit in pair)
        first, last = (_ratio(ends[other][end], ends[one][end], rho) for end in (0, 1))
        pairs.append(Pair(one, other, first, last, _order(first, last, noise)))
    return Endurance(window_s, courses, tuple(pairs))


def _seconds(samples: SustainedSamples) -> int:
    """Whole seconds that were measured."""
    return min(int(samples.seconds), len(samples.counts))


def _course(result: SustainedUnit, seconds: _Seconds, first: _Window, last: _Window) -> Course:
    called = np.flatnonzero(seconds.counts)
    mean_ms = seconds.wall_ms[called] / seconds.counts[called]
    at_s = called.astype(np.float64)
    return Course(
        result=result,
        at_s=at_s,
        mean_ms=mean_ms,
        first_ms=first.level_ms,
        last_ms=last.level_ms,
        first_median_ms=float(np.median(first.each_ms)),
        last_median_ms=float(np.median(last.each_ms)),
        # A coarse clock may measure no time at all.
        cpu_slower=max(float(np.median(last.cpu_ms)), 1e-6) / max(float(np.median(first.cpu_ms)), 1e-6),
        slower=_ratio(last, first, seconds.autocorrelation),
        changes=changes.find(at_s, mean_ms),
    )


def _ratio(numerator: _Window, denominator: _Window, rho: float) -> Interval:
    """The ratio of the levels of two windows, with an interval from a moving-block bootstrap of their seconds."""
    count = min(len(numerator.mean_ms), len(denominator.mean_ms))
    block = changes.block_length(rho, count)
    drawn = numerator.resampled(block) - denominator.resampled(block)
    return changes.ratio(math.log(numerator.level_ms / denominator.level_ms), drawn, count, block)


def _order(first: Interval, last: Interval, noise: float) -> Order:
    relations = {statistics.relation(each, noise) for each in (first, last)}
    if "not separable" in relations:
        return "not separable"
    return "same" if len(relations) == 1 else "reversed"
