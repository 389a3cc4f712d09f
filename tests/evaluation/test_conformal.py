from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumo_edge.evaluation.conformal import (
    COUNTERFACTUAL_COVERAGE,
    NEAREST,
    ConformalBounds,
    carry_over,
    conformal_bounds,
    conformal_quantile,
    evaluate_class_sets,
    evaluate_sets,
    widen,
)
from pneumo_edge.evaluation.metrics import Labels, Scores

#: The values of each patient's images, often tied within and between patients.
Patients = list[list[float]]
_value = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
_patients = st.lists(st.lists(_value, min_size=1, max_size=5), min_size=1, max_size=25)
_coverage = st.sampled_from([0.5, 0.8, 0.9, 0.95])


def _flat(patients: Patients) -> tuple[Scores, npt.NDArray[np.intp]]:
    values = [value for images in patients for value in images]
    return np.array(values), np.array([i for i, images in enumerate(patients) for _ in images])


@given(st.lists(_value, min_size=1, max_size=120), _coverage)
def test_with_one_image_a_patient_it_is_the_split_conformal_quantile(values: list[float], coverage: float) -> None:
    # Lei et al., JASA 2018: the ceil((n + 1) coverage)-th smallest.
    rank = math.ceil((len(values) + 1) * Fraction(str(coverage)))
    expected = sorted(values)[rank - 1] if rank <= len(values) else math.inf
    assert conformal_quantile(np.array(values), np.arange(len(values)), coverage) == expected


@given(_patients, _coverage)
def test_it_is_the_smallest_value_with_enough_weight_below(patients: Patients, coverage: float) -> None:
    whole = len(patients) + 1

    def weight_up_to(bound: float) -> Fraction:
        shares = (Fraction(sum(value <= bound for value in images), len(images)) for images in patients)
        return sum(shares, Fraction(0)) / whole

    values = sorted({value for images in patients for value in images})
    enough = [value for value in values if weight_up_to(value) >= Fraction(str(coverage))]
    assert conformal_quantile(*_flat(patients), coverage) == min(enough, default=math.inf)


@given(st.lists(st.lists(_value, min_size=1, max_size=5), min_size=2, max_size=25), _coverage)
def test_an_image_of_a_patient_left_out_is_covered_as_promised(patients: Patients, coverage: float) -> None:
    # Patients that are exchangeable are equally likely to be the one left out, so the mean over them is the chance.
    covered = Fraction(0)
    for i, images in enumerate(patients):
        bound = conformal_quantile(*_flat(patients[:i] + patients[i + 1 :]), coverage)
        covered += Fraction(sum(value <= bound for value in images), len(images))
    assert covered / len(patients) >= Fraction(str(coverage)) - Fraction(1, 10**9)


@given(st.integers(0, 2**32 - 1), _coverage)
def test_it_promises_no_more_than_it_has_to(seed: int, coverage: float) -> None:
    # Without ties, the coverage exceeds what is asked for by one part in as many as there are patients, at most.
    values = np.random.default_rng(seed).permutation(60).astype(np.float64)
    covered = [
        values[i] <= conformal_quantile(np.delete(values, i), np.arange(len(values) - 1), coverage)
        for i in range(len(values))
    ]
    assert coverage <= np.mean(covered) <= coverage + 1 / len(values) + 1e-9


@given(st.integers(0, 2**32 - 1))
def test_each_class_is_covered_however_rare_and_hard_it_is(seed: int) -> None:
    random = np.random.default_rng(seed)
    # One class is rare and near chance; images of a patient resemble each other.
    hits: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(40):
        label = np.repeat((np.arange(101) % 4 == 0).astype(np.int64), 3)
        patients = np.repeat(np.arange(101), 3)
        strength = np.where(label == 1, 0.2, -2.0) + np.repeat(random.normal(0, 1, 101), 3) + random.normal(0, 0.3, 303)
        scores = 1 / (1 + np.exp(-strength))
        for kind in (0, 1):
            left_out = random.choice(patients[label == kind])
            rest = patients != left_out
            bounds = conformal_bounds(label[rest], scores[rest], patients[rest].tolist(), 0.9)
            theirs = scores[~rest]
            inside = theirs >= bounds.least_positive if kind else theirs <= bounds.most_negative
            hits[kind].append(float(inside.mean()))
    # 40 draws with a chance of at least 0.9: fewer than 27 are less likely than one in 10 million.
    assert min(np.sum(hits[0]), np.sum(hits[1])) > 26


def test_a_patient_with_many_images_weighs_as_one() -> None:
    values, patients = _flat([[0.0] * 100, [0.4], [0.6], [0.8]])
    assert conformal_quantile(values, patients, 0.5) == 0.6
    assert conformal_quantile(values, np.arange(len(values)), 0.5) == 0.0


def test_with_too_few_patients_every_set_keeps_both_classes() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])
    assert conformal_bounds(labels, scores, list("abcd"), 0.95) == ConformalBounds(0.0, 1.0)


@pytest.mark.parametrize(
    ("bounds", "threshold", "answered"),
    [
        (ConformalBounds(0.3, 0.7), 0.5, [True, False, False, True]),  # both classes between
        (ConformalBounds(0.7, 0.3), 0.5, [True, False, False, True]),  # none between
        (ConformalBounds(0.3, 0.3), 0.7, [True, False, False, True]),  # the set and the label at odds between
        (ConformalBounds(0.0, 1.0), 0.5, [False] * 4),
    ],
)
def test_an_image_is_answered_where_the_set_is_the_label_alone(
    bounds: ConformalBounds, threshold: float, answered: list[bool]
) -> None:
    labels, scores = np.array([0, 1, 1, 0]), np.array([0.2, 0.4, 0.6, 0.8])
    found = evaluate_sets(labels, scores, threshold, bounds)
    assert found.share.value == np.mean(answered)
    right = (scores >= threshold) == (labels == 1)
    assert found.accuracy_of_all.value == right.mean()
    if any(answered):
        assert found.accuracy.value == right[answered].mean() == 0.5


def test_coverage_is_counted_by_class() -> None:
    labels, scores = np.array([0, 0, 0, 0, 1, 1]), np.array([0.1, 0.1, 0.1, 0.9, 0.9, 0.1])
    found = evaluate_sets(labels, scores, 0.5, ConformalBounds(least_positive=0.6, most_negative=0.4))
    assert [each.value for each in found.by_class] == [0.75, 0.5]
    assert found.coverage.value == pytest.approx(4 / 6)


def test_sets_of_three_classes_are_compared_with_labels_as_those_of_two() -> None:
    labels = np.array([0, 1, 2, 2])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.45, 0.5, 0.05], [0.1, 0.3, 0.6], [0.1, 0.7, 0.2]])
    found = evaluate_class_sets(labels, probabilities, [0.4, 0.3, 0.5])
    # The sets are {0}, {0, 1}, {1, 2} and {1}; the last is answered, and wrong.
    assert [each.value for each in found.by_class] == [1, 1, 0.5]
    assert found.coverage.value == 0.75
    assert (found.share.value, found.accuracy.value, found.accuracy_of_all.value) == (0.5, 0.5, 0.75)
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 50), rng.random(50)
    bounds = ConformalBounds(least_positive=0.3, most_negative=0.6)
    both = np.stack([1 - scores, scores], axis=1)
    assert evaluate_class_sets(labels, both, [0.4, 0.3]) == evaluate_sets(labels, scores, 0.5, bounds)


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        conformal_bounds(np.array([0, 1]), np.array([0.5, 0.5]), ["a"], 0.9)
    with pytest.raises(ValueError, match="coverage is 1"):
        conformal_bounds(np.array([0, 1]), np.array([0.5, 0.5]), ["a", "b"], 1)


def _drawn(images: int = 2000) -> tuple[Labels, Scores]:
    """Labels, and logits whose classes overlap."""
    random = np.random.default_rng(4)
    labels = np.arange(images) % 2
    return labels, random.normal(4.0 * labels - 2, 1.5)


def _probability(logit: Scores | float) -> Scores:
    return np.asarray(1 / (1 + np.exp(-np.asarray(logit))))


def test_answers_near_the_threshold_are_uncertain_and_no_more_than_their_share() -> None:
    labels, logit = _drawn()
    scores, threshold = _probability(logit), 0.6
    # No set of these bounds has more than one class.
    narrow = ConformalBounds(least_positive=0.7, most_negative=0.5)
    found = widen(narrow, labels, scores, {}, range(len(labels)), threshold)
    both = (scores >= found.least_positive) & (scores <= found.most_negative)
    assert both.mean() == pytest.approx(NEAREST, abs=0.002)
    # As far on either side, in logits.
    ends = (math.log(end / (1 - end)) for end in (found.least_positive, found.most_negative, threshold))
    low, high, middle = ends
    assert high - middle == pytest.approx(middle - low)
    # Wider sets stay as they are, and no image is near where all are as far.
    wide = ConformalBounds(0.01, 0.99)
    assert widen(wide, labels, scores, {}, range(len(labels)), threshold) == wide
    assert widen(narrow, labels, np.where(labels == 1, 0.9, 0.1), {}, range(len(labels)), 0.5) == narrow


def test_each_kind_of_changed_images_is_covered() -> None:
    labels, logit = _drawn()
    patients = range(len(labels))
    plain = conformal_bounds(labels, _probability(logit), patients, 0.95)
    changed = {"brighter": _probability(logit + 1.5), "darker": _probability(logit - 1.5)}
    found = widen(plain, labels, _probability(logit), changed, patients, 0.5)
    for scores in changed.values():
        kept = np.where(labels == 1, scores >= found.least_positive, scores <= found.most_negative)
        for place in (0, 1):
            assert kept[labels == place].mean() >= COUNTERFACTUAL_COVERAGE
    assert found.least_positive <= plain.least_positive and found.most_negative >= plain.most_negative


def test_a_change_moves_the_logit_of_a_file_as_far_as_that_of_the_network() -> None:
    reference, changed, scores = (np.array([value]) for value in (0.5, 0.9, 0.1))
    # The logit rises by log 9: the odds of 1 to 9 become 1 to 1.
    assert carry_over(scores, reference, changed) == pytest.approx(0.5)
    assert carry_over(reference, reference, changed) == pytest.approx(0.9)
    assert np.isfinite(carry_over(np.array([1.0]), np.array([0.0]), np.array([1.0]))).all()
