from __future__ import annotations

import numpy as np
import pytest

from pneumo_edge.evaluation.tally import tally


def test_images_are_counted_by_class_and_score() -> None:
    labels, scores = np.array([1, 0, 1, 0, 1]), np.array([0.9, 0.2, 0.2, 0.5, 0.9])
    counted = tally(labels, scores)
    assert counted.scores.tolist() == [0.2, 0.5, 0.9]
    assert counted.positives.tolist() == [[1, 0, 2]]
    assert counted.negatives.tolist() == [[1, 1, 0]]
    weighted = tally(labels, scores, np.array([[0, 0, 3, 0, 1], [1, 1, 1, 1, 1]]))
    assert weighted.positives.tolist() == [[3, 0, 1], [1, 0, 2]]
    assert weighted.negatives.tolist() == [[0, 0, 0], [1, 1, 0]]
    assert weighted.images.tolist() == [4, 5]


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([], [], "not one for each image"),
        ([0, 1], [0.5], "not one for each image"),
        ([[0, 1]], [[0.1, 0.2]], "not one for each image"),
        ([0, 2], [0.1, 0.2], "neither 0 nor 1"),
        ([0, 1], [0.1, np.nan], "not a probability"),
        ([0, 1], [0.1, 1.1], "not a probability"),
        ([0, 1], [-0.1, 0.5], "not a probability"),
    ],
)
def test_what_cannot_be_counted_is_refused(labels: list[int], scores: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tally(np.array(labels, dtype=np.int64), np.array(scores, dtype=np.float64))
