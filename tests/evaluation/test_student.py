from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # noqa: TID253

from pneumo_edge.evaluation.student import student_quantile, two_sided_p


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 10, 29, 100])
def test_student_quantiles_are_those_of_scipy(freedom: int, confidence: float) -> None:
    expected = stats.t.ppf((1 + confidence) / 2, freedom)
    assert student_quantile(freedom, confidence) == pytest.approx(expected)


@given(st.floats(1, 100))
def test_between_whole_degrees_of_freedom_a_quantile_is_never_too_small(freedom: float) -> None:
    expected = stats.t.ppf(0.975, freedom)
    assert expected * (1 - 1e-9) <= student_quantile(freedom) <= expected * (1.3 if freedom < 2 else 1.02)


@pytest.mark.parametrize("freedom", [1, 2, 7, 30, 400])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.96, -4.0, 12.0])
def test_p_values_of_t_are_those_of_scipy(t: float, freedom: int) -> None:
    assert two_sided_p(t, freedom) == pytest.approx(max(1e-12, 2 * stats.t.sf(abs(t), freedom)), rel=1e-3, abs=2e-13)


@pytest.mark.parametrize("freedom", [1.5, 2.3, 4.7, 11.9])
@pytest.mark.parametrize("t", [0.3, 1.96, -4.0])
def test_between_whole_degrees_of_freedom_a_p_value_is_not_too_small(t: float, freedom: float) -> None:
    theirs = 2 * stats.t.sf(abs(t), freedom)
    assert theirs * (1 - 1e-9) <= two_sided_p(t, freedom) <= theirs * 1.3
    assert two_sided_p(t, 0.5) == 1
