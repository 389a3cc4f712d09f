from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # noqa: TID253
from sklearn.metrics import roc_auc_score
from statsmodels.stats import multitest

from pneumo_edge.evaluation import networks
from pneumo_edge.evaluation.comparison import PatientShares, accuracy_shares, auc_shares, paired_accuracy, paired_auc
from pneumo_edge.evaluation.metrics import Labels, Scores

_LABELS = np.array([0] * 60 + [1] * 90)
_ALONE = [str(image) for image in range(len(_LABELS))]


def _scores(seed: int, trainings: int, distance: float = 2.5) -> list[Scores]:
    generator = np.random.default_rng(seed)
    own = generator.standard_normal(len(_LABELS))
    return [own + 0.4 * generator.standard_normal(len(_LABELS)) + distance * _LABELS for _ in range(trainings)]


def _aucs(of_network: list[Scores], patients: list[str] = _ALONE, labels: Labels = _LABELS) -> list[PatientShares]:
    return [auc_shares(labels, scores, patients) for scores in of_network]


def _kernel(scores: Scores) -> Scores:
    """Whether each positive scores above each negative, pair by pair."""
    difference = scores[_LABELS == 1][:, np.newaxis] - scores[_LABELS == 0][np.newaxis, :]
    return np.asarray((np.sign(difference) + 1) / 2)


@pytest.mark.parametrize("trainings", [(2, 2), (3, 5), (5, 5)])
def test_a_difference_is_that_of_an_implementation_by_pairs_and_scipy(trainings: tuple[int, int]) -> None:
    first, second = _scores(1, trainings[0]), _scores(2, trainings[1], 2.2)
    found = networks.compare(_aucs(first), _aucs(second))

    everything = [*first, *second]
    by_positive = np.array([_kernel(scores).mean(axis=1) for scores in everything])
    by_negative = np.array([_kernel(scores).mean(axis=0) for scores in everything])
    covariance = np.cov(by_positive) / by_positive.shape[1] + np.cov(by_negative) / by_negative.shape[1]
    r1, r2 = trainings
    own, other, crossed = covariance[:r1, :r1], covariance[r1:, r1:], covariance[:r1, r1:]
    shared = own[~np.eye(r1, dtype=bool)].mean() + other[~np.eye(r2, dtype=bool)].mean() - 2 * crossed.mean()
    aucs = [roc_auc_score(_LABELS, scores) for scores in everything]
    between = [np.var(aucs[:r1], ddof=1) / r1, np.var(aucs[r1:], ddof=1) / r2]
    variance = sum(between) + max(0.0, shared)
    freedom = variance**2 / (between[0] ** 2 / (r1 - 1) + between[1] ** 2 / (r2 - 1))

    assert found.value == pytest.approx(np.mean(aucs[:r1]) - np.mean(aucs[r1:]), abs=1e-12)
    assert found.error == pytest.approx(np.sqrt(variance), rel=1e-9)
    expected = min(freedom, len(_LABELS) - 1)
    assert found.freedom == pytest.approx(expected if expected < 30 else np.floor(expected), rel=1e-9)
    half = stats.t.ppf(0.975, found.freedom) * found.error
    interval = found.interval()
    assert half * (1 - 1e-9) <= interval.high - found.value <= half * 1.02
    assert found.value - interval.low == pytest.approx(interval.high - found.value)


def test_trainings_that_are_alike_leave_the_chance_of_patients_alone() -> None:
    (first,), (second,) = _scores(3, 1), _scores(4, 1)
    found = networks.compare(_aucs([first] * 4), _aucs([second] * 4))
    of_files = paired_auc(_LABELS, first, second, _ALONE)
    assert found.error_trainings == pytest.approx(0, abs=1e-12)
    assert found.value == pytest.approx(of_files.value, abs=1e-12)
    assert found.error_patients == pytest.approx((of_files.high - of_files.low) / 2 / stats.norm.ppf(0.975), rel=1e-6)


def test_a_second_image_of_each_patient_tells_nothing() -> None:
    first, second = _scores(5, 3), _scores(6, 3)
    once = networks.compare(_aucs(first), _aucs(second))
    doubled = [[np.tile(scores, 2) for scores in of_network] for of_network in (first, second)]
    patients, labels = [*_ALONE, *_ALONE], np.tile(_LABELS, 2)
    twice = networks.compare(*(_aucs(of_network, patients, labels) for of_network in doubled))
    assert twice.error == pytest.approx(once.error, rel=1e-9)
    assert twice.patients == once.patients


def test_accuracy_is_compared_like_the_auc() -> None:
    first, second = _scores(7, 2), _scores(8, 2)
    right = [[(scores > 1.2) == (_LABELS == 1) for scores in of_network] for of_network in (first, second)]
    found = networks.compare(*([accuracy_shares(each, _ALONE) for each in of_network] for of_network in right))
    assert found.value == pytest.approx(np.mean(right[0]) - np.mean(right[1]))
    of_files = paired_accuracy(right[0][0], right[1][0], _ALONE)
    same = networks.compare(*([accuracy_shares(of_network[0], _ALONE)] * 2 for of_network in right))
    assert same.error == pytest.approx((of_files.high - of_files.low) / 2 / stats.norm.ppf(0.975), rel=1e-6)


def test_more_classes_are_compared_by_their_macro_auc() -> None:
    labels = np.arange(90) % 3
    generator = np.random.default_rng(0)
    patients = [str(image) for image in range(90)]
    of_networks = [[np.eye(3)[labels] + generator.random((90, 3)) * spread for _ in range(3)] for spread in (1.0, 2.5)]
    found = networks.compare(
        *([auc_shares(labels, scores, patients) for scores in of_network] for of_network in of_networks)
    )
    assert found.interval().low > 0
    theirs = [
        np.mean([roc_auc_score(labels == place, scores[:, place]) for place in range(3) for scores in of_network])
        for of_network in of_networks
    ]
    assert found.value == pytest.approx(theirs[0] - theirs[1], abs=1e-9)


@given(st.floats(0.5, 0.999), st.integers(0, 20))
def test_p_values_agree_with_intervals(confidence: float, seed: int) -> None:
    found = networks.compare(_aucs(_scores(seed, 3)), _aucs(_scores(seed + 100, 4)))
    interval = found.interval(confidence)
    for end in (interval.low, interval.high):
        assert found.p(end) == pytest.approx(1 - confidence, rel=1e-4)


def test_networks_without_an_error_are_not_known_to_make_none() -> None:
    perfect = _aucs([_LABELS + 0.0] * 3)
    alone, beside = networks.estimate(perfect).interval(), networks.compare(perfect, perfect)
    assert alone.value == 1 and alone.low < 0.95
    assert beside.interval().low < -0.05 and beside.interval().high > 0.05
    assert beside.p(0.0) == 1
    # The margin of 0.01 lies within, and a margin beyond the interval does not.
    assert beside.p(-0.01) > 0.05 > beside.p(beside.interval().low - 0.01)


def test_one_training_is_no_network() -> None:
    with pytest.raises(ValueError, match="at least two trainings"):
        networks.compare(_aucs(_scores(1, 1)), _aucs(_scores(2, 3)))
    with pytest.raises(ValueError, match="at least two trainings"):
        networks.estimate(_aucs(_scores(1, 1)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    assert networks.holm(p_values) == pytest.approx(multitest.multipletests(p_values, method="holm")[1], abs=1e-12)


def test_nothing_is_corrected_where_nothing_is_asked() -> None:
    assert networks.holm(()) == ()
