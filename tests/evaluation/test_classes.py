"""Metrics of more than two classes, beside scikit-learn's, and beside those of two classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from pneumo_edge.benchmarks import statistics
from pneumo_edge.evaluation import comparison, conformal, metrics, operating_point
from pneumo_edge.evaluation.bootstrap import CLASS_STATISTICS, Predictions, bootstrap, bootstrap_difference
from pneumo_edge.evaluation.outcomes import smaller_class

Case = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Labels of 3 to 5 classes, at least two images of each, and probabilities that agree with them more or less."""
    classes = draw(st.integers(3, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = np.concatenate([np.repeat(np.arange(classes), 2), random.integers(0, classes, draw(st.integers(0, 60)))])
    logits = random.normal(size=(len(labels), classes)) + draw(st.floats(0, 4)) * np.eye(classes)[labels]
    shares = np.exp(logits)
    # Coarse, so that there are ties.
    steps = np.maximum(1, np.rint(shares / shares.sum(axis=1, keepdims=True) * draw(st.sampled_from((8, 1000)))))
    return labels, steps / steps.sum(axis=1, keepdims=True)


@given(cases())
def test_metrics_of_several_classes_are_those_of_scikit_learn(case: Case) -> None:
    labels, scores = case
    called = metrics.decide(scores, None)
    counts = metrics.tabulate(labels, scores, None)
    assert isinstance(counts, metrics.ConfusionMatrix)
    assert np.array_equal(np.array(counts.counts), confusion_matrix(labels, called, labels=range(scores.shape[1])))
    assert counts.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, called))
    recalls = recall_score(labels, called, average=None, labels=range(scores.shape[1]))
    assert [each.sensitivity.value for each in counts.by_class] == pytest.approx(recalls)
    assert metrics.auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores, multi_class="ovr"))
    each_auc = roc_auc_score(labels, scores, multi_class="ovr", average=None)
    assert metrics.class_aucs(labels, scores) == pytest.approx(each_auc)
    assert operating_point.log_loss(labels, scores) == pytest.approx(log_loss(labels, scores))


@given(cases())
def test_the_bootstrap_of_several_classes_gives_the_values_of_scikit_learn(case: Case) -> None:
    labels, scores = case
    patients = [f"p{index // 2}" for index in range(len(labels))]
    found = bootstrap(labels, Predictions(scores, None), patients, replicates=20)
    assert set(found) == {
        "accuracy",
        "balanced_accuracy",
        "specificity",
        "precision",
        "f1",
        "auc",
        "least_auc",
        "brier",
    }
    called = scores.argmax(axis=1)
    macro = {"average": "macro", "zero_division": 0, "labels": range(scores.shape[1])}
    assert found["precision"].value == pytest.approx(precision_score(labels, called, **macro))
    assert found["f1"].value == pytest.approx(f1_score(labels, called, **macro))
    assert found["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(labels, called))
    assert found["auc"].value == pytest.approx(roc_auc_score(labels, scores, multi_class="ovr"))
    each_auc = roc_auc_score(labels, scores, multi_class="ovr", average=None)
    assert found["least_auc"].value == pytest.approx(min(each_auc))
    assert found["brier"].value == pytest.approx(brier_score_loss(labels, scores, scale_by_half=True))
    for interval in found.values():
        assert 0 <= interval.low < interval.high <= 1


def _two(seed: int = 3, images: int = 300) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Labels of two classes, and probabilities of class 1."""
    random = np.random.default_rng(seed)
    labels = (random.random(images) < 0.4).astype(np.int64)
    return labels, 1 / (1 + np.exp(-random.normal(2 * labels - 1, 1.5)))


def _of_both(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.stack([1 - scores, scores], axis=1)


def test_two_classes_give_the_same_as_any_number_of_them() -> None:
    """The macro average over both of two classes is the metric of the one that is looked for."""
    labels, first = _two()
    second = np.clip(first + np.random.default_rng(5).normal(0, 0.2, len(first)), 0, 1)
    patients = [f"p{index // 3}" for index in range(len(labels))]
    whole, binary = metrics.auc_interval(labels, _of_both(first)), metrics.auc_interval(labels, first)
    assert (whole.value, whole.low, whole.high) == pytest.approx((binary.value, binary.low, binary.high))
    one = comparison.compare_auc(labels, _of_both(first), _of_both(second))
    other = comparison.compare_auc(labels, first, second)
    assert one.p == pytest.approx(other.p) and one.difference.low == pytest.approx(other.difference.low)
    macro = comparison.paired_auc(labels, _of_both(first), _of_both(second), patients)
    paired = comparison.paired_auc(labels, first, second, patients)
    assert macro.value == pytest.approx(paired.value)
    assert macro.high - macro.low == pytest.approx(paired.high - paired.low, rel=0.02)
    weighted = [(1.0, first), (-1.0, second)]
    contrast = statistics.auc_contrast(labels, weighted)
    several = statistics.auc_contrast(labels, [(weight, _of_both(scores)) for weight, scores in weighted])
    assert (several.value, several.low) == pytest.approx((contrast.value, contrast.low))
    names = ("accuracy", "balanced_accuracy", "auc", "brier")
    drawn = bootstrap_difference(
        labels, Predictions(_of_both(first), None), Predictions(_of_both(second), None), patients, statistics=names
    )
    # Decided at one half, and by argmax: the same, but for ties.
    expected = bootstrap_difference(
        labels, Predictions(first, 0.5), Predictions(second, 0.5), patients, statistics=names
    )
    for name in names:
        assert drawn[name].value == pytest.approx(expected[name].value)
        assert drawn[name].low == pytest.approx(expected[name].low)


@given(cases())
def test_the_temperature_is_that_of_the_least_multinomial_loss(case: Case) -> None:
    labels, scores = case
    found = operating_point.fit_temperature(labels, scores)

    def loss(logarithm: float) -> float:
        return operating_point.log_loss(labels, operating_point.rescale(scores, float(np.exp(logarithm))))

    if found != 1.0:
        assert loss(float(np.log(found))) <= min(map(loss, np.linspace(np.log(0.05), np.log(20), 400))) + 1e-6
    rescaled = operating_point.rescale(scores, found)
    assert rescaled.sum(axis=1) == pytest.approx(1)
    assert np.array_equal(rescaled.argmax(axis=1), scores.argmax(axis=1))


def test_a_temperature_brings_overconfident_classes_back() -> None:
    random = np.random.default_rng(1)
    logits = random.normal(size=(4000, 4))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(4, p=row) for row in shares])
    too_sure = operating_point.rescale(shares, 1 / 3)
    assert operating_point.fit_temperature(labels, too_sure) == pytest.approx(3, rel=0.1)


def test_prediction_sets_have_the_class_of_a_new_patient_as_often_as_they_promise() -> None:
    random = np.random.default_rng(2)
    labels = random.integers(0, 3, 6000)
    logits = random.normal(size=(6000, 3)) + 1.5 * np.eye(3)[labels]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    known, new = slice(0, 3000), slice(3000, 6000)
    bounds = conformal.class_bounds(labels[known], scores[known], range(3000), 0.9)
    kept = scores[new] >= np.array(bounds)
    for label in range(3):
        chosen = labels[new] == label
        assert kept[chosen, label].mean() == pytest.approx(0.9, abs=0.03)
    # Of two patients no such coverage can be promised: their class is always in the set.
    assert conformal.class_bounds(labels[:6], scores[:6], ["a", "b"] * 3, 0.9) == (0.0, 0.0, 0.0)


def test_the_rules_of_two_classes_and_of_more_are_not_mixed_up() -> None:
    labels, scores = _two()
    with pytest.raises(ValueError, match="is not for scores of shape"):
        operating_point.choose_threshold(operating_point.ThresholdRule.YOUDEN, labels, _of_both(scores))
    with pytest.raises(ValueError, match="is not for scores of shape"):
        operating_point.choose_threshold(operating_point.ThresholdRule.ARGMAX, labels, scores)
    with pytest.raises(ValueError, match="is not for scores of shape"):
        Predictions(scores, None)
    assert operating_point.choose_threshold(operating_point.ThresholdRule.ARGMAX, labels, _of_both(scores)) is None


def test_a_class_that_is_missing_is_told() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.full((4, 3), 1 / 3)
    with pytest.raises(ValueError, match="at least two images of each class"):
        metrics.auc_interval(labels, scores)
    with pytest.raises(ValueError, match="every class"):
        bootstrap(labels, Predictions(scores, None), list("abcd"))
    with pytest.raises(ValueError, match="not among"):
        bootstrap(np.array([0, 1, 2, 2]), Predictions(scores, None), list("abcd"), statistics=("sensitivity",))
    assert "sensitivity" not in CLASS_STATISTICS


def test_the_smallest_of_several_classes_decides_whether_images_are_enough() -> None:
    labels = np.array([0] * 50 + [1] * 40 + [2] * 3)
    assert smaller_class(labels, [f"p{index // 3}" for index in range(93)]) == (3, 1)


def test_macro_intervals_hold_their_value_and_grow_narrow_with_images() -> None:
    few, many = (
        metrics.ConfusionMatrix(
            tuple(tuple(factor * count for count in row) for row in ((8, 1, 1), (2, 6, 2), (0, 1, 9)))
        )
        for factor in (1, 100)
    )
    for share, wide in ((many.sensitivity, few.sensitivity), (many.specificity, few.specificity)):
        assert wide.low < share.low < share.value < share.high < wide.high
        assert share.value == pytest.approx(wide.value)
