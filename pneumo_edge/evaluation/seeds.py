"""One recipe trained with several seeds: the mean of a metric, and how far it is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from pneumo_edge.evaluation.metrics import Interval
from pneumo_edge.evaluation.student import central_share


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

    The distribution function rises with the angle whose tangent is t / sqrt(degrees), so bisection finds the quantile
    to the last digits.

    Raises:
        ValueError: ``degrees`` is less than 1.
    """
    if degrees < 1:
        raise ValueError(f"degrees is {degrees}, not at least 1")
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if central_share(math.sqrt(degrees) * math.tan(middle), degrees) < 0.95:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan(low)
