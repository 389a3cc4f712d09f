from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from pneumo_edge.benchmarks.measures import conditions, latency
from pneumo_edge.benchmarks.measures.latency import LoadedUnit
from pneumo_edge.benchmarks.protocol import BenchmarkSettings, Unit
from pneumo_edge.benchmarks.results import Conditions
from pneumo_edge.runtime.classifier import Classifier, Prediction, Timings
from tests.present import present

_PIXELS = np.zeros((4, 8, 8, 3), np.uint8)
_FILES = [Path(f"{index}.png") for index in range(4)]


def unit_that(run: Callable[[int], None]) -> LoadedUnit:
    """A unit whose inference does something with the number of the call."""
    calls = 0

    def infer(tensor: object) -> None:
        nonlocal calls
        run(calls)
        calls += 1

    def predict(path: Path) -> Prediction:
        return Prediction("a file", "NORMAL", {}, 0.5, Timings(0, 0, 0, 0, 0, 0))

    stand_in = SimpleNamespace(
        engine=SimpleNamespace(threads=1, run=infer), as_input=lambda pixels: pixels, predict=predict
    )
    return LoadedUnit.of_classifier(cast(Classifier, stand_in), 7, _PIXELS, _FILES)


def test_calls_faster_than_the_warm_up_let_expect_still_take_their_time() -> None:
    settings = BenchmarkSettings(processes=1, queries=3, seconds=0.25, warmups=2)
    fast = unit_that(lambda call: time.sleep(0.1 if call < 2 else 0.001))
    (samples,) = latency.measure([fast], settings, 0, lambda: None)
    assert sum(samples.inference.wall_ns) >= settings.least_ns
    assert len(samples.inference.rounds) > 3
    assert len(present(samples.file_to_verdict).rounds) == 3
    assert samples.load_ns == 7
    assert samples.first_inference_ns >= 100e6


def test_a_slow_unit_is_bounded_by_time_and_not_by_count() -> None:
    settings = BenchmarkSettings(processes=1, queries=1000, seconds=0.01, most_seconds=0.06, warmups=2)
    (samples,) = latency.measure([unit_that(lambda call: time.sleep(0.005))], settings, 0, lambda: None)
    assert 5 <= len(samples.inference.rounds) <= 12


def test_progress_is_told_in_as_many_steps_whatever_the_rounds() -> None:
    for queries in (3, 250):
        steps: list[int] = []
        settings = BenchmarkSettings(processes=1, queries=queries, seconds=0.0, warmups=1)
        latency.measure([unit_that(lambda call: None)], settings, 0, lambda: steps.append(1))  # noqa: B023
        assert len(steps) == latency.STEPS


def test_a_bound_on_the_tail_takes_enough_calls() -> None:
    settings = BenchmarkSettings(processes=1, queries=64, seconds=0.0)
    (samples,) = latency.measure([unit_that(lambda call: None)], settings, 0, lambda: None)
    summary = latency.summarise([samples.inference])
    assert summary.p90_bound_ms == pytest.approx(max(samples.inference.wall_ns) / 1e6)
    assert summary.p90_ms <= summary.p99_ms <= max(samples.inference.wall_ns) / 1e6
    few = BenchmarkSettings(processes=1, queries=10, seconds=0.0)
    (samples,) = latency.measure([unit_that(lambda call: None)], few, 0, lambda: None)
    assert latency.summarise([samples.inference]).p90_bound_ms is None


def test_steal_is_a_share_of_all_time() -> None:
    before, after = [100, 0, 50, 800, 10, 0, 0, 5], [150, 0, 60, 830, 10, 0, 0, 15]
    assert conditions.steal_share(before, after) == pytest.approx(0.1)
    assert conditions.steal_share(before, before) is None
    assert conditions.steal_share([], []) is None


def test_conditions_of_processes_one_after_the_other_are_those_of_all_their_time() -> None:
    first = Conditions(2, "litert", 2, 10.0, 0.125, 5, 0.5, "performance")
    other = replace(first, seconds=30.0, steal_share=0.25, involuntary_switches=7, load_average=2.5)
    both = replace(first, seconds=40.0, steal_share=0.21875, involuntary_switches=12, load_average=2.5)
    assert conditions.together([first, other]) == both
    untold = replace(first, steal_share=None, involuntary_switches=None, load_average=None)
    assert conditions.together([untold, untold]) == replace(untold, seconds=20.0)


def test_conditions_are_those_since_the_watch_began(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stat, governor = tmp_path / "stat", tmp_path / "governor"
    stat.write_text("cpu  10 0 10 80 0 0 0 0 0 0\ncpu0 10 0 10 80 0 0 0 0 0 0\n")
    governor.write_text("powersave\n")
    monkeypatch.setattr(conditions, "_STAT", stat)
    monkeypatch.setattr(conditions, "_GOVERNOR", governor)
    watch = conditions.Watch()
    stat.write_text("cpu  50 0 20 100 0 0 0 30 0 0\n")
    found = watch.conditions(3, Unit("a.tflite", "litert", 2))
    assert (found.process, found.engine, found.threads, found.governor) == (3, "litert", 2, "powersave")
    assert found.steal_share == pytest.approx(0.3)
    assert found.involuntary_switches is None or found.involuntary_switches >= 0


def test_a_system_that_tells_nothing_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(conditions, "_STAT", tmp_path / "none")
    monkeypatch.setattr(conditions, "_GOVERNOR", tmp_path / "none")
    found = conditions.Watch().conditions(0, Unit("a.tflite", "litert", 1))
    assert (found.steal_share, found.governor) == (None, "")
