"""The statistics on made data, where the truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pneumo_edge.benchmarks import statistics
from pneumo_edge.evaluation.comparison import compare_auc
from pneumo_edge.evaluation.metrics import Interval, Scores

stats = pytest.importorskip("scipy.stats")

Draw = Callable[[np.random.Generator, tuple[int, ...]], npt.NDArray[np.float64]]

_TRIALS = 2000
#: What shifts a whole process: the sum of many causes, a few heavy ones, one of two layouts, a wait now and then.
_SHIFTS: dict[str, Draw] = {
    "normal": lambda generator, shape: generator.normal(0, 0.014, shape),
    "heavy tails": lambda generator, shape: 0.01 * generator.standard_t(4, shape),
    "two layouts": lambda generator, shape: 0.02 * generator.integers(0, 2, shape) + generator.normal(0, 0.003, shape),
    "skewed": lambda generator, shape: 0.01 * generator.gamma(4, 1, shape),
}


def cpu_medians(
    generator: np.random.Generator, true: float, processes: int, shift: Draw = _SHIFTS["normal"]
) -> npt.NDArray[np.float64]:
    """Medians of 41 calls in each process of each trial: a shift of the process, and noise that is never negative."""
    noise = np.median(generator.gamma(2, 0.02, (_TRIALS, processes, 41)), axis=2)
    return np.asarray(true * np.exp(shift(generator, (_TRIALS, processes))) * (1 + noise))


def test_the_geometric_mean_has_students_interval_on_the_logarithms() -> None:
    values = [1.0, 1.1, 1.3, 0.9]
    logs = np.log(values)
    low, high = stats.t.interval(0.95, 3, logs.mean(), stats.sem(logs))
    found = statistics.geometric_mean(values)
    assert (found.value, found.low, found.high) == pytest.approx((math.exp(logs.mean()), math.exp(low), math.exp(high)))
    assert (statistics.geometric_mean([2.0]).low, statistics.geometric_mean([2.0]).high) == (0, math.inf)


@pytest.mark.parametrize("processes", [3, 10, 20])
@pytest.mark.parametrize("shift", _SHIFTS)
def test_the_interval_of_a_paired_ratio_covers_the_truth_as_often_as_it_says(shift: str, processes: int) -> None:
    if shift == "two layouts" and processes == 3:
        pytest.skip("three processes often have the same layout, and nothing in them tells of the other")
    generator = np.random.default_rng(1)
    drift = generator.uniform(1, 2, (_TRIALS, processes))
    one, other = (drift * cpu_medians(generator, true, processes, _SHIFTS[shift]) for true in (1.75, 1.0))
    intervals = [statistics.paired_ratio(*pair) for pair in zip(one, other, strict=True)]
    assert 0.92 <= np.mean([each.low <= 1.75 <= each.high for each in intervals]) <= 0.98


@pytest.mark.parametrize(("first", "second"), [(3, 3), (10, 10), (5, 20)])
def test_the_interval_of_an_unpaired_ratio_covers_the_truth_as_often_as_it_says(first: int, second: int) -> None:
    generator = np.random.default_rng(2)
    one, other = cpu_medians(generator, 1.2, first), cpu_medians(generator, 1.0, second)
    intervals = [statistics.unpaired_ratio(*pair) for pair in zip(one, other, strict=True)]
    assert 0.92 <= np.mean([each.low <= 1.2 <= each.high for each in intervals]) <= 0.98


def test_a_percentile_bootstrap_of_few_processes_would_be_too_narrow() -> None:
    """Why the intervals are Student's."""
    generator = np.random.default_rng(3)
    logs = generator.normal(0, 0.02, (_TRIALS, 5))
    drawn = np.take_along_axis(
        np.repeat(logs[:, np.newaxis], 400, axis=1), generator.integers(5, size=(_TRIALS, 400, 5)), 2
    )
    low, high = np.quantile(drawn.mean(axis=2), (0.025, 0.975), axis=1)
    assert np.mean((low <= 0) & (high >= 0)) < 0.9


def relations(true: float, shift: Draw, processes: int = 10) -> list[str]:
    """What is said of two units with a true ratio, each trial with an A/A unit of its own beside them."""
    generator = np.random.default_rng(4)
    one, other, twin = (cpu_medians(generator, value, processes, shift) for value in (true, 1.0, 1.0))
    return [
        statistics.relation(statistics.paired_ratio(a, b), statistics.reach(statistics.paired_ratio(b, c)))
        for a, b, c in zip(one, other, twin, strict=True)
    ]


@pytest.mark.parametrize("processes", [3, 10])
@pytest.mark.parametrize("shift", _SHIFTS)
def test_of_two_equal_units_none_is_called_faster(shift: str, processes: int) -> None:
    assert np.mean([each == "not separable" for each in relations(1.0, _SHIFTS[shift], processes)]) >= 0.95


def test_a_true_difference_of_three_per_cent_is_found() -> None:
    def quiet(generator: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        return generator.normal(0, 0.007, shape)

    assert np.mean([each == "more" for each in relations(1.03, quiet)]) >= 0.95
    assert np.mean([each == "less" for each in relations(1 / 1.03, quiet)]) >= 0.95


def test_a_difference_inside_the_band_is_none_however_certain() -> None:
    assert statistics.relation(Interval(1.008, 1.007, 1.009), noise_floor=0.0) == "not separable"
    assert statistics.relation(Interval(1.03, 1.02, 1.04), noise_floor=0.03) == "not separable"
    assert statistics.relation(Interval(1.05, 1.04, 1.06), noise_floor=0.03) == "more"
    assert statistics.relation(Interval(0.9, 0.8, 0.95), noise_floor=0.03) == "less"


def test_the_band_is_as_wide_downwards_as_upwards() -> None:
    assert statistics.reach(Interval(1.0, 1 / 1.03, 1.02)) == pytest.approx(0.03)
    assert statistics.reach(Interval(1.0, 0.99, 1.05)) == pytest.approx(0.05)
    up, down = Interval(1.06, 1.051, 1.07), Interval(1 / 1.06, 1 / 1.07, 1 / 1.051)
    assert (statistics.relation(up, 0.05), statistics.relation(down, 0.05)) == ("more", "less")


def test_one_process_settles_nothing() -> None:
    ratio = statistics.paired_ratio([9.0], [1.0])
    assert ratio.value == pytest.approx(9.0)
    assert statistics.relation(ratio, 0.0) == "not separable"
    assert statistics.relation(Interval(9.0, 8.9, 9.1), statistics.reach(ratio)) == "not separable"
    assert statistics.relation(statistics.unpaired_ratio([9.0, 9.1], [1.0]), 0.0) == "not separable"


values = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=12)


@given(values, values)
def test_unpaired_intervals_are_those_of_welch_or_a_little_wider(one: list[float], other: list[float]) -> None:
    ratio = statistics.unpaired_ratio(one, other)
    logs = np.log(one), np.log(other)
    assume(min(part.var() for part in logs) > 1e-6)
    expected = stats.ttest_ind(*logs, equal_var=False).confidence_interval(0.95)
    assert math.log(ratio.low) <= expected.low + 1e-9
    assert math.log(ratio.high) >= expected.high - 1e-9


@given(st.integers(2, 15), st.integers(0, 1000))
def test_paired_intervals_are_those_of_scipy(processes: int, seed: int) -> None:
    one, other = np.random.default_rng(seed).uniform(1, 2, (2, processes))
    expected = stats.ttest_rel(np.log(one), np.log(other)).confidence_interval(0.95)
    ratio = statistics.paired_ratio(one, other)
    assert (math.log(ratio.low), math.log(ratio.high)) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("numerator", "denominator"), [([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [math.nan])]
)
def test_what_is_no_ratio_is_refused(numerator: list[float], denominator: list[float]) -> None:
    with pytest.raises(ValueError, match="process"):
        statistics.paired_ratio(numerator, denominator)


# The worked numbers of MLPerf's early stopping.
@pytest.mark.parametrize(("calls", "rank"), [(43, 0), (64, 1), (128, 5), (256, 14), (1024, 80), (2048, 173)])
def test_the_rank_of_early_stopping(calls: int, rank: int) -> None:
    assert statistics.early_stopping_rank(calls) == rank


@given(st.integers(1, 3000), st.sampled_from([0.5, 0.9, 0.99]))
def test_the_rank_is_the_largest_that_the_binomial_distribution_allows(calls: int, percentile: float) -> None:
    rank = statistics.early_stopping_rank(calls, percentile)
    below = stats.binom(calls, 1 - percentile)
    assert rank == 0 or below.cdf(rank) <= 0.01 + 1e-9
    assert below.cdf(rank + 1) > 0.01 - 1e-9


def test_the_bound_lies_above_the_percentile_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    bounds = [statistics.early_stopping_bound(generator.exponential(1, 128)) for _ in range(_TRIALS)]
    assert np.mean([bound is not None and bound >= math.log(10) for bound in bounds]) >= 0.985
    assert statistics.early_stopping_bound(np.ones(20)) is None


def test_a_contrast_of_two_models_is_the_paired_test_of_delong() -> None:
    generator = np.random.default_rng(6)
    labels = generator.integers(0, 2, 200)
    first: Scores = np.round(labels + generator.normal(0, 0.8, 200), 1).astype(np.float64)
    second: Scores = np.round(labels + generator.normal(0, 1.0, 200), 1).astype(np.float64)
    expected = compare_auc(labels, first, second).difference
    contrast = statistics.auc_contrast(labels, [(1, first), (-1, second)])
    assert (contrast.value, contrast.low, contrast.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_the_interval_of_a_contrast_of_four_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    labels = np.repeat([0, 1], [60, 90])
    covered = []
    for _ in range(1000):
        common = labels + generator.normal(0, 0.8, 150)
        four = [common + generator.normal(0, 0.3, 150) for _ in range(4)]
        contrast = statistics.auc_contrast(labels, list(zip((1, -1, -1, 1), four, strict=True)))
        covered.append(contrast.low <= 0 <= contrast.high)
    assert 0.92 <= np.mean(covered) <= 0.98
