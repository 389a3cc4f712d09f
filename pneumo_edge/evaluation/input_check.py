"""Whether an image resembles those that a model was trained on, from a few features of the network.

The features are whitened principal components of training images: uncorrelated, each with a mean of 0 and a variance
of 1 in the network they were fitted with. A file that was made of that network, quantized or not, has features of its
own, so each is standardized by the file's own mean and standard deviation over validation images. The distance of an
image is then the Mahalanobis distance (Lee et al., NeurIPS 2018) with a diagonal covariance, per feature, in that part
of the features where it is largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge.evaluation.conformal import conformal_quantile, reachable
from pneumo_edge.evaluation.metrics import Scores
from pneumo_edge.spec import InputCheckSpec

#: Share of the images from where the training images come from that shall pass.
SHARE = 0.99
#: The least standard deviation of a feature. One that varies by less than a quarter of what it did in the network was
#: lost in quantization, and a single step of it would make an image out-of-distribution.
_LEAST_SCALE = 0.25
#: Parts of the patients for distances of images that the check has not seen.
_PARTS = 20

Features = npt.NDArray[np.float64]


def learn(
    features: Features, parts: Sequence[int], patients: Sequence[object], chosen_on: str, share: float = SHARE
) -> InputCheckSpec:
    """Calibrate the input check on images like the training images.

    The parts are brought to one measure: in each, the limit alone would be a distance of 1. The limit is the conformal
    quantile by patient of :mod:`pneumo_edge.evaluation.conformal`: an image of a new patient passes with a probability
    of about ``share`` (not of at least that, because mean and scale come from the same images). With too few patients
    for it, it is the largest distance, and the share that the spec states is the most that they can promise.

    Args:
        features: Of images that the network was not fitted to, shape (images, features).
        parts: How many features each part has.
        patients: Whose each image is, in a sequence of length images.
        chosen_on: What the images are, in words.
        share: Share of such images that shall pass, above 0 and below 1.
    """
    features = np.asarray(features, dtype=np.float64)
    share = reachable(share, len(set(patients)))
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), _LEAST_SCALE)
    ends = np.cumsum(parts)
    for start, end in zip(ends - parts, ends, strict=True):
        part = InputCheckSpec(_rounded(mean[start:end]), _rounded(scale[start:end]), (int(end - start),), 0, share, "")
        scale[start:end] *= _limit(part.distances(features[:, start:end]), patients, share) or 1
    found = InputCheckSpec(_rounded(mean), _rounded(scale), tuple(parts), 0, share, chosen_on)
    return replace(found, limit=_limit(found.distances(features), patients, share))


def _limit(distances: Scores, patients: Sequence[object], share: float) -> float:
    return min(conformal_quantile(distances, np.asarray(patients), share), float(distances.max()))


def _rounded(values: Features) -> tuple[float, ...]:
    return tuple(float(f"{value:.5g}") for value in values)


def carry_over(known: Features, network: npt.NDArray[Any], others: npt.NDArray[Any]) -> Features:
    """What a file would make of images that only its network was run on.

    A quantized feature is a line of the network's, plus rounding. The rounding of known images is used in turns.

    Args:
        known: Features in the file of images that both were run on, shape (images, features).
        network: Features in the network of the same images.
        others: Features in the network of other images, shape (others, features).
    """
    mean, centre = known.mean(axis=0), network.mean(axis=0, dtype=np.float64)
    variance = ((network - centre) ** 2).mean(axis=0)
    slope = ((known - mean) * (network - centre)).mean(axis=0) / np.where(variance, variance, 1)
    rounding = known - mean - slope * (network - centre)
    return np.asarray(mean + slope * (others - centre) + np.resize(rounding, others.shape))


def held_out_distances(check: InputCheckSpec, features: Features, patients: Sequence[object]) -> Scores:
    """The distances that images would have if the input check had not seen their patients.

    Mean and standard deviation follow the images that they are taken from, so those images are a little nearer than new
    ones. The distances of each part of the patients are taken with mean and standard deviation of the others.

    Args:
        check: From :func:`learn`, on the same images.
        features: Shape (images, features).
        patients: Whose each image is, in a sequence of length images.

    Returns:
        The distances, shape (images,). With a single patient those of the check itself.
    """
    features = np.asarray(features, dtype=np.float64)
    _, of_patient = np.unique(np.asarray(patients), return_inverse=True)
    if of_patient.max() == 0:
        return check.distances(features)
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), _LEAST_SCALE)
    distances, part = np.empty(len(features)), of_patient % _PARTS
    for number in np.unique(part):
        others = features[part != number]
        change = np.maximum(others.std(axis=0), _LEAST_SCALE) / scale
        moved = replace(
            check,
            mean=tuple(np.array(check.mean) + others.mean(axis=0) - mean),
            scale=tuple(np.array(check.scale) * change),
        )
        distances[part == number] = moved.distances(features[part == number])
    return distances
