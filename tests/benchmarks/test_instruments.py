"""Instruments that others wrote, on real files; and that ours reads LoadGen's latencies as LoadGen does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pneumo_edge import bundled
from pneumo_edge._util import extras
from pneumo_edge.benchmarks import statistics
from pneumo_edge.benchmarks.instruments import OTHERS, OWN, loadgen, onnxruntime_profiler
from pneumo_edge.benchmarks.protocol import Unit
from pneumo_edge.benchmarks.supplement import cross_check
from pneumo_edge.benchmarks.supplement.records import CrossCheck, Reading
from pneumo_edge.benchmarks.supplement.task import Task, carry_out, plan_calls
from pneumo_edge.errors import ModelFileError, ResultsError
from pneumo_edge.runtime import engines

TaskFor = Callable[..., Task]

_BY_NAME = {instrument.name: instrument for instrument in (OWN, *OTHERS)}


@pytest.fixture
def task_for(tmp_path: Path) -> TaskFor:
    def make(path: Path, engine: str, calls: int) -> Task:
        pixels = tmp_path / "pixels.npy"
        np.save(pixels, np.random.default_rng(0).integers(0, 256, (4, 224, 224), dtype=np.uint8))
        return Task(Unit(path.name, engine, 1), str(path), str(pixels), calls, 2, str(tmp_path))

    return make


def _read(name: str, task: Task) -> Reading:
    instrument = _BY_NAME[name]
    if not extras.is_installed(instrument.library):
        pytest.skip(f"{instrument.library} is not installed")
    return carry_out(instrument.measurer(), task, "reading")


@pytest.mark.parametrize("name", [OWN.name, "litert-benchmark"])
def test_an_instrument_makes_the_calls_that_it_is_told(name: str, task_for: TaskFor) -> None:
    reading = _read(name, task_for(bundled.path(bundled.DEFAULT), "litert", 7))
    assert (reading.instrument, reading.calls) == (name, 7)
    assert 0 < reading.median_ms < 60_000


def test_loadgens_own_numbers_follow_from_the_latencies_in_its_trace(task_for: TaskFor, tmp_path: Path) -> None:
    reading = _read("MLPerf LoadGen", task_for(bundled.path(bundled.DEFAULT), "litert", 130))
    # Not all of the trace is valid JSON, which a viewer of traces does not mind.
    samples = re.findall(
        r'"sample_idx":(\d+),"issue_start_ns":(\d+),"complete_ns":(\d+)',
        (tmp_path / "mlperf_log_trace.json").read_text(),
    )
    latencies = np.array([int(complete) - int(issued) for _, issued, complete in samples], dtype=np.float64)
    assert reading.calls == len(latencies) == 130
    assert {image for image, _, _ in samples} == {"0", "1", "2", "3"}
    # LoadGen rounds ranks down where numpy interpolates, so its median is one of the two in the middle.
    assert round(reading.median_ms * 1e6) in np.sort(latencies)[64:66]
    # The bound that this benchmark computes is MLPerf's, to the nanosecond.
    assert statistics.early_stopping_bound(latencies) == reading.told["early_stopping_latency_ss"]
    assert "Scenario : SingleStream" in reading.summary
    assert "Result is : VALID" in reading.summary
    assert (tmp_path / loadgen.SUMMARY).read_text() == reading.summary
    assert reading.told["early_stopping_met"] == 1


def test_onnxruntimes_profiler_times_runs_and_operators(task_for: TaskFor, tiny_models: Path) -> None:
    task = task_for(tiny_models / "tiny-fp32.onnx", "onnxruntime", 20)
    reading = _read("onnxruntime profiler", task)
    assert 0 < reading.median_ms <= reading.told["outside_ms"]
    profile = carry_out(onnxruntime_profiler.operators, task, "profiling")
    assert profile.calls == 22
    assert {"Conv", "GlobalAveragePool", "Softmax"} <= profile.milliseconds.keys()
    assert min(profile.milliseconds.values()) >= 0 < profile.milliseconds["Conv"]


def test_a_file_that_the_command_refuses_is_told_in_its_words(fake_model: Path, task_for: TaskFor) -> None:
    with pytest.raises(ResultsError, match="litert-benchmark ended with exit code 1"):
        _read("litert-benchmark", task_for(fake_model, "litert", 5))


def test_every_instrument_has_as_many_turns_and_loadgens_log_is_kept(task_for: TaskFor, tmp_path: Path) -> None:
    instruments = [each for each in OTHERS if each.fits("litert") and extras.is_installed(each.library)]
    task = task_for(bundled.path(bundled.DEFAULT), "litert", 5)
    turns: list[None] = []
    check = cross_check.measure(task, instruments, 0, tmp_path / "logs", lambda: turns.append(None))
    names = [OWN.name, *(each.name for each in instruments)]
    assert len(turns) == len(check.readings) == cross_check.ROUNDS * len(names)
    for number in range(cross_check.ROUNDS):
        assert sorted(each.instrument for each in check.readings if each.round == number) == sorted(names)
    if extras.is_installed("mlperf_loadgen"):
        last = [each for each in check.readings if each.instrument == "MLPerf LoadGen"][-1]
        assert (tmp_path / "logs" / loadgen.SUMMARY).read_text() == last.summary
        assert (tmp_path / "logs" / loadgen.DETAIL).exists()


def _check(ratio: float) -> CrossCheck:
    """Another instrument that reads so many times what ours does, on a machine that gets slower by the round."""
    readings = []
    for number, drift in enumerate((1.0, 1.5, 3.0, 1.1, 2.0)):
        readings += [
            Reading(OWN.name, number, 10, 4 * drift, {}),
            Reading("another", number, 10, 4 * drift * ratio, {}),
        ]
    return CrossCheck(Unit("a.tflite", "litert", 1), tuple(readings))


@pytest.mark.parametrize(
    ("ratio", "outcome"),
    [(1.0, "agrees"), (0.91, "agrees"), (1.09, "agrees"), (0.88, "differs"), (1.12, "differs")],
)
def test_agreement_is_judged_round_by_round_so_that_a_drift_of_the_machine_does_not_count(
    ratio: float, outcome: str
) -> None:
    (found,) = cross_check.agreements(_check(ratio))
    assert found.instrument == "another"
    assert found.ratio.value == pytest.approx(ratio)
    assert found.ratio.high - found.ratio.low < 1e-6
    assert found.outcome == outcome
    assert (found.ours_ms, found.theirs_ms) == pytest.approx((6.0, 6.0 * ratio))


def test_a_machine_that_is_too_noisy_settles_nothing() -> None:
    noise = (0.7, 1.4, 1.0, 0.8, 1.3)
    readings = [
        reading
        for number, share in enumerate(noise)
        for reading in (Reading(OWN.name, number, 10, 4.0, {}), Reading("another", number, 10, 4.0 * share, {}))
    ]
    (found,) = cross_check.agreements(CrossCheck(Unit("a.tflite", "litert", 1), tuple(readings)))
    assert abs(found.ratio.value - 1) < 0.05
    assert found.outcome == "not separable"


def test_calls_fill_the_time_and_slow_units_still_get_some() -> None:
    assert plan_calls(1.0, 4.0) == (250, 10)
    assert plan_calls(1.0, 700.0) == (5, 2)
    assert plan_calls(1.0, 0.0) == (2000, 10)


def _dies(task: Task) -> Task:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)
    return task


def test_a_crash_names_the_signal_and_what_was_done(task_for: TaskFor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    monkeypatch.setattr(_dies, "__module__", Path(__file__).stem)
    with pytest.raises(ResultsError, match="the process that was counting sheep ended with signal SIGSEGV"):
        carry_out(_dies, task_for(Path("none.tflite"), "litert", 1), "counting sheep")


def test_what_an_engine_refuses_is_told(fake_model: Path, task_for: TaskFor) -> None:
    with pytest.raises(ModelFileError, match=r"litert cannot load .*fake\.tflite"):
        _read(OWN.name, task_for(fake_model, "litert", 1))


def test_each_instrument_of_an_engine_is_one_that_the_engine_table_knows() -> None:
    for instrument in OTHERS:
        assert set(instrument.engines) <= engines.ENGINES.keys()
