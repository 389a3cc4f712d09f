from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats  # noqa: TID253
from statsmodels.stats import contingency_tables

from pneumo_edge.evaluation.comparison import compare_auc, mcnemar, paired_accuracy, paired_auc
from pneumo_edge.evaluation.intervals import LEAST_DIFFERING
from pneumo_edge.evaluation.metrics import Labels, Scores, auc

#: 43 patients of DeLong, DeLong and Clarke-Pearson 1988, as "albumin, total protein, K-G score, outcome".
_DELONG_PATIENTS = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""

Pair = tuple[Labels, Scores, Scores]


def decisions(both: int, first: int, second: int, neither: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which images each of two models decides rightly, from the four counts."""
    counts = (both, first, second, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """Labels, two of each class at least, with two models' scores that may be tied."""
    score = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
    labels = draw(st.permutations([0, 0, 1, 1, *draw(st.lists(st.integers(0, 1), max_size=25))]))
    first, second = (draw(st.lists(score, min_size=len(labels), max_size=len(labels))) for _ in range(2))
    return np.array(labels), np.array(first), np.array(second)


def components(labels: Labels, scores: Scores) -> tuple[Scores, Scores]:
    """V10 and V01 of the paper, from the Mann-Whitney kernel."""
    above, below = scores[labels == 1][:, np.newaxis], scores[labels == 0][np.newaxis]
    kernel = np.where(above > below, 1.0, np.where(above == below, 0.5, 0.0))
    return kernel.mean(axis=1), kernel.mean(axis=0)


# McNemar


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60), st.integers(1, 50))
def test_mcnemar_is_that_of_statsmodels(both: int, first: int, second: int, neither: int) -> None:
    found = mcnemar(*decisions(both, first, second, neither))
    assert (found.only_first_right, found.only_second_right) == (first, second)
    theirs = contingency_tables.mcnemar([[both, first], [second, neither]], exact=True)
    assert found.p == pytest.approx(theirs.pvalue if first + second else 1.0, rel=1e-9)


@pytest.mark.parametrize(
    ("first", "second"), [(0, 0), (0, 1), (1, 1), (624, 0), (40, 75), (4900, 5100), (20_000, 20_500)]
)
def test_mcnemar_stays_exact_for_large_counts(first: int, second: int) -> None:
    found = mcnemar(*decisions(3, first, second, 2))
    theirs = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert found.p == pytest.approx(theirs, rel=1e-9)
    assert found.p == mcnemar(*decisions(3, second, first, 2)).p


def test_mcnemar_is_the_published_one() -> None:
    # Airway hyper-responsiveness before and after stem cell transplantation (Bentur et al. 2009), the worked
    # example of Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91 (2013): exact p = 0.070.
    assert round(mcnemar(*decisions(1, 1, 7, 12)).p, 3) == 0.070


def test_what_both_decide_alike_does_not_count() -> None:
    assert mcnemar(*decisions(0, 5, 12, 1)).p == mcnemar(*decisions(1000, 5, 12, 300)).p


@pytest.mark.parametrize(("first", "second"), [([], []), ([True], [True, False]), ([[True]], [[True]])])
def test_mcnemar_takes_decisions_on_the_same_images(first: list[bool], second: list[bool]) -> None:
    with pytest.raises(ValueError, match="not of the same images"):
        mcnemar(np.array(first, dtype=np.bool_), np.array(second, dtype=np.bool_))


# DeLong


@given(pairs())
@example((np.array([0, 0, 1, 1]), np.full(4, 0.5), np.array([0.1, 0.6, 0.4, 0.9])))
def test_the_comparison_is_the_papers_definition(pair: Pair) -> None:
    labels, first, second = pair
    (first10, first01), (second10, second01) = components(labels, first), components(labels, second)
    # Equation 5 with its covariance, and the contrast (1, -1).
    covariance = np.cov([first10, second10]) / len(first10) + np.cov([first01, second01]) / len(first01)
    variance = float(np.array([1, -1]) @ covariance @ np.array([1, -1]))
    value = first10.mean() - second10.mean()
    found = compare_auc(labels, first, second)
    assert found.difference.value == pytest.approx(value, abs=1e-12)
    spread = stats.norm.ppf(0.975) * math.sqrt(max(0.0, variance))
    differing = np.count_nonzero(first10 != second10) + np.count_nonzero(first01 != second01)
    if differing >= LEAST_DIFFERING and variance > 1e-12:
        assert found.difference.low == pytest.approx(max(-1, value - spread), abs=1e-7)
        assert found.difference.high == pytest.approx(min(1, value + spread), abs=1e-7)
    else:
        assert found.difference.low <= max(-1, value - spread) + 1e-7
        assert found.difference.high >= min(1, value + spread) - 1e-7
        assert found.difference.low < found.difference.high
    if variance > 1e-12:
        assert found.z == pytest.approx(value / math.sqrt(variance), abs=1e-6)
        assert found.p == pytest.approx(2 * stats.norm.sf(abs(value) / math.sqrt(variance)), abs=1e-6)


def test_the_comparison_is_the_published_one_on_delongs_patients() -> None:
    patients = np.array(_DELONG_PATIENTS.split(), np.float64).reshape(-1, 4)
    labels = patients[:, 3].astype(np.int64)
    found = compare_auc(labels, patients[:, 1], -patients[:, 2])
    # Total protein against K-G score, as the SAS/STAT User's Guide prints it (PROC LOGISTIC, "Comparing ROC Curves"):
    # difference, confidence limits, chi-square, p.
    assert found.z is not None
    numbers = (found.difference.value, found.difference.low, found.difference.high, found.z**2, found.p)
    assert numbers == pytest.approx((-0.0780, -0.2830, 0.1271, 0.5554, 0.4561), abs=5.1e-5)


@given(pairs())
def test_the_comparison_depends_on_ranks_alone_and_turns_with_the_order(pair: Pair) -> None:
    labels, first, second = pair
    found = compare_auc(labels, first, second)
    _, ranks = np.unique(first, return_inverse=True)
    assert compare_auc(labels, ranks.astype(float), second) == found
    turned = compare_auc(labels, second, first)
    assert turned.difference.value == pytest.approx(-found.difference.value, abs=1e-12)
    assert turned.p == (found.p if found.p is None else pytest.approx(found.p, abs=1e-9))
    assert found.difference.value == pytest.approx(auc(labels, first) - auc(labels, second), abs=1e-12)


@given(pairs())
def test_a_model_does_not_differ_from_itself(pair: Pair) -> None:
    labels, scores, _ = pair
    found = compare_auc(labels, scores, scores)
    rest = 1 - 0.025 ** (1 / len(labels))
    assert (found.difference.value, found.difference.low, found.difference.high) == pytest.approx((0, -rest, rest))
    assert (found.z, found.p) == (0, 1)


def test_a_difference_without_variance_has_no_test() -> None:
    labels = np.array([0, 0, 1, 1])
    found = compare_auc(labels, np.array([0.1, 0.2, 0.8, 0.9]), np.full(4, 0.5))
    assert (found.difference.value, found.z, found.p) == (0.5, None, None)


def test_equal_models_are_told_apart_one_time_in_twenty() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.array([1, 0]), (120, 80))
    values = []
    for _ in range(1000):
        shared = random.normal(1.2 * labels, 0.8)
        values.append(compare_auc(labels, *(shared + random.normal(0, 0.6, len(labels)) for _ in range(2))).p)
    assert 0.03 < np.mean([value is not None and value < 0.05 for value in values]) < 0.07


@pytest.mark.parametrize(
    ("labels", "first", "second", "message"),
    [
        ([0, 1, 1], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3], "two images of each class"),
        ([1, 1], [0.1, 0.2], [0.1, 0.2], "both classes"),
        ([], [], [], "both classes"),
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, math.nan], [0.1, 0.2, 0.3, 0.4], "NaN"),
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3], "same images"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    labels: list[int], first: list[float], second: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compare_auc(np.array(labels), np.array(first), np.array(second))


# By patient


def make_pair(generator: np.random.Generator, patients: npt.NDArray[np.int64], apart: float = 0.0) -> Pair:
    """Scores of two models on images that resemble those of the same patient."""
    labels = (patients % 2).astype(np.int64)
    own = generator.normal(0, 1, (2, patients.max() + 1))[:, patients]
    noise = generator.normal(0, 0.3, (2, len(patients)))
    first, second = labels + own + noise
    return labels, first + apart * labels, second


def test_where_each_patient_has_one_image_it_is_the_test_of_delong() -> None:
    labels, first, second = make_pair(np.random.default_rng(3), np.arange(120))
    by_patient = paired_auc(labels, first, second, [str(number) for number in range(120)])
    plain = compare_auc(labels, first, second).difference
    assert (by_patient.value, by_patient.low, by_patient.high) == pytest.approx((plain.value, plain.low, plain.high))


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_intervals_by_patient_hold_the_truth_as_often_as_they_say(confidence: float) -> None:
    generator = np.random.default_rng(4)
    patients = np.repeat(np.arange(80), 4)
    names = [str(patient) for patient in patients]
    held = {"auc": 0, "accuracy": 0, "images alone": 0}
    for _ in range(400):
        labels, first, second = make_pair(generator, patients)
        right = [(scores > 0.5) == (labels == 1) for scores in (first, second)]
        found = {
            "auc": paired_auc(labels, first, second, names, confidence),
            "accuracy": paired_accuracy(right[0], right[1], names, confidence),
            "images alone": paired_auc(labels, first, second, [str(i) for i in range(len(labels))], confidence),
        }
        for name, interval in found.items():
            held[name] += interval.low <= 0 <= interval.high
    for name in ("auc", "accuracy"):
        assert held[name] / 400 == pytest.approx(confidence, abs=0.035)
    assert held["images alone"] / 400 < confidence - 0.1


def test_few_images_tell_little_of_a_difference() -> None:
    labels = np.array([0, 0, 1, 1])
    names = ["a", "b", "c", "d"]
    right, wrong = np.ones(4, np.bool_), np.zeros(4, np.bool_)
    for found in (
        paired_auc(labels, np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.9, 0.8, 0.2, 0.1]), names),
        paired_accuracy(right, wrong, names),
    ):
        assert found.value == 1
        assert found.low < 0
    one = paired_auc(labels, np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.9, 0.8, 0.2, 0.1]), ["a"] * 4)
    assert (one.low, one.high) == (-1, 1)
    many = np.repeat(labels, 50)
    all_apart = paired_auc(many, many.astype(float), 1.0 - many, [str(number) for number in range(200)])
    assert all_apart.value == 1
    assert 0.9 < all_apart.low < 1


@pytest.mark.parametrize("fault", ["labels", "patients"])
def test_differences_of_other_images_are_refused(fault: str) -> None:
    labels, scores, names = np.array([0, 1]), np.array([0.1, 0.9]), ["a", "b"]
    with pytest.raises(ValueError, match="not of the same images"):
        paired_auc(
            labels[:1] if fault == "labels" else labels, scores, scores, names[:1] if fault == "patients" else names
        )
    with pytest.raises(ValueError, match="not of the same images"):
        paired_accuracy(labels == 1, labels[:1] == 1, names)
