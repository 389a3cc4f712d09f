"""One recipe trained with several seeds: the mean of a metric, and how far it is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from pneumo_edge.evaluation.metrics import Interval


@dataclass(frozen=True)
class OverSeeds:
    """A metric over seeds: the mean with its 95 % interval, and the standard deviation of a single run."""

    runs: int
    mean: Interval
    sd: float


def over_seeds(values: Sequence[float]) -> OverSeeds:
    """Mean, standard deviation (of a sample) and Student's 95 % interval of the mean (Biometrika 1908).

    The interval is about seeds alone, for these images: it does not hold the chance of other images. It is
    not cut to the range of the metric.

    Args:
        values: The metric for each seed, or its difference between two models for each seed.

    Raises:
        ValueError: There are fewer than two values, or one is not finite.
    """
    if len(values) < 2:
        raise ValueError("a spread over seeds takes at least two of them")
    if not all(map(math.isfinite, values)):
        raise ValueError("a value is not finite")
    centre, sd = float(mean(values)), float(stdev(values))
    spread = t_quantile(len(values) - 1) * sd / math.sqrt(len(values))
    return OverSeeds(len(values), Interval(centre, centre - spread, centre + spread), sd)


def t_quantile(degrees: int) -> float:
    """The 0.975 quantile of Student's t.

    For a whole number of degrees of freedom the distribution function is a finite sum (Abramowitz and Stegun,
    Handbook of Mathematical Functions, 26.7.3 and 26.7.4), and it rises with the angle whose tangent is
    t / sqrt(degrees), so bisection finds the quantile to the last digits.

    Raises:
        ValueError: ``degrees`` is less than 1.
    """
    if degrees < 1:
        raise ValueError(f"degrees is {degrees}, not at least 1")
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if _central_share(middle, degrees) < 0.95:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan(low)


def _central_share(angle: float, degrees: int) -> float:
    """The chance that t lies between the values of -angle and angle."""
    odd = degrees % 2
    power, term, total = (1, math.cos(angle), 0.0) if odd else (0, 1.0, 0.0)
    while power <= degrees - 2:
        total += term
        power += 2
        term *= math.cos(angle) ** 2 * (power - 1) / power
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
