from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats  # noqa: TID253

from pneumo_edge.evaluation import drift
from pneumo_edge.evaluation.input_check import held_out_distances, learn
from pneumo_edge.evaluation.metrics import Scores

_NAME = "PNEUMONIA"


def _clusters(random: np.random.Generator, patients: int, alike: float) -> tuple[Scores, Scores, list[int]]:
    """Probabilities, distances and patients; images of a patient are alike by that share of the variance."""
    images = random.choice((1, 1, 1, 2, 2, 4), patients)
    whose = np.repeat(np.arange(patients), images)

    def values() -> Scores:
        own = random.normal(size=len(whose))
        return np.asarray(math.sqrt(alike) * random.normal(size=patients)[whose] + math.sqrt(1 - alike) * own)

    return 1 / (1 + np.exp(-3 * values())), np.exp(values() / 3), whose.tolist()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300))
def test_every_validation_image_is_counted_in_intervals_of_about_equal_size(values: list[float]) -> None:
    found = drift.histogram(np.array(values))
    assert sum(found.counts) == len(values)
    edges = np.array([-np.inf, *found.edges, np.inf])
    for count, low, high in zip(found.counts, edges, edges[1:], strict=False):
        assert count == sum(low < value <= high for value in values)


def test_a_histogram_of_different_values_has_as_many_in_each_interval() -> None:
    found = drift.histogram(np.random.default_rng(0).normal(size=1000))
    # An edge has seven digits, so it may lie on the other side of the value that it is made from.
    assert len(found.counts) == 100 and {9, 10, 11} >= set(found.counts)


@pytest.mark.parametrize("scaled", [0.01, 0.2, 0.3, 0.5, 0.828, 1.0, 1.358, 2.0, 5.0])
def test_the_distribution_of_kolmogorov_is_that_of_scipy(scaled: float) -> None:
    assert drift.kolmogorov(scaled) == pytest.approx(special.kolmogorov(scaled), abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(200, 2000), st.integers(200, 2000), st.floats(0, 0.4))
def test_statistic_and_p_value_are_those_of_scipy(seed: int, validation: int, others: int, shift: float) -> None:
    """Up to the intervals: between two edges the statistic may be larger by the share of an interval."""
    random = np.random.default_rng(seed)
    first, second = random.normal(size=validation), random.normal(shift, size=others)
    described = drift.describe({_NAME: first}, None, range(validation), "a test")
    (found,) = drift.compare(described, {None: drift.count(described, {_NAME: second}, None)})
    theirs = stats.ks_2samp(first, second, method="asymp")
    assert theirs.statistic - 0.02 <= found.statistic <= theirs.statistic + 1e-9
    again = special.kolmogorov(found.statistic * math.sqrt(validation * others / (validation + others)))
    assert found.p == pytest.approx(again, abs=0.03)
    at_level = drift.kolmogorov(found.statistic_by_chance * math.sqrt(validation * others / (validation + others)))
    assert at_level == pytest.approx(drift.LEVEL, abs=0.01)


def test_the_index_is_that_of_its_definition_and_by_chance_that_of_chi_square() -> None:
    expected = np.full(10, 0.1)
    shares = np.array([0.05, 0.15, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert drift.stability_index(shares, expected) == pytest.approx(0.05 * math.log(2) + 0.05 * math.log(1.5))
    assert np.isfinite(drift.stability_index(np.eye(10)[0], expected))
    # Yurdakul and Naranjo (Journal of Risk Model Validation 14, 2020).
    for validation, others in ((2000, 1000), (5000, 50_000)):
        theirs = (1 / validation + 1 / others) * stats.chi2.ppf(0.95, 9)
        assert drift.index_by_chance(expected, validation, others) == pytest.approx(theirs, rel=0.08)


def test_counts_of_parts_add_up() -> None:
    random = np.random.default_rng(0)
    probabilities, distances, patients = _clusters(random, 60, 0.5)
    described = drift.describe({_NAME: probabilities}, distances, patients, "a test")
    whole = drift.count(described, {_NAME: probabilities}, distances)
    parts = [drift.count(described, {_NAME: probabilities[at]}, distances[at]) for at in (slice(20), slice(20, None))]
    assert drift.compare(described, {None: parts[0] + parts[1]}) == drift.compare(described, {None: whole})
    (distance, probability) = drift.compare(described, {None: whole})
    assert (distance.number, probability.class_name, probability.images) == ("distance", _NAME, len(patients))
    # These are the validation images themselves.
    assert distance.statistic == probability.statistic == distance.index == 0
    assert distance.p == 1 and not distance.drift


@pytest.mark.parametrize(
    ("alike", "validation", "others"), [(0.0, 60, 60), (1.0, 60, 60), (1.0, 60, 1000), (1.0, 300, 100)]
)
def test_images_of_other_patients_raise_an_alarm_in_at_most_5_percent(
    alike: float, validation: int, others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It takes most of the time and has no part in the rule.
    monkeypatch.setattr(drift, "_by_chance", lambda *_: 0.0)
    random, alarms, trials = np.random.default_rng(1), 0, 200
    for _ in range(trials):
        probabilities, distances, patients = _clusters(random, validation, alike)
        described = drift.describe({_NAME: probabilities}, distances, patients, "a test")
        groups: dict[str | None, drift.Counted] = {}
        for group in (None, "monday", "tuesday"):
            drawn, far, _ = _clusters(random, others, alike)
            groups[group] = drift.count(described, {_NAME: drawn}, far)
        alarms += any(each.drift for each in drift.compare(described, groups))
    # With a chance of 5 %, more happen in 2 % of cases; the numbers are drawn with a fixed seed.
    assert alarms <= stats.binom.ppf(0.98, trials, drift.LEVEL)


def test_a_shift_is_found_in_the_group_that_has_it_and_small_groups_are_not_compared() -> None:
    random = np.random.default_rng(2)
    probabilities, distances, patients = _clusters(random, 300, 0.5)
    described = drift.describe({_NAME: probabilities}, distances, patients, "a test")
    groups: dict[str | None, drift.Counted] = {}
    for group, shift in (("monday", 1.0), ("tuesday", 1.4)):
        drawn, far, _ = _clusters(random, 200, 0.5)
        groups[group] = drift.count(described, {_NAME: drawn}, shift * far)
    groups["wednesday"] = drift.count(described, {_NAME: np.ones(49)}, np.full(49, 9.0))
    found = {(each.group, each.number): each for each in drift.compare(described, groups)}
    assert {group for group, _ in found} == {"monday", "tuesday"}
    assert [name for name, each in found.items() if each.drift] == [("tuesday", "distance")]
    shifted = found["tuesday", "distance"]
    assert shifted.index > shifted.index_by_chance and shifted.statistic > shifted.statistic_by_chance
    assert shifted.p_corrected == pytest.approx(4 * shifted.p)


def test_without_a_distance_the_probabilities_of_every_class_are_compared() -> None:
    random = np.random.default_rng(3)
    values = random.dirichlet((1, 1, 1), 200)
    classes = dict(zip("abc", values.T, strict=True))
    described = drift.describe(classes, None, range(200), "a test")
    found = drift.compare(described, {None: drift.count(described, classes, None)})
    assert [each.class_name for each in found] == ["a", "b", "c"]


def test_held_out_distances_are_like_those_of_new_patients() -> None:
    """Distances of the images that mean and scale were taken from are too small."""
    random = np.random.default_rng(4)
    inside, held_out, new = [], [], []
    for _ in range(60):
        features, others = random.normal(size=(40, 12)), random.normal(size=(200, 12))
        check = learn(features, (8, 4), range(40), "a test")
        inside.append(np.median(check.distances(features)))
        held_out.append(np.median(held_out_distances(check, features, range(40))))
        new.append(np.median(check.distances(others)))
    assert np.mean(inside) < 0.98 * np.mean(new)
    assert np.mean(held_out) == pytest.approx(np.mean(new), rel=0.01)
