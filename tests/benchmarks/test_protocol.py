from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.protocol import MIN_TURNS, Settings, schedule, turns_within


@given(st.data(), st.integers(1, 60))
def test_every_call_has_its_turns_at_most_once_a_round(data: st.DataObject, rounds: int) -> None:
    turns = data.draw(st.lists(st.integers(1, rounds), min_size=1, max_size=8))
    drawn = schedule(turns, rounds, "0 0")
    assert len(drawn) == rounds
    assert all(len(set(order)) == len(order) for order in drawn)
    assert [sum(call in order for order in drawn) for call in range(len(turns))] == turns


def test_the_turns_of_a_slow_call_are_spread_over_the_whole_process() -> None:
    rounds_of_slow = [number for number, order in enumerate(schedule([100, 8], 100, "0 0")) if 1 in order]
    gaps = np.diff([-1, *rounds_of_slow])
    assert gaps.min() >= 12
    assert gaps.max() <= 13


def test_the_order_is_drawn_from_the_seed() -> None:
    turns = [50] * 6
    assert schedule(turns, 50, "1 0") == schedule(turns, 50, "1 0")
    assert schedule(turns, 50, "1 0") != schedule(turns, 50, "2 0")
    assert schedule(turns, 50, "1 0") != schedule(turns, 50, "1 1")


def test_every_call_stands_at_every_place_of_a_round_equally_often() -> None:
    calls, rounds = 5, 4000
    orders = np.array(schedule([rounds] * calls, rounds, "0 0"))
    counts = np.array([[np.sum(orders[:, place] == call) for place in range(calls)] for call in range(calls)])
    # Binomial with p = 1/5: five standard deviations.
    assert np.abs(counts - rounds / calls).max() < 5 * np.sqrt(rounds * 0.2 * 0.8)


@pytest.mark.parametrize(
    ("call_seconds", "turns"),
    [(0.001, 100), (0.01, 60), (0.08, 7), (10.0, MIN_TURNS), (0.0, 100)],
)
def test_slow_calls_are_bounded_by_time_and_not_below_a_minimum(call_seconds: float, turns: int) -> None:
    assert turns_within(Settings(rounds=100, turn_seconds=0.6), call_seconds) == turns


def test_no_more_turns_than_rounds() -> None:
    assert turns_within(Settings(rounds=2), 10.0) == 2


@pytest.mark.parametrize("field", ["processes", "rounds", "warmups", "images"])
def test_settings_without_any_run_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Settings(**{field: 0})
