from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # noqa: TID253

from pneumo_edge.evaluation.intervals import Interval, left_open, open_difference, open_share
from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN, settle, shortage, too_few

shares = st.floats(0, 1)


@given(st.tuples(*[st.floats(-1, 1)] * 3).map(sorted), st.floats(0, 0.5))
def test_a_claim_is_settled_by_the_end_that_lies_beyond_its_margin(ends: list[float], margin: float) -> None:
    low, value, high = ends
    outcome = settle(Interval(value, low, high), -margin)
    assert outcome == ("supported" if low > -margin else "refuted" if high < -margin else "not separable")
    # A loss within the margin refutes nothing, however sure it is.
    if -margin <= high:
        assert outcome != "refuted"


def test_a_sure_loss_within_the_margin_is_not_refuted() -> None:
    assert settle(Interval(-0.009, -0.015, -0.003), -ACCURACY_MARGIN) == "not separable"
    assert settle(Interval(-0.005, -0.008, -0.002), -ACCURACY_MARGIN) == "supported"
    assert settle(Interval(-0.02, -0.03, -0.011), -ACCURACY_MARGIN) == "refuted"
    assert settle(Interval(math.nan, math.nan, math.nan), -ACCURACY_MARGIN) == "not separable"


@given(st.floats(0.5, 2), st.floats(0, 0.5), st.floats(0, 0.3))
def test_a_band_lies_on_both_sides(centre: float, half: float, band: float) -> None:
    found = Interval(centre, centre - half, centre + half)
    outcome = settle(found, 1 + band, 1 / (1 + band))
    assert (outcome == "supported") == (found.low > 1 + band)
    assert (outcome == "refuted") == (found.high < 1 / (1 + band))


@pytest.mark.parametrize(
    ("images", "patients", "enough"),
    [(2, 2, False), (99, 99, False), (100, 50, True), (100, 49, False), (400, 1, False)],
)
def test_a_claim_takes_images_and_patients_of_each_class(images: int, patients: int, enough: bool) -> None:
    labels = np.repeat(np.array([0, 1]), (images, 500))
    names = [f"n{number % patients}" for number in range(images)] + [f"p{number}" for number in range(500)]
    lacking = shortage(labels, names)
    assert (lacking == "") == enough
    assert lacking == too_few(images, min(images, patients))
    if not enough:
        assert f"too few test images: {images} of {min(images, patients)} patients" in lacking


def test_images_and_patients_of_a_shortage_are_those_of_one_class() -> None:
    # 20 images of 13 patients, and 40 of 8: neither "20 of 8" nor more patients than the class has.
    labels = np.repeat(np.array([0, 1]), (20, 40))
    patients = [f"n{number % 13}" for number in range(20)] + [f"p{number % 8}" for number in range(40)]
    assert "images: 20 of 13 patients in the smaller class" in shortage(labels, patients)
    # The class with fewer images has enough; the other has too few patients.
    labels = np.repeat(np.array([0, 1]), (120, 200))
    patients = [f"n{number % 60}" for number in range(120)] + [f"p{number % 40}" for number in range(200)]
    assert "images: 200 of 40 patients in the smaller class" in shortage(labels, patients)


def test_images_of_unknown_patients_are_counted_alone() -> None:
    assert too_few(4, None, "validation").startswith("too few validation images: 4 in the smaller class")
    assert too_few(4, 2, "").startswith("too few images: 4 of 2 patients in the smaller class")
    assert too_few(100, None) == ""


@given(st.integers(1, 5000))
def test_what_none_showed_is_left_open_as_the_exact_interval_has_it(units: int) -> None:
    assert left_open(units) == pytest.approx(stats.binomtest(0, units).proportion_ci(0.95, method="exact").high)


@given(st.tuples(shares, shares, shares).map(sorted), st.integers(0, 1000))
def test_an_opened_share_has_width_and_holds_what_it_held(ends: list[float], units: int) -> None:
    low, value, high = ends
    found = open_share(Interval(value, low, high), units)
    assert 0 <= found.low <= low <= found.value == value <= high <= found.high <= 1
    assert found.low < found.high


@given(st.tuples(*[st.floats(-1, 1)] * 3).map(sorted), st.integers(0, 20), st.integers(1, 1000))
def test_an_opened_difference_has_width_and_is_left_alone_where_enough_differ(
    ends: list[float], differing: int, units: int
) -> None:
    low, value, high = ends
    found = open_difference(Interval(value, low, high), differing, units)
    assert -1 <= found.low <= low <= value <= high <= found.high <= 1
    assert found.low < found.high
    if differing >= 5 and low < high:
        assert (found.low, found.high) == (low, high)
