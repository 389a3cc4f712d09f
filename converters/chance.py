"""Bounds for a sample of the validation split, derived from the bounds for the whole split."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

#: A sample of a split that just meets its bound fails once in this many samples.
ONE_IN = 100
_ROUNDING = 1e-9


def most_changed(images: int, of: int, share: float) -> int:
    """Maximum number of changed decisions in a sample.

    Args:
        images: Number of images in the sample, at least 1.
        of: Number of images that the sample was drawn from, at least ``images``.
        share: The share of those that may be changed, 0 to 1; if above 0, at least one image may.

    Returns:
        The largest number that is reached in at least one of :data:`ONE_IN` samples if at most that share is changed;
        the share itself where the sample is the whole split.
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
    """Maximum mean of a sample, where the mean of all ``of`` values may be at most ``bound``.

    It exceeds the bound by the sampling error of the mean, which is 0 where the sample is the whole split.
    """
    left_out = max(0.0, 1 - len(sample) / of)
    error = float(sample.std()) * math.sqrt(left_out / len(sample))
    return bound + NormalDist().inv_cdf(1 - 1 / ONE_IN) * error
