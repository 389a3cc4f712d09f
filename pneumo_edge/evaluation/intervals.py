"""Intervals, and their correction for few images.

An interval without width is no evidence: if no image differs, or none is wrong, the variance estimated from any number
of images is 0. An exact bound still exists: with 95 % confidence, an event that none of n independent patients showed
has a probability of at most 1 - 0.025^(1/n) (Clopper and Pearson, Biometrika 1934).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

#: Fewer images or patients that differ than these, and no variance is estimated from them.
LEAST_DIFFERING = 5
#: Steps of the search for a p-value.
_HALVINGS = 30


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def signed(self) -> str:
        """The same of a difference: every number with its sign."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def left_open(units: int, confidence: float = 0.95) -> float:
    """The greatest chance of what none of so many independent units showed; 1 for none."""
    return 1.0 - ((1 - confidence) / 2) ** (1 / units) if units > 0 else 1.0


def open_share(found: Interval, units: int) -> Interval:
    """The interval of a share, or of another quantity within 0 to 1, with its ends opened.

    No lower end lies above that of a share of 1, and no upper end below that of a share of 0: what few images
    showed without an error is not known better than the exact interval says.

    Args:
        found: The value with an interval from a variance or from resampling; NaN is left alone.
        units: Independent images, patients or pairs behind it.
    """
    if math.isnan(found.value):
        return found
    rest = left_open(units)
    wider = Interval(found.value, min(found.low, 1 - rest), max(found.high, rest))
    return wider if wider.low < wider.high else opened(wider, units, 0.0, 1.0)


def open_difference(
    found: Interval, differing: int, units: int, reach: float = 1.0, confidence: float = 0.95
) -> Interval:
    """The interval of a difference, opened where too few units differ for a variance.

    Args:
        found: The difference with its interval; NaN is left alone.
        differing: Units in which the two sides differ at all.
        units: Independent images, patients or pairs behind it.
        reach: The greatest difference that is possible, either way.
        confidence: That of the interval.
    """
    if math.isnan(found.value) or (differing >= LEAST_DIFFERING and found.low < found.high):
        return found
    return opened(found, units, -reach, reach, confidence)


def opened(found: Interval, units: int, least: float, most: float, confidence: float = 0.95) -> Interval:
    """An interval that holds, besides, every mean that units nobody has seen could make of the value.

    Args:
        found: The mean of a quantity, with its interval.
        units: Independent units that were seen.
        least: The least that the quantity can be in a unit.
        most: The most.
        confidence: That of the interval.
    """
    rest = left_open(units, confidence)
    low, high = found.value - (found.value - least) * rest, found.value + (most - found.value) * rest
    return Interval(found.value, min(found.low, low), max(found.high, high))


def p_by_inversion(at: Callable[[float], Interval], value: float) -> float:
    """The two-sided p-value of the hypothesis that the truth is a value: where the interval just ends at it.

    Args:
        at: The interval of a confidence.
        value: The value.
    """
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = at(1 - middle)
        low, high = (middle, high) if found.low <= value <= found.high else (low, middle)
    return high
