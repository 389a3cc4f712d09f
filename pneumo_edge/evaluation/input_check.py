"""Whether an image resembles those that a model was trained on, from a few features of the network.

The features are whitened principal components of training images: uncorrelated, each with a mean of 0 and a variance
of 1 in the network they were fitted with. A file that was made of that network, quantized or not, has features of its
own, so each is standardized by the file's own mean and standard deviation over validation images. The distance of an
image is then the Mahalanobis distance (Lee et al., NeurIPS 2018) with a diagonal covariance, per feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pneumo_edge.evaluation.conformal import conformal_quantile
from pneumo_edge.evaluation.metrics import Scores

#: Share of the images from where the training images come from that shall pass.
SHARE = 0.99
#: A feature that hardly varies would make everything foreign.
_LEAST_SCALE = 1e-3

Features = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Familiar:
    """What features of familiar images are like; an image is foreign where its distance is more than ``limit``.

    ``mean`` and ``scale`` have shape (features,).
    """

    mean: Features
    scale: Features
    limit: float

    def distances(self, features: Features) -> Scores:
        """Root mean square of the standardized features of images, shape (images,).

        Args:
            features: Shape (images, features).
        """
        return np.asarray(np.sqrt(np.mean(((features - self.mean) / self.scale) ** 2, axis=1)))


def learn(features: Features, patients: Sequence[object], share: float = SHARE) -> Familiar:
    """Learn what familiar images are like.

    The limit is the conformal quantile by patient of :mod:`pneumo_edge.evaluation.conformal`: an image of a new patient
    passes with a probability of about ``share`` (not of at least that, because mean and scale come from the same
    images). With too few patients for it, it is the largest distance.

    Args:
        features: Of images that the network was not fitted to, shape (images, features).
        patients: Whose each image is, in a sequence of length images.
        share: Share of such images that shall pass, above 0 and below 1.
    """
    features = np.asarray(features, dtype=np.float64)
    familiar = Familiar(features.mean(axis=0), np.maximum(features.std(axis=0), _LEAST_SCALE), np.inf)
    distances = familiar.distances(features)
    limit = min(conformal_quantile(distances, np.asarray(patients), share), float(distances.max()))
    return Familiar(familiar.mean, familiar.scale, limit)
