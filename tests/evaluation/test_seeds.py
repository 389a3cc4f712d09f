from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # noqa: TID253
from statsmodels.stats import weightstats

from pneumo_edge.evaluation.seeds import over_seeds, t_quantile


@pytest.mark.parametrize("degrees", [*range(1, 60), 99, 100, 1000, 5001])
def test_the_quantile_of_t_is_that_of_scipy(degrees: int) -> None:
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-11)


def test_the_quantile_of_t_is_the_one_in_every_table() -> None:
    printed = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 10: 2.228, 30: 2.042}
    assert {degrees: round(t_quantile(degrees), 3) for degrees in printed} == printed


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12))
def test_mean_spread_and_interval_are_those_of_statsmodels(values: list[float]) -> None:
    found = over_seeds(values)
    theirs = weightstats.DescrStatsW(np.array(values))
    low, high = theirs.tconfint_mean()
    assert found.runs == len(values)
    assert found.mean.value == pytest.approx(theirs.mean, abs=1e-9)
    assert found.sd == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    assert (found.mean.low, found.mean.high) == pytest.approx((low, high), abs=1e-6)


def test_equal_runs_have_no_spread() -> None:
    found = over_seeds([0.9, 0.9, 0.9])
    assert (found.mean.value, found.mean.low, found.mean.high, found.sd) == (0.9, 0.9, 0.9, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "at least two"), ([0.9], "at least two"), ([0.9, math.nan], "finite"), ([0.9, math.inf], "finite")],
)
def test_what_has_no_spread_is_refused(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        over_seeds(values)


def test_a_quantile_takes_a_degree_of_freedom() -> None:
    with pytest.raises(ValueError, match="not at least 1"):
        t_quantile(0)
