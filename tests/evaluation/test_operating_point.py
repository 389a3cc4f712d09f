from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import optimize  # noqa: TID253

from pneumo_edge.evaluation.metrics import Labels, Scores
from pneumo_edge.evaluation.operating_point import (
    ThresholdRule,
    choose_threshold,
    fit_temperature,
    log_loss,
    rescale,
    sensitivity_threshold,
    youden_threshold,
)

Sample = tuple[Labels, Scores]


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Labels of both classes with probabilities as a model gives them: float32, often tied, 0 and 1 included."""
    score = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
    labels = draw(st.lists(st.integers(0, 1), min_size=2, max_size=40).filter(lambda drawn: len(set(drawn)) == 2))
    scores = draw(st.lists(score, min_size=len(labels), max_size=len(labels)))
    return np.array(labels), np.array(scores)


def _youden(labels: Labels, scores: Scores, threshold: float) -> float:
    positive = scores >= threshold
    return float(positive[labels == 1].mean() - positive[labels == 0].mean())


@given(samples())
def test_no_other_threshold_has_a_larger_youden_index(sample: Sample) -> None:
    labels, scores = sample
    best = max(_youden(labels, scores, threshold) for threshold in scores)
    threshold = youden_threshold(labels, scores)
    assert 0 <= threshold <= 1
    assert _youden(labels, scores, threshold) == pytest.approx(best, abs=1e-12)


@given(samples())
def test_the_threshold_is_at_the_edge_of_no_score(sample: Sample) -> None:
    labels, scores = sample
    threshold = youden_threshold(labels, scores)
    assert threshold == 0 or threshold not in scores


def test_the_threshold_is_midway_between_two_scores() -> None:
    assert youden_threshold(np.array([0, 0, 1, 1]), np.array([0.125, 0.25, 0.75, 1.0])) == 0.5


def test_of_equal_indices_the_highest_threshold_is_taken() -> None:
    # At 0.9 and at 0.3 the index is 1/3, computed once as 1/3 - 0 and once as 3/3 - 2/3.
    labels = np.array([1, 0, 0, 1, 1, 0])
    scores = np.array([0.9, 0.8, 0.7, 0.5, 0.3, 0.1])
    assert youden_threshold(labels, scores) == pytest.approx(0.85)


def test_where_scores_tell_nothing_everything_is_called_positive() -> None:
    labels, scores = np.array([0, 1, 0]), np.full(3, 0.6)
    assert (scores >= youden_threshold(labels, scores)).all()


def test_a_threshold_takes_both_classes() -> None:
    with pytest.raises(ValueError, match="both classes"):
        youden_threshold(np.array([1, 1]), np.array([0.1, 0.9]))


@given(samples())
@example((np.array([0, 1]), np.array([0.0, 1.0])))
@example((np.array([0, 1]), np.array([1.0, 0.0])))
def test_no_other_temperature_has_a_lower_log_loss(sample: Sample) -> None:
    labels, scores = sample
    temperature = fit_temperature(labels, scores)
    assert 0.05 <= temperature <= 20

    def loss(log_temperature: float) -> float:
        return log_loss(labels, rescale(scores, float(np.exp(log_temperature))))

    if all(score != 0.5 and (score > 0.5) == bool(label) for label, score in zip(labels, scores, strict=True)):
        assert temperature == 1, "no image says that the model is too sure, nor how sure it may be"
        return
    theirs = optimize.minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    assert loss(np.log(temperature)) <= theirs.fun + 1e-5


@pytest.mark.parametrize("truth", [0.4, 1.0, 2.5])
def test_the_temperature_that_spoiled_the_probabilities_is_found(truth: float) -> None:
    random = np.random.default_rng(1)
    calibrated = 1 / (1 + np.exp(-random.normal(0, 2, 20_000)))
    labels = (random.random(20_000) < calibrated).astype(np.int64)
    assert fit_temperature(labels, rescale(calibrated, 1 / truth)) == pytest.approx(truth, rel=0.05)


def test_probabilities_are_not_driven_to_the_ends_by_a_validation_that_is_easy() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.6, 0.9])
    np.testing.assert_allclose(rescale(scores, fit_temperature(labels, scores)), scores)


@given(samples(), st.floats(0.05, 20))
def test_a_temperature_keeps_the_order_of_scores(sample: Sample, temperature: float) -> None:
    _, scores = sample
    rescaled = rescale(scores, temperature)
    assert ((rescaled >= 0) & (rescaled <= 1)).all()
    assert (np.diff(rescaled[np.argsort(scores)]) >= 0).all()
    # Nothing crosses one half.
    assert ((rescaled >= 0.5) == (scores >= 0.5)).all() or np.isclose(scores, 0.5, atol=1e-6).any()


@given(st.floats(1e-6, 1 - 1e-6))
def test_temperature_one_changes_nothing(score: float) -> None:
    assert rescale(np.array([score]), 1.0)[0] == pytest.approx(score, rel=1e-9)


@given(samples())
def test_log_loss_is_that_of_scikit_learn(sample: Sample) -> None:
    labels, scores = sample
    scores = np.clip(scores, 1e-7, 1 - 1e-7)
    assert log_loss(labels, scores) == pytest.approx(sklearn.metrics.log_loss(labels, scores), rel=1e-9)


def test_a_sure_error_costs_a_finite_loss() -> None:
    assert log_loss(np.array([0, 1]), np.array([1.0, 0.0])) == pytest.approx(-np.log(1e-7), rel=1e-6)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1.0))
def test_the_sensitivity_threshold_is_the_highest_that_keeps_it(seed: int, least: float) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], rng.integers(0, 2, 30)])
    scores = rng.integers(0, 12, 32) / 11
    threshold = sensitivity_threshold(labels, scores, least)
    positives = scores[labels == 1]
    assert np.mean(positives >= threshold) >= least - 1e-9
    higher = scores[scores >= threshold].min()
    assert np.mean(positives > higher) < least, "a higher threshold would keep it as well"


def test_the_rule_decides_the_threshold() -> None:
    labels = np.array([0] * 50 + [1] * 100)
    scores = np.concatenate([np.linspace(0.0, 0.4, 50), np.linspace(0.5, 0.995, 100)])
    youden = choose_threshold(ThresholdRule.YOUDEN, labels, scores)
    sensitive = choose_threshold(ThresholdRule.SENSITIVITY_95, labels, scores)
    assert youden == pytest.approx(0.45)
    assert np.mean(scores[labels == 1] >= sensitive) == pytest.approx(0.95)
