from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # noqa: TID253

from pneumo_edge.evaluation import reliability
from pneumo_edge.evaluation.bootstrap import STATISTICS, DecisionCounts, Predictions, bootstrap, bootstrap_difference
from pneumo_edge.evaluation.metrics import Interval, Labels, Scores, auc, confusion
from pneumo_edge.evaluation.tally import tally

Sample = tuple[Labels, Scores]
_NONE_CALLED = {"zero_division": math.nan}
#: Each of labels, scores and decisions.
_THEIRS: dict[str, Callable[[Any, Any, Any], float]] = {
    "accuracy": lambda y, s, d: sklearn.metrics.accuracy_score(y, d),
    "balanced_accuracy": lambda y, s, d: sklearn.metrics.balanced_accuracy_score(y, d),
    "sensitivity": lambda y, s, d: sklearn.metrics.recall_score(y, d),
    "specificity": lambda y, s, d: sklearn.metrics.recall_score(1 - y, ~d),
    "ppv": lambda y, s, d: sklearn.metrics.precision_score(y, d, **_NONE_CALLED),
    "npv": lambda y, s, d: sklearn.metrics.precision_score(1 - y, ~d, **_NONE_CALLED),
    "f1": lambda y, s, d: sklearn.metrics.f1_score(y, d),
    "auc": lambda y, s, d: sklearn.metrics.roc_auc_score(y, s),
    "brier": lambda y, s, d: sklearn.metrics.brier_score_loss(y, s),
    "ece": lambda y, s, d: reliability.expected_calibration_error(y, s),
}


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Labels of both classes with probabilities that may be tied, 0 or 1."""
    score = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
    labels = draw(st.lists(st.integers(0, 1), min_size=2, max_size=30).filter(lambda drawn: len(set(drawn)) == 2))
    scores = draw(st.lists(score, min_size=len(labels), max_size=len(labels)))
    return np.array(labels), np.array(scores)


def make_scores(labels: Labels, seed: int, noise: float = 0.8) -> Scores:
    """Probabilities that follow the labels, with noise in the logit."""
    logits = np.random.default_rng(seed).normal(2.0 * labels - 1, noise)
    return np.asarray(1 / (1 + np.exp(-2 * logits)))


def alone(labels: Labels) -> list[str]:
    """Each image from a patient of its own."""
    return [f"patient {number:04d}" for number in range(len(labels))]


def ends(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


@given(samples(), st.floats(0, 1), st.data())
@settings(max_examples=50)
def test_each_statistic_of_weighted_images_is_that_of_scikit_learn_on_the_repeated_images(
    sample: Sample, threshold: float, data: st.DataObject
) -> None:
    labels, scores = sample
    times = st.lists(st.integers(0, 3), min_size=len(labels), max_size=len(labels))
    both_classes = times.filter(lambda drawn: len(set(np.repeat(labels, drawn).tolist())) == 2)
    weights = np.array(data.draw(st.lists(both_classes, min_size=1, max_size=3)))
    outcome = DecisionCounts(tally(labels, scores, weights), threshold)
    assert _THEIRS.keys() == STATISTICS.keys()
    for name, statistic in STATISTICS.items():
        theirs = []
        for row in weights:
            repeated = np.repeat(labels, row), np.repeat(scores, row), np.repeat(scores >= threshold, row)
            theirs.append(_THEIRS[name](*repeated))
        assert statistic(outcome).tolist() == pytest.approx(theirs, abs=1e-9, nan_ok=True), name


@given(samples(), st.floats(0, 1))
@settings(max_examples=30)
def test_values_are_those_of_all_images_once(sample: Sample, threshold: float) -> None:
    labels, scores = sample
    found = bootstrap(labels, Predictions(scores, threshold), alone(labels), replicates=20)
    counts = confusion(labels, scores >= threshold)
    assert list(found) == list(STATISTICS)
    assert found["accuracy"].value == pytest.approx(counts.accuracy.value)
    assert found["balanced_accuracy"].value == pytest.approx(counts.balanced_accuracy)
    assert found["ppv"].value == pytest.approx(counts.ppv.value, nan_ok=True)
    assert found["npv"].value == pytest.approx(counts.npv.value, nan_ok=True)
    assert found["f1"].value == pytest.approx(counts.f1)
    assert found["auc"].value == pytest.approx(auc(labels, scores))
    assert found["brier"].value == pytest.approx(reliability.brier_score(labels, scores))
    for name in ("accuracy", "sensitivity", "specificity", "auc", "brier", "ece"):
        assert 0 <= found[name].low <= found[name].high <= 1


def test_single_patients_give_the_plain_bootstrap_of_scipy() -> None:
    labels = np.repeat(np.array([0, 1]), (60, 90))
    scores = make_scores(labels, seed=3)
    found = bootstrap(labels, Predictions(scores, 0.4), alone(labels), replicates=10_000)

    def theirs(compute: Callable[..., Any], *groups: npt.NDArray[Any]) -> tuple[float, float]:
        interval = stats.bootstrap(
            groups, compute, method="percentile", n_resamples=10_000, vectorized=False, random_state=0
        ).confidence_interval
        return float(interval.low), float(interval.high)

    positives, negatives = scores[labels == 1], scores[labels == 0]

    def area(above: Scores, below: Scores) -> float:
        return float(np.mean(above[:, np.newaxis] > below))

    def accuracy(above: Scores, below: Scores) -> float:
        return float((np.sum(above >= 0.4) + np.sum(below < 0.4)) / len(labels))

    def brier(above: Scores, below: Scores) -> float:
        return float((np.sum((1 - above) ** 2) + np.sum(below**2)) / len(labels))

    assert ends(found["sensitivity"])[1:] == pytest.approx(theirs(np.mean, positives >= 0.4), abs=0.012)
    assert ends(found["specificity"])[1:] == pytest.approx(theirs(np.mean, negatives < 0.4), abs=0.018)
    assert ends(found["accuracy"])[1:] == pytest.approx(theirs(accuracy, positives, negatives), abs=0.007)
    assert ends(found["brier"])[1:] == pytest.approx(theirs(brier, positives, negatives), abs=0.003)
    assert ends(found["auc"])[1:] == pytest.approx(theirs(area, positives, negatives), abs=0.003)


def test_copies_of_images_from_the_same_patient_tell_nothing_new() -> None:
    labels = np.repeat(np.array([0, 1]), (20, 30))
    scores = make_scores(labels, seed=5)
    once = bootstrap(labels, Predictions(scores, 0.5), alone(labels), replicates=200)
    copied = bootstrap(np.tile(labels, 4), Predictions(np.tile(scores, 4), 0.5), alone(labels) * 4, replicates=200)
    for name in STATISTICS:
        assert ends(copied[name]) == pytest.approx(ends(once[name]), abs=1e-12)
    as_if_independent = bootstrap(np.tile(labels, 4), Predictions(np.tile(scores, 4), 0.5), alone(np.tile(labels, 4)))
    assert as_if_independent["auc"].high - as_if_independent["auc"].low < 0.7 * (once["auc"].high - once["auc"].low)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_the_order_of_images_does_not_matter(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = np.repeat(np.array([0, 1]), (12, 18))
    scores = np.round(make_scores(labels, seed), 1)
    patients = [f"{label}-{random.integers(6)}" for label in labels]
    order = random.permutation(len(labels))
    found = bootstrap(labels, Predictions(scores, 0.5), patients, replicates=50)
    shuffled = bootstrap(labels[order], Predictions(scores[order], 0.5), [patients[i] for i in order], replicates=50)
    assert found == shuffled


def test_the_other_class_as_the_positive_one_swaps_the_statistics() -> None:
    labels = np.repeat(np.array([0, 1]), (25, 40))
    scores = make_scores(labels, seed=7)
    patients = [f"patient {number // 2}" for number in range(len(labels))]
    found = bootstrap(labels, Predictions(scores, 0.45), patients, replicates=300)
    swapped = bootstrap(1 - labels, Predictions(1 - scores, 0.55), patients, replicates=300)
    pairs = {"sensitivity": "specificity", "specificity": "sensitivity", "ppv": "npv", "npv": "ppv"}
    # F1 looks at one class alone; an image right between two bins of the calibration error goes to the upper one.
    for name in STATISTICS.keys() - {"f1", "ece"}:
        assert ends(swapped[pairs.get(name, name)]) == pytest.approx(ends(found[name]), abs=1e-9), name


def test_perfect_and_constant_scores() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    perfect = bootstrap(labels, Predictions(labels.astype(float), 0.5), alone(labels))
    # What five images show without an error is no certainty: the exact intervals of so many patients.
    behind = {"sensitivity": 2, "ppv": 2, "f1": 2, "auc": 2, "balanced_accuracy": 2, "specificity": 3, "npv": 3}
    for name in STATISTICS:
        exact = 0.025 ** (1 / behind.get(name, 5))
        expected = (0, 0, 1 - exact) if name in ("brier", "ece") else (1, exact, 1)
        assert ends(perfect[name]) == pytest.approx(expected)
    constant = bootstrap(labels, Predictions(np.full(5, 0.3), 0.5), alone(labels))
    assert ends(constant["auc"])[0] == 0.5
    assert ends(constant["sensitivity"]) == pytest.approx((0, 0, 1 - 0.025 ** (1 / 2)))
    assert ends(constant["specificity"]) == pytest.approx((1, 0.025 ** (1 / 3), 1))
    assert all(map(math.isnan, ends(constant["ppv"])))


@pytest.mark.parametrize("images", [2, 5, 40])
def test_no_interval_is_without_width(images: int) -> None:
    labels = np.repeat(np.array([0, 1]), images)
    for scores in (labels.astype(float), 1.0 - labels, np.full(2 * images, 0.5), np.linspace(0, 1, 2 * images)):
        found = bootstrap(labels, Predictions(scores, 0.5), alone(labels), replicates=200)
        other = bootstrap_difference(
            labels, Predictions(scores, 0.5), Predictions(np.sqrt(scores), 0.5), alone(labels), replicates=200
        )
        for interval in (*found.values(), *other.values()):
            assert math.isnan(interval.value) or interval.low < interval.high
            assert math.isnan(interval.value) or interval.low <= interval.value <= interval.high


def test_no_replicate_lacks_a_class() -> None:
    # One positive among many, and a patient with images of both classes.
    labels = np.array([1, 0, 0, 0, 0, 0, 0, 0, 0])
    patients = ["a", "a", "b", "c", "d", "e", "f", "g", "h"]
    found = bootstrap(labels, Predictions(np.linspace(1, 0, 9), 0.5), patients, replicates=2000)
    assert not any(math.isnan(end) for name in STATISTICS for end in ends(found[name]))
    assert ends(found["sensitivity"]) == pytest.approx((1, 0.025, 1))


def test_the_seed_chooses_the_draws() -> None:
    labels = np.repeat(np.array([0, 1]), (30, 30))
    judged = Predictions(make_scores(labels, seed=11), 0.5)
    first, again, other = (bootstrap(labels, judged, alone(labels), seed=seed)["brier"] for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert ends(first) == pytest.approx(ends(other), abs=0.02)


def test_more_replicates_than_fit_into_a_block_are_all_drawn() -> None:
    labels = np.repeat(np.array([0, 1]), (30, 30))
    judged = Predictions(make_scores(labels, seed=13), 0.5)
    few, many = (bootstrap(labels, judged, alone(labels), replicates=n)["brier"] for n in (250, 251))
    assert few != many


def test_the_cluster_interval_covers_the_truth_where_the_plain_one_does_not() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.array([0, 1]), (100, 150))
    patients = [f"{label}-{number // 5}" for number, label in enumerate(labels)]
    truth = stats.norm.cdf(1.0)
    covered = {"cluster": 0, "plain": 0}
    trials = 300
    for _ in range(trials):
        # Variance 1 in all, three quarters of it between patients.
        between = dict(zip(dict.fromkeys(patients), random.normal(0, math.sqrt(0.75), 50), strict=True))
        noise = np.array([between[patient] for patient in patients]) + random.normal(0, 0.5, len(labels))
        judged = Predictions(1 / (1 + np.exp(-(2.0 * labels - 1 + noise))), 0.5)
        for name, clusters in (("cluster", patients), ("plain", alone(labels))):
            found = bootstrap(labels, judged, clusters, statistics=["accuracy"], replicates=300)["accuracy"]
            covered[name] += found.low <= truth <= found.high
    assert 0.89 < covered["cluster"] / trials < 0.98
    assert covered["plain"] / trials < 0.8


def test_a_model_does_not_differ_from_itself() -> None:
    labels = np.repeat(np.array([0, 1]), (20, 30))
    judged = Predictions(make_scores(labels, seed=17), 0.5)
    found = bootstrap_difference(labels, judged, judged, alone(labels), replicates=100)
    # That fifty patients showed no difference leaves open what one in fourteen may show.
    assert ends(found["accuracy"]) == pytest.approx((0, 0.025 ** (1 / 50) - 1, 1 - 0.025 ** (1 / 50)))
    assert all(found[name].low < 0 == found[name].value < found[name].high for name in STATISTICS)
    # A conversion that gives the same answers lost nothing.
    closed = bootstrap_difference(labels, judged, judged, alone(labels), replicates=100, open_ends=False)
    assert all(ends(closed[name]) == (0, 0, 0) for name in STATISTICS)


def test_the_difference_turns_its_sign_with_the_order_of_models() -> None:
    labels = np.repeat(np.array([0, 1]), (20, 30))
    first, second = (Predictions(make_scores(labels, seed), 0.5) for seed in (19, 23))
    patients = [f"patient {number // 3}" for number in range(len(labels))]
    found = bootstrap_difference(labels, first, second, patients)
    turned = bootstrap_difference(labels, second, first, patients)
    for name in STATISTICS:
        value, low, high = ends(found[name])
        assert ends(turned[name]) == pytest.approx((-value, -high, -low), abs=1e-12)


def test_the_difference_of_paired_accuracies_is_that_of_scipy() -> None:
    labels = np.repeat(np.array([0, 1]), (80, 120))
    models = [Predictions(make_scores(labels, seed, noise), 0.5) for seed, noise in ((29, 0.6), (31, 1.2))]
    first, second = models
    found = bootstrap_difference(labels, first, second, alone(labels), replicates=10_000)["accuracy"]
    gains = np.subtract(*(((model.scores >= 0.5) == (labels == 1)).astype(float) for model in models))

    def mean_gain(negatives: Scores, positives: Scores) -> float:
        return float((negatives.sum() + positives.sum()) / len(labels))

    theirs = stats.bootstrap(
        (gains[labels == 0], gains[labels == 1]), mean_gain, method="percentile", n_resamples=10_000,
        vectorized=False, random_state=0,
    ).confidence_interval  # fmt: skip
    assert found.value == pytest.approx(gains.mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    # Images that both judge alike say nothing of the difference: pairing makes it sharper.
    unpaired = [bootstrap(labels, model, alone(labels))["accuracy"] for model in models]
    assert found.high - found.low < sum(interval.high - interval.low for interval in unpaired)


_LABELS, _SCORES = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.6, 0.9])


@pytest.mark.parametrize(
    ("labels", "scores", "threshold", "patients", "options", "message"),
    [
        (np.zeros(4, np.int64), _SCORES, 0.5, "abcd", {}, "both classes"),
        (np.array([], np.int64), np.array([]), 0.5, "", {}, "both classes"),
        (_LABELS, np.array([0.1, 0.2, 0.3, math.nan]), 0.5, "abcd", {}, "not a probability"),
        (_LABELS, 2 * _SCORES, 0.5, "abcd", {}, "not a probability"),
        (_LABELS, _SCORES[:3], 0.5, "abcd", {}, "not one for each image"),
        (np.array([0, 1, 2, 0]), _SCORES, 0.5, "abcd", {}, "neither 0 nor 1"),
        (_LABELS, _SCORES, math.nan, "abcd", {}, "threshold is NaN"),
        (_LABELS, _SCORES, 0.5, "abc", {}, "3 patients for 4 images"),
        (_LABELS, _SCORES, 0.5, "abcd", {"replicates": 0}, "not at least 1"),
        (_LABELS, _SCORES, 0.5, "abcd", {"statistics": ["charm"]}, "charm"),
    ],
)
def test_what_cannot_be_resampled_is_refused(
    labels: Labels, scores: Scores, threshold: float, patients: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap(labels, Predictions(scores, threshold), list(patients), **options)
