"""Bounds for a sample of the validation split, where they are promised for the whole: a sample may miss by chance."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

#: How often a split that just keeps a bound may give a sample that is told to miss it: once in so many.
ONE_IN = 100
_ROUNDING = 1e-9


def most_changed(images: int, of: int, share: float) -> int:
    """How many decisions may be changed in a sample.

    Args:
        images: Number of images in the sample, at least 1.
        of: Number of images that the sample was drawn from, at least ``images``.
        share: The share of those that may be changed, 0 to 1; of few images one at least, where any may.

    Returns:
        The largest number that is reached at least once in :data:`ONE_IN` samples where no more than that share
        is changed, and the share itself where the sample is the whole.
    """
    changed = max(math.floor(share * of + _ROUNDING), 1) if share else 0
    if images >= of:
        return changed
    ways, reached = math.comb(of, images), 0
    for count in range(min(changed, images), 0, -1):
        reached += math.comb(changed, count) * math.comb(of - changed, images - count)
        if reached * ONE_IN >= ways:
            return count
    return 0


def most_mean(sample: npt.NDArray[np.float64], of: int, bound: float) -> float:
    """What the mean of a sample may be, where that of all ``of`` values may be ``bound``.

    It is more than the bound by what the mean of a sample strays by, and no more where the sample is the whole.
    """
    left_out = max(0.0, 1 - len(sample) / of)
    error = float(sample.std()) * math.sqrt(left_out / len(sample))
    return bound + NormalDist().inv_cdf(1 - 1 / ONE_IN) * error
