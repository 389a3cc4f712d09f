"""Counts images by class and score, for many weightings of the same images at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pneumo_edge.evaluation.metrics import Labels, Scores

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tally:
    """How many images of each class have each score.

    ``scores`` are distinct and ascending, shape (scores,), within 0 to 1. ``positives`` and ``negatives``
    have shape (weightings, scores); a weighting may leave images out or count them more than once.
    """

    scores: Scores
    positives: Counts
    negatives: Counts

    @property
    def images(self) -> Counts:
        """Images in all, shape (weightings,)."""
        return np.asarray((self.positives + self.negatives).sum(axis=1))


def tally(labels: Labels, scores: Scores, weights: Counts | None = None) -> Tally:
    """Count images by class and score.

    Args:
        labels: 0 or 1, shape (images,).
        scores: Probabilities of class 1, shape (images,).
        weights: How often each image counts, shape (weightings, images); by default once.

    Raises:
        ValueError: There are no images, the shapes do not fit, a label is neither 0 nor 1, or a score is
            not within 0 to 1.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    _check(labels, scores)
    if weights is None:
        weights = np.ones((1, len(labels)), dtype=np.int64)
    order = np.argsort(scores, kind="stable")
    distinct, starts = np.unique(scores[order], return_index=True)
    sorted_weights, is_positive = weights[:, order], labels[order] == 1
    positives, negatives = (
        np.add.reduceat(sorted_weights * chosen, starts, axis=1) for chosen in (is_positive, ~is_positive)
    )
    return Tally(distinct, positives, negatives)


def _check(labels: Labels, scores: Scores) -> None:
    if labels.ndim != 1 or labels.shape != scores.shape or not len(labels):
        raise ValueError(
            f"labels of shape {labels.shape} and scores of shape {scores.shape} are not one for each image"
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("a label is neither 0 nor 1")
    # Written so that NaN fails it.
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("a score is not a probability within 0 to 1")
