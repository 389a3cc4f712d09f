from __future__ import annotations

import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics
from hypothesis import example, given
from hypothesis import strategies as st

from pneumo_edge.evaluation.metrics import Labels, Scores, wilson
from pneumo_edge.evaluation.reliability import (
    brier_score,
    calibration_error_by_chance,
    expected_calibration_error,
    reliability,
)

Sample = tuple[Labels, Scores]


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Labels, of one class or both, with probabilities that may be tied, 0 or 1."""
    score = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
    labels = draw(st.lists(st.integers(0, 1), min_size=1, max_size=60))
    scores = draw(st.lists(score, min_size=len(labels), max_size=len(labels)))
    return np.array(labels), np.array(scores)


def _ece_by_hand(labels: Labels, scores: Scores, bins: int) -> float:
    """Sort, hand out the images to bins one after the other, ties going where their middle one goes."""
    ranked = sorted(zip(scores.tolist(), labels.tolist(), strict=True))
    contents: list[list[tuple[float, int]]] = [[] for _ in range(bins)]
    for score in dict.fromkeys(score for score, _ in ranked):
        tied = [pair for pair in ranked if pair[0] == score]
        before = sum(pair[0] < score for pair in ranked)
        contents[int(bins * (before + len(tied) / 2) / len(ranked))] += tied
    return sum(abs(sum(score - label for score, label in inside)) for inside in contents) / len(ranked)


@given(samples())
def test_brier_score_is_that_of_scikit_learn(sample: Sample) -> None:
    labels, scores = sample
    assert brier_score(labels, scores) == pytest.approx(
        sklearn.metrics.brier_score_loss(labels, scores, pos_label=1), abs=1e-12
    )


@given(samples(), st.integers(1, 12))
@example((np.array([0, 1, 1]), np.full(3, 0.7)), 10)
def test_calibration_error_is_the_definition(sample: Sample, bins: int) -> None:
    labels, scores = sample
    assert expected_calibration_error(labels, scores, bins) == pytest.approx(
        _ece_by_hand(labels, scores, bins), abs=1e-9
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_rows_are_the_quantile_bins_of_scikit_learn(seed: int, bins: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.random(bins * 7)
    labels = (random.random(len(scores)) < scores).astype(np.int64)
    observed, predicted = sklearn.calibration.calibration_curve(labels, scores, n_bins=bins, strategy="quantile")
    rows = reliability(labels, scores, bins)
    assert [row.images for row in rows] == [7] * bins
    assert [row.mean_probability for row in rows] == pytest.approx(predicted.tolist())
    assert [row.observed for row in rows] == [wilson(round(7 * share), 7) for share in observed]
    error = np.mean(np.abs(observed - predicted))
    assert expected_calibration_error(labels, scores, bins) == pytest.approx(error)


@given(samples(), st.randoms(use_true_random=False), st.integers(1, 12))
def test_the_order_of_images_does_not_matter(sample: Sample, random: object, bins: int) -> None:
    labels, scores = sample
    order = np.random.default_rng(len(labels)).permutation(len(labels))
    assert reliability(labels, scores, bins) == reliability(labels[order], scores[order], bins)
    assert expected_calibration_error(labels, scores, bins) == expected_calibration_error(
        labels[order], scores[order], bins
    )


@given(samples())
def test_rows_hold_every_image_once_and_rise(sample: Sample) -> None:
    labels, scores = sample
    rows = reliability(labels, scores)
    assert sum(row.images for row in rows) == len(labels)
    assert sum(row.images * row.observed.value for row in rows) == pytest.approx(labels.sum())
    probabilities = [row.mean_probability for row in rows]
    assert probabilities == sorted(probabilities)


@given(samples())
def test_both_errors_stay_in_their_range_and_are_the_same_for_either_class(sample: Sample) -> None:
    labels, scores = sample
    error, brier = expected_calibration_error(labels, scores), brier_score(labels, scores)
    assert 0 <= error <= 1
    assert 0 <= brier <= 1
    assert brier_score(1 - labels, 1 - scores) == pytest.approx(brier, abs=1e-12)
    # Jensen: no bin is further from the truth than its images are.
    assert error**2 <= brier + 1e-12


def test_certain_and_right_and_certain_and_wrong() -> None:
    labels = np.array([0, 1, 0, 1])
    assert expected_calibration_error(labels, labels.astype(float)) == brier_score(labels, labels.astype(float)) == 0
    assert expected_calibration_error(labels, 1.0 - labels) == brier_score(labels, 1.0 - labels) == 1


def test_one_probability_for_all_is_one_bin() -> None:
    labels, scores = np.array([0, 1, 1, 1]), np.full(4, 0.5)
    (row,) = reliability(labels, scores)
    assert (row.images, row.mean_probability, row.observed) == (4, 0.5, wilson(3, 4))
    assert expected_calibration_error(labels, scores) == 0.25


def test_chance_alone_is_what_calibrated_models_show() -> None:
    random = np.random.default_rng(0)
    scores = np.round(1 / (1 + np.exp(-random.normal(0, 3, 300))), 2)
    by_chance = calibration_error_by_chance(scores)
    errors = [expected_calibration_error((random.random(300) < scores).astype(np.int64), scores) for _ in range(2000)]
    assert by_chance.value == pytest.approx(np.mean(errors), rel=0.05)
    assert (by_chance.low, by_chance.high) == pytest.approx(np.quantile(errors, (0.025, 0.975)), rel=0.1)
    assert calibration_error_by_chance(random.permutation(scores)) == by_chance


def test_an_overconfident_model_shows_more_than_chance() -> None:
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, 600)
    labels = (random.random(600) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    scores = 1 / (1 + np.exp(-3 * logits))
    assert expected_calibration_error(labels, scores) > calibration_error_by_chance(scores).high


def test_certain_probabilities_leave_nothing_to_chance() -> None:
    by_chance = calibration_error_by_chance(np.array([0.0, 1.0, 1.0]))
    assert (by_chance.value, by_chance.low, by_chance.high) == (0, 0, 0)


@pytest.mark.parametrize("bins", [0, -1])
def test_there_is_at_least_one_bin(bins: int) -> None:
    labels, scores = np.array([0, 1]), np.array([0.2, 0.9])
    for compute in (expected_calibration_error, reliability):
        with pytest.raises(ValueError, match="not at least 1"):
            compute(labels, scores, bins)


@pytest.mark.parametrize("scores", [[0.5, np.nan], [0.5, 1.5]])
def test_what_is_no_probability_is_refused(scores: list[float]) -> None:
    for compute in (brier_score, expected_calibration_error, reliability):
        with pytest.raises(ValueError, match="not a probability"):
            compute(np.array([0, 1]), np.array(scores))
    with pytest.raises(ValueError, match="not a probability"):
        calibration_error_by_chance(np.array(scores))
