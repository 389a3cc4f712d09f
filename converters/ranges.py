"""Chooses the ranges that activations are quantized with.

An activation in int8 has 256 steps between the ends of its range. Where a few of a feature map's values lie far outside
of all others, as they do behind EfficientNetB0's swish, the range from the smallest value to the largest leaves the
others a handful of these steps. So ranges that cut off a share of the values are tried, the same share for all feature
maps (percentile calibration: Wu et al. 2020, https://arxiv.org/abs/2004.09602), and those are kept with which the
quantized network stays nearest to the float one on the representative dataset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

#: Shares of a feature map's values that lie below the upper end of its range, and above the lower end; the whole first.
SHARES = (1.0, 0.99999, 0.9999, 0.999)
#: Images of the representative dataset that ranges are narrowed and chosen by, at most.
_IMAGES = 100
#: What has fewer values for an image is no feature map, and keeps its range: a logit is cut off for no other's sake.
_LEAST_VALUES = 4096
#: Values that are drawn of each feature map and image.
_DRAWN = 8192
_SEED = 1
#: Of the mean square that whole ranges have, narrower ones must leave less than this share.
_MOST_LEFT = 0.5

Floats = npt.NDArray[np.floating[Any]]
#: Ends of ranges, by what a converter knows a tensor by.
Ranges = dict[Any, tuple[float, float]]


def is_feature_map(values: int) -> bool:
    """Whether an activation of so many values for an image is a feature map, whose range may be narrowed."""
    return values >= _LEAST_VALUES


def choose_images(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Evenly spread images of a representative dataset, on which ranges are narrowed and chosen."""
    return np.asarray(images[np.linspace(0, len(images) - 1, min(len(images), _IMAGES)).astype(int)])


class Values:
    """Values of feature maps, drawn at random from those of each image."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(_SEED)
        self._drawn: dict[Any, list[Floats]] = {}

    def add(self, key: Any, feature_map: Floats) -> None:
        """Draw values from a feature map of an image, of any shape."""
        values = feature_map.ravel()
        self._drawn.setdefault(key, []).append(values[self._random.integers(0, values.size, _DRAWN)])

    def ranges(self, share: float) -> Ranges:
        """Of feature maps, the ends between which a share of the values lies, counted from either end; with 0.

        There are none for a share of 1: what was drawn does not hold the ends.
        """
        if share == 1:
            return {}
        return {
            key: (min(float(low), 0.0), max(float(high), 0.0))
            for key, drawn in self._drawn.items()
            for low, high in [np.quantile(np.concatenate(drawn), (1 - share, share))]
        }


def choose(
    expected: Floats, values: Values, quantize: Callable[[Ranges], bytes], classify: Callable[[bytes], Floats]
) -> tuple[float, bytes]:
    """Quantize a network with each choice of ranges, and keep the one that stays nearest to the float network.

    Args:
        expected: The float network's probabilities, shape (images, classes).
        values: The values of its feature maps.
        quantize: Makes a model file in which these feature maps have these ranges, where they are narrower than the
            whole ones.
        classify: Returns the probabilities of such a file for the same images.

    Returns:
        The share, and the file: that with the smallest mean square of the difference of log-probabilities, which tells
        networks apart by images that all of them are sure of, too. Narrower ranges cut off more of an image that is
        unlike the representative dataset, so they have to pay: of whole ranges' mean square they must leave less
        than half.
    """
    files = [quantize(values.ranges(share)) for share in SHARES]
    whole, *narrower = [float(np.mean((logarithm(classify(file)) - logarithm(expected)) ** 2)) for file in files]
    best = 1 + int(np.argmin(narrower)) if min(narrower) < _MOST_LEFT * whole else 0
    return SHARES[best], files[best]


def logarithm(probabilities: Floats) -> Floats:
    """Logarithm of probabilities, finite where one is 0."""
    return np.asarray(np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)))
