"""Student's t distribution (Biometrika 1908), with the standard library alone."""

from __future__ import annotations

import math
from functools import cache

#: A p-value is not told below this, where the numbers end.
_LEAST_P = 1e-12


def student_quantile(freedom: float, confidence: float = 0.95) -> float:
    """Two-sided quantile of Student's t; infinite below one degree of freedom.

    Exact for whole degrees of freedom; in between it is interpolated and slightly too large, never too small.
    """
    if freedom < 1:
        return math.inf
    whole = math.floor(freedom)
    quantile = _whole_quantile(whole, confidence)
    if freedom == whole:
        return quantile
    # The quantile is convex in 1 / freedom.
    share = (1 / whole - 1 / freedom) / (1 / whole - 1 / (whole + 1))
    return quantile + share * (_whole_quantile(whole + 1, confidence) - quantile)


@cache
def _whole_quantile(freedom: int, confidence: float) -> float:
    low, high = 0.0, 1.0
    while central_share(high, freedom) < confidence:
        low, high = high, 2 * high
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if central_share(middle, freedom) < confidence else (low, middle)
    return high


def central_share(t: float, freedom: int) -> float:
    """Probability that Student's t lies within ±t (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for step in range(2 + odd, freedom + 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (step - 1) / step
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def two_sided_p(t: float, freedom: float) -> float:
    """The two-sided p-value of a value of Student's t: :func:`student_quantile` inverted, so that the two agree.

    1e-12 at least, and 1 below one degree of freedom.
    """
    if freedom < 1:
        return 1.0
    whole = math.floor(freedom)
    high = max(_LEAST_P, 1 - central_share(abs(t), whole))
    if freedom == whole:
        return high
    low = max(_LEAST_P, 1 - central_share(abs(t), whole + 1))
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        # The quantile falls as p rises.
        low, high = (middle, high) if student_quantile(freedom, 1 - middle) > abs(t) else (low, middle)
    return high
