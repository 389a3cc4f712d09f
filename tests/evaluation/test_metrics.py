from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.metrics
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats  # noqa: TID253

from pneumo_edge.evaluation.metrics import (
    Confusion,
    Labels,
    Scores,
    auc,
    auc_interval,
    confusion,
    grouped_auc,
    roc,
    wilson,
)

#: 43 patients of DeLong, DeLong and Clarke-Pearson 1988, as "albumin, total protein, K-G score, outcome". The areas and
#: intervals are those that the SAS/STAT User's Guide prints for them (PROC LOGISTIC, "Comparing ROC Curves").
_DELONG_PATIENTS = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""

Sample = tuple[Labels, Scores]


@st.composite
def samples(draw: st.DrawFn, least: int = 1) -> Sample:
    """Labels of both classes with scores that may be tied or all equal."""
    score = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
    positives = draw(st.lists(score, min_size=least, max_size=25))
    negatives = draw(st.lists(score, min_size=least, max_size=25))
    order = draw(st.permutations(range(len(positives) + len(negatives))))
    labels = np.array([1] * len(positives) + [0] * len(negatives))
    return labels[order], np.array(positives + negatives)[order]


def kernel(labels: Labels, scores: Scores) -> npt.NDArray[np.float64]:
    """The Mann-Whitney kernel of every positive with every negative, as the paper defines it."""
    return np.array(
        [
            [1.0 if positive > negative else 0.5 if positive == negative else 0.0 for negative in scores[labels == 0]]
            for positive in scores[labels == 1]
        ]
    )


@given(samples())
def test_auc_is_that_of_scikit_learn(sample: Sample) -> None:
    labels, scores = sample
    assert auc(labels, scores) == pytest.approx(sklearn.metrics.roc_auc_score(labels, scores), abs=1e-12)


@given(samples())
def test_auc_depends_on_the_order_of_scores_alone(sample: Sample) -> None:
    labels, scores = sample
    _, ranks = np.unique(scores, return_inverse=True)
    assert auc(labels, ranks.astype(float)) == pytest.approx(auc(labels, scores), abs=1e-12)
    assert auc(labels, -scores) == pytest.approx(1 - auc(labels, scores), abs=1e-12)
    assert auc(1 - labels, -scores) == pytest.approx(auc(labels, scores), abs=1e-12)


def test_auc_at_its_ends_and_without_information() -> None:
    labels = np.array([0, 0, 1, 1])
    assert auc(labels, np.array([0.1, 0.2, 0.3, 0.4])) == 1
    assert auc(labels, np.array([0.4, 0.3, 0.2, 0.1])) == 0
    assert auc(labels, np.full(4, 0.7)) == 0.5


@pytest.mark.parametrize("function", [auc, auc_interval, roc])
@pytest.mark.parametrize("labels", [[0, 0], [1, 1], []])
def test_one_class_alone_has_no_curve(function: object, labels: list[int]) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match="both classes"):
        function(np.array(labels), np.zeros(len(labels)))


@pytest.mark.parametrize("function", [auc, auc_interval, roc])
def test_nan_is_no_score(function: object) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match="NaN"):
        function(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, math.nan]))


@given(samples(least=2))
@example((np.array([0, 0, 1, 1]), np.full(4, 0.5)))
def test_auc_interval_is_the_papers_definition(sample: Sample) -> None:
    labels, scores = sample
    pairs = kernel(labels, scores)
    # S10 and S01 of the paper's equation 5: variances of the structural components.
    s10 = np.cov(pairs.mean(axis=1))
    s01 = np.cov(pairs.mean(axis=0))
    spread = stats.norm.ppf(0.975) * math.sqrt(s10 / pairs.shape[0] + s01 / pairs.shape[1])
    interval = auc_interval(labels, scores)
    assert interval.value == pytest.approx(pairs.mean(), abs=1e-12)
    # No narrower than as many pairs as the smaller class has images, without an error or without a success.
    exact = 0.025 ** (1 / min(pairs.shape))
    low, high = min(exact, pairs.mean() - spread), max(1 - exact, pairs.mean() + spread)
    if low < high:
        assert interval.low == pytest.approx(max(0.0, low), abs=1e-12)
        assert interval.high == pytest.approx(min(1.0, high), abs=1e-12)
    assert interval.low < interval.high


@pytest.mark.parametrize(
    ("column", "sign", "printed"),
    [(0, 1, (0.7366, 0.5549, 0.9182)), (1, 1, (0.6478, 0.4518, 0.8439)), (2, -1, (0.7258, 0.5243, 0.9273))],
    ids=["albumin", "total protein", "K-G score"],
)
def test_auc_interval_is_the_published_one_on_delongs_patients(
    column: int, sign: int, printed: tuple[float, float, float]
) -> None:
    patients = np.array(_DELONG_PATIENTS.split(), np.float64).reshape(-1, 4)
    interval = auc_interval(patients[:, 3].astype(np.int64), sign * patients[:, column])
    assert (interval.value, interval.low, interval.high) == pytest.approx(printed, abs=5e-5)


# Known to cover a little less than it says in small samples.
@pytest.mark.parametrize(("images", "least"), [((30, 30), 0.91), ((120, 80), 0.935)])
def test_auc_interval_covers_the_truth_about_19_times_in_20(images: tuple[int, int], least: float) -> None:
    # Normal scores whose means differ by d have the AUC Phi(d / sqrt(2)).
    truth = stats.norm.cdf(1.2 / math.sqrt(2))
    random = np.random.default_rng(0)
    labels = np.repeat(np.array([1, 0]), images)
    intervals = [auc_interval(labels, random.normal(1.2 * labels, 1.0)) for _ in range(2000)]
    coverage = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    assert least < coverage < 0.965


def test_auc_interval_takes_two_of_each_class() -> None:
    with pytest.raises(ValueError, match="two images of each class"):
        auc_interval(np.array([0, 1, 1]), np.array([0.1, 0.2, 0.3]))


@pytest.mark.parametrize("images", [2, 10, 200])
def test_auc_interval_without_an_error_is_the_exact_one_of_so_many_pairs(images: int) -> None:
    labels = np.repeat(np.array([0, 1]), images)
    interval = auc_interval(labels, np.linspace(0, 1, 2 * images))
    exact = stats.binomtest(images, images).proportion_ci(0.95, method="exact")
    assert (interval.value, interval.low, interval.high) == pytest.approx((1, exact.low, 1))
    turned = auc_interval(1 - labels, np.linspace(0, 1, 2 * images))
    assert (turned.value, turned.low, turned.high) == pytest.approx((0, 0, 1 - exact.low))


@given(st.integers(1, 5000).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
@example((0, 1))
@example((1, 1))
def test_wilson_is_that_of_scipy(counts: tuple[int, int]) -> None:
    successes, trials = counts
    interval = wilson(successes, trials)
    theirs = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert (interval.low, interval.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= interval.low <= interval.value == successes / trials <= interval.high <= 1


@pytest.mark.parametrize(
    ("successes", "trials", "printed"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilson_is_newcombes_table(successes: int, trials: int, printed: tuple[float, float]) -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    interval = wilson(successes, trials)
    assert (interval.low, interval.high) == pytest.approx(printed, abs=5e-5)


def test_nothing_tried_says_nothing() -> None:
    interval = wilson(0, 0)
    assert math.isnan(interval.value)
    assert (interval.low, interval.high) == (0, 1)


@given(st.lists(st.tuples(st.integers(0, 1), st.booleans()), max_size=40))
def test_confusion_is_that_of_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    labels = np.array([label for label, _ in pairs], dtype=np.int64)
    decisions = np.array([decision for _, decision in pairs], dtype=np.bool_)
    counts = confusion(labels, decisions)
    theirs = sklearn.metrics.confusion_matrix(labels, decisions, labels=[0, 1]) if pairs else np.zeros((2, 2))
    assert [
        [counts.true_negatives, counts.false_positives],
        [counts.false_negatives, counts.true_positives],
    ] == theirs.tolist()


@given(st.lists(st.tuples(st.integers(0, 1), st.booleans()), min_size=1, max_size=40))
def test_predictive_values_f1_and_balanced_accuracy_are_those_of_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    labels = np.array([label for label, _ in pairs], dtype=np.int64)
    decisions = np.array([decision for _, decision in pairs], dtype=np.bool_)
    counts = confusion(labels, decisions)
    theirs = {"zero_division": math.nan}
    ppv = sklearn.metrics.precision_score(labels, decisions, **theirs)
    npv = sklearn.metrics.precision_score(1 - labels, ~decisions, **theirs)
    assert [counts.ppv.value, counts.npv.value] == pytest.approx([ppv, npv], nan_ok=True)
    assert counts.f1 == pytest.approx(sklearn.metrics.f1_score(labels, decisions, **theirs), nan_ok=True)
    if len(set(labels)) == 2:
        assert counts.balanced_accuracy == pytest.approx(sklearn.metrics.balanced_accuracy_score(labels, decisions))
    else:
        assert math.isnan(counts.balanced_accuracy)


def test_predictive_values_have_wilsons_interval_among_the_images_called_so() -> None:
    counts = Confusion(true_positives=90, false_negatives=10, true_negatives=40, false_positives=20)
    assert counts.ppv == wilson(90, 110)
    assert counts.npv == wilson(40, 50)


def test_shares_of_a_confusion_by_hand() -> None:
    labels = np.array([1, 1, 1, 0, 0])
    counts = confusion(labels, np.array([True, True, False, False, True]))
    assert counts.sensitivity == wilson(2, 3)
    assert counts.specificity == wilson(1, 2)
    assert counts.accuracy == wilson(3, 5)
    assert str(counts.accuracy) == "0.600 [0.231, 0.882]"


@given(samples())
def test_roc_is_that_of_scikit_learn(sample: Sample) -> None:
    labels, scores = sample
    thresholds, sensitivity, false_positive_rate = roc(labels, scores)
    # scikit-learn starts with a threshold above every score.
    theirs_fpr, theirs_tpr, theirs = (
        part[1:] for part in sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
    )
    np.testing.assert_array_equal(thresholds, theirs)
    np.testing.assert_allclose(sensitivity, theirs_tpr, atol=1e-12)
    np.testing.assert_allclose(false_positive_rate, theirs_fpr, atol=1e-12)


def test_the_interval_by_patient_is_delongs_where_each_image_is_a_patient_and_that_of_the_bootstrap_else() -> None:
    noise = np.random.default_rng(0)
    patients = np.repeat(np.arange(80), 4)
    labels = (patients % 2).astype(np.int64)
    scores = labels + noise.normal(0, 1, 80)[patients] + noise.normal(0, 0.2, len(labels))
    alone = grouped_auc(labels, scores, np.arange(len(labels)))
    delong = auc_interval(labels, scores)
    assert (alone.value, alone.low, alone.high) == pytest.approx((delong.value, delong.low, delong.high), abs=1e-3)
    together = grouped_auc(labels, scores, patients)
    drawn = []
    for _ in range(400):
        # Patients of each class apart, as in the bootstrap of the evaluation.
        chosen = np.concatenate([noise.choice(np.arange(of, 80, 2), 40) for of in (0, 1)])
        rows = np.concatenate([np.flatnonzero(patients == patient) for patient in chosen])
        drawn.append(auc(labels[rows], scores[rows]))
    assert together.high - together.low > 1.5 * (alone.high - alone.low)
    assert (together.high - together.low) / 3.92 == pytest.approx(np.std(drawn), rel=0.2)
    assert grouped_auc(labels, scores, patients, 0.99).low < together.low
