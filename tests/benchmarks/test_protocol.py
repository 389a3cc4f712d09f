from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumo_edge.benchmarks.protocol import MIN_TURNS, PRESETS, BenchmarkSettings, plan_turns, schedule


@given(st.data(), st.integers(1, 60))
def test_every_call_has_its_turns_at_most_once_a_round(data: st.DataObject, rounds: int) -> None:
    turns = data.draw(st.lists(st.integers(1, rounds), min_size=1, max_size=8))
    drawn = schedule(turns, random.Random(0))
    assert len(drawn) == max(turns)
    assert all(len(set(order)) == len(order) for order in drawn)
    assert [sum(call in order for order in drawn) for call in range(len(turns))] == turns


def test_the_turns_of_a_slow_call_are_spread_over_the_whole_process() -> None:
    rounds_of_slow = [number for number, order in enumerate(schedule([100, 8], random.Random(0))) if 1 in order]
    gaps = np.diff([-1, *rounds_of_slow])
    assert gaps.min() >= 12
    assert gaps.max() <= 13


def test_the_order_is_drawn_from_the_seed() -> None:
    turns = [50] * 6
    assert schedule(turns, random.Random("1 0")) == schedule(turns, random.Random("1 0"))
    assert schedule(turns, random.Random("1 0")) != schedule(turns, random.Random("1 1"))


def test_every_call_stands_at_every_place_of_a_round_equally_often() -> None:
    calls, rounds = 5, 4000
    orders = np.array(schedule([rounds] * calls, random.Random(0)))
    counts = np.array([[np.sum(orders[:, place] == call) for place in range(calls)] for call in range(calls)])
    # Binomial with p = 1/5: five standard deviations.
    assert np.abs(counts - rounds / calls).max() < 5 * np.sqrt(rounds * 0.2 * 0.8)


@pytest.mark.parametrize(
    ("call_ms", "inference", "file_to_verdict"),
    # In each of 10 processes: at least 13 calls and 1 s, at most 6 s; a tenth more, should calls become faster.
    [(2, 550, 13), (50, 22, 13), (200, 13, 13), (1000, 6, 6), (10_000, MIN_TURNS, MIN_TURNS), (0, 10**9, 13)],
)
def test_turns_are_bounded_by_count_and_by_time(call_ms: float, inference: int, file_to_verdict: int) -> None:
    settings = BenchmarkSettings.of("quick")
    assert plan_turns(settings, "inference", 1e6 * call_ms) == pytest.approx(inference, rel=0.2, abs=0.5)
    assert plan_turns(settings, "file_to_verdict", 1e6 * call_ms) == file_to_verdict


@given(st.sampled_from(list(PRESETS)), st.integers(1, 30), st.floats(0.1, 1000))
def test_what_is_planned_is_what_the_preset_asks_for_where_time_allows(
    preset: str, processes: int, call_ms: float
) -> None:
    settings, row = BenchmarkSettings.of(preset, processes=processes), PRESETS[preset]
    turns = processes * plan_turns(settings, "inference", 1e6 * call_ms)
    if processes * MIN_TURNS < row.queries and 1.1 * row.queries * call_ms / 1e3 < row.most_seconds / 2:
        assert turns >= row.queries
        assert turns * call_ms / 1e3 >= row.seconds
    assert turns * call_ms / 1e3 <= max(row.most_seconds, processes * MIN_TURNS * call_ms / 1e3) * (1 + 1e-9)


def test_settings_may_ask_for_less_than_their_preset() -> None:
    settings = BenchmarkSettings.of("quick", processes=2, queries=6, seconds=0)
    assert (settings.preset, settings.queries, settings.seconds) == ("quick", 6, 0)
    assert plan_turns(settings, "inference", 1e6) == 3


@pytest.mark.parametrize("field", ["processes", "queries", "warmups", "images"])
def test_settings_without_any_run_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        BenchmarkSettings(**{field: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"preset": "slow"}, {"seconds": -1}, {"seconds": 61}])
def test_settings_that_contradict_themselves_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BenchmarkSettings(**wrong)  # type: ignore[arg-type]
