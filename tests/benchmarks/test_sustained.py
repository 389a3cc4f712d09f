from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pneumo_edge._util import markdown, records
from pneumo_edge.benchmarks import results as raw
from pneumo_edge.benchmarks import verdict_file
from pneumo_edge.benchmarks.protocol import BenchmarkSettings, Job, Plan, SustainedSettings, Unit
from pneumo_edge.benchmarks.report.compose import compose
from pneumo_edge.benchmarks.report.runs import gather
from pneumo_edge.benchmarks.results import Results
from pneumo_edge.benchmarks.resume import Identity, Measurements
from pneumo_edge.benchmarks.run import run
from pneumo_edge.benchmarks.summary import summarise
from pneumo_edge.benchmarks.sustained import changes
from pneumo_edge.benchmarks.sustained.cooling import Cooling
from pneumo_edge.benchmarks.sustained.measure import measure
from pneumo_edge.benchmarks.sustained.records import pack, unpack
from pneumo_edge.benchmarks.sustained.sensors import Reading, Sensors
from pneumo_edge.benchmarks.worker import Message
from pneumo_edge.cli import app
from pneumo_edge.errors import ExitCode, ResultsError
from pneumo_edge.runtime.engines.tensors import Given
from tests.benchmarks.conftest import MakeResults
from tests.benchmarks.endurance import alone, noise

_UNIT = Unit("a.tflite", "litert", 1)


class Clock:
    """A clock that inferences turn on."""

    def __init__(self, ms: Callable[[float], float]) -> None:
        self.now_ns, self._ms = 0, ms

    def __call__(self) -> int:
        return self.now_ns

    def infer(self, image: int) -> tuple[int, int]:
        wall = int(1e6 * self._ms(self.now_ns / 1e9))
        self.now_ns += wall
        return wall, wall // 2


def test_every_inference_is_kept_by_the_second_and_sensors_are_read_once_a_second() -> None:
    clock = Clock(lambda now: 100 if now < 5 else 250)
    seconds: list[int] = []
    throttled = iter(np.arange(7.0, 100))
    samples = measure(
        clock.infer, 10, lambda: Reading(temperature_c=50.0, throttled_s=next(throttled)), seconds.append, clock
    )
    assert samples.counts == (9, *[10] * 4, *[4] * 5, 1)
    assert samples.wall_ms.tolist() == [100.0] * 50 + [250.0] * 20
    assert sum(samples.cpu_ms) == pytest.approx(5000)
    assert sum(seconds) == 10
    assert samples.readings.temperature_c == (50.0,) * 11
    # Counters begin with 0, whatever they were before; what the system does not tell is left out.
    assert samples.readings.throttled_s == tuple(map(float, range(11)))
    assert samples.readings.frequency_mhz == ()


def test_a_unit_that_takes_many_seconds_for_an_inference_is_measured(make_results: MakeResults) -> None:
    clock = Clock(lambda now: 7000)
    samples = measure(clock.infer, 10, Reading, lambda seconds: None, clock)
    assert sum(samples.counts) == 2
    assert samples.counts[7] == samples.counts[14] == 1
    results = make_results()
    found = summarise(
        replace(results, sustained=(replace(alone(results.units[0].unit, np.ones(10)), samples=samples),))
    )
    assert found.endurance
    assert found.endurance.courses[0].slower.value == 1


@given(st.lists(st.integers(1, 2**62), min_size=1, max_size=50))
def test_packed_times_are_read_as_they_were(ticks: list[int]) -> None:
    assert unpack(pack(np.array(ticks)), len(ticks)).tolist() == ticks


def test_packed_times_are_small() -> None:
    ticks = np.random.default_rng(0).normal(40_000, 800, 100_000).astype(np.int64)
    assert len(pack(ticks)) < 2.5 * len(ticks)


@pytest.mark.parametrize(
    ("length", "rho", "trials"), [(30, 0.0, 200), (30, 0.5, 200), (60, 0.8, 200), (200, 0.0, 40), (200, 0.7, 40)]
)
def test_at_most_a_twentieth_of_undisturbed_runs_show_a_change(length: int, rho: float, trials: int) -> None:
    at_s = np.arange(length, dtype=np.float64)
    alarms = sum(
        bool(changes.find(at_s, np.exp(noise(length, seed, rho=rho, deviation=0.08)))) for seed in range(trials)
    )
    assert alarms <= 0.05 * trials


@pytest.mark.parametrize(("length", "rho"), [(30, 0.0), (60, 0.5), (200, 0.7)])
def test_steps_are_found_within_ten_seconds_with_their_factors(length: int, rho: float) -> None:
    at_s = np.arange(length, dtype=np.float64)
    for seed in range(10):
        true = [length // 3 + seed % 3, 2 * length // 3 + seed % 4]
        logs = noise(length, seed, rho=rho) + np.log(1.4) * (at_s >= true[0]) + np.log(1.5) * (at_s >= true[1])
        found = changes.find(at_s, np.exp(logs))
        assert [each.at_s.value for each in found] == pytest.approx(true, abs=10)
        assert [each.factor.value for each in found] == pytest.approx([1.4, 1.5], abs=0.1)
        assert all(each.at_s.low <= each.at_s.value <= each.at_s.high for each in found)


@given(st.lists(st.floats(1e-6, 1e6), max_size=40))
def test_any_series_is_searched(times: list[float]) -> None:
    for each in changes.find(np.arange(float(len(times))), np.array(times)):
        assert 0 < each.factor.low <= each.factor.value <= each.factor.high
        assert 0 < each.at_s.value < len(times)


def test_a_change_of_less_than_a_twentieth_is_none() -> None:
    times = np.array([1.0] * 50 + [1.04] * 50)
    assert not changes.find(np.arange(100.0), times)
    assert changes.find(np.arange(100.0), np.square(times))


def _results(make_results: MakeResults, *courses: np.ndarray) -> Results:  # type: ignore[type-arg]
    results = make_results()
    units = [result.unit for result in results.units[:: len(results.units) // len(courses)]]
    return replace(
        results,
        settings=replace(results.settings, sustained=SustainedSettings(len(courses[0]))),
        sustained=tuple(alone(unit, course) for unit, course in zip(units, courses, strict=True)),
    )


def _report(results: Results) -> str:
    return markdown.render(compose(gather([summarise(results)])))


def test_the_report_says_when_a_unit_slowed_and_that_the_order_is_another(make_results: MakeResults) -> None:
    steady = 6 * np.exp(noise(300, 1))
    throttled = 4 * np.exp(noise(300, 2)) * np.where(np.arange(300) < 120, 1, 2)
    report = _report(_results(make_results, steady, throttled))
    assert "The order of the units in the last minute is not that in the first: of 1 pair, 0 keep" in report
    assert "efficientnetb0-fp32.tflite on litert: no change found" in report
    assert "mobilenetv2-fp32.tflite on litert: slower from 120 s [1" in report
    assert re.search(r"120 s \[1\d\d, 1\d\d\] on, (1\.9|2\.0)\d \[1\.\d\d, 2\.\d\d\] times the time", report)


def test_two_runs_are_compared_by_how_they_slow_down(make_results: MakeResults, tmp_path: Path) -> None:
    files = []
    for name, factor in (("a", 1.0), ("b", 1.5)):
        course = 4 * np.exp(noise(60, 2)) * np.where(np.arange(60) < 20, 1, factor)
        files.append(tmp_path / f"{name}.json")
        raw.write(files[-1], _results(make_results, course))
    done = CliRunner().invoke(app, ["compare", *map(str, files)])
    (line,) = [line for line in done.output.splitlines() if line.startswith("Running alone, ")]
    assert re.search(
        r"took (0\.9|1\.0)\d \[.*\] times as long at the end .* in A, and 1\.[1-6]\d \[.*\] times in B", line
    )
    table = tmp_path / "report.csv"
    done = CliRunner().invoke(app, ["report", str(files[1]), "--out", str(table)])
    assert done.exit_code == ExitCode.OK
    assert "sustained_last_over_first_low" in table.read_text()


def test_the_report_names_the_options_that_repeat_it(make_results: MakeResults) -> None:
    results = _results(make_results, np.ones(10))
    asked = SustainedSettings(1800, cool_c=45.5)
    assert "--sustained 1800s --cool 45.5C" in _report(
        replace(results, settings=replace(results.settings, sustained=asked))
    )


def test_the_report_says_that_the_order_stays(make_results: MakeResults) -> None:
    report = _report(_results(make_results, 6 * np.exp(noise(60, 1)), 4 * np.exp(noise(60, 2))))
    assert "The order of the 2 units in the last 30 s is that in the first." in report


def test_units_that_are_alike_are_not_ordered(make_results: MakeResults) -> None:
    alike = [4 * np.exp(noise(120, seed, deviation=0.05)) for seed in range(2)]
    found = summarise(_results(make_results, *alike)).endurance
    assert found
    assert found.order == "not separable"


def test_the_interval_covers_what_is_true_and_equal_units_do_not_change_places(make_results: MakeResults) -> None:
    covered, trials = 0, 20
    for seed in range(trials):
        alike = [4 * np.exp(noise(60, 2 * seed + number, deviation=0.05)) for number in range(2)]
        found = summarise(_results(make_results, *alike)).endurance
        assert found
        assert found.order != "reversed"
        covered += sum(course.slower.low <= 1 <= course.slower.high for course in found.courses)
    assert covered >= 0.85 * 2 * trials


def test_results_without_it_have_no_such_section(make_results: MakeResults, tmp_path: Path) -> None:
    document = json.loads(records.document(make_results()))
    del document["sustained"], document["settings"]["sustained"]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    found = raw.read(path)
    assert found.sustained == ()
    assert "Sustained" not in _report(found)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"wall_ticks": "AAAA"}, "is not packed times"),
        ({"wall_ticks": pack(np.array([1]))}, "has 8 bytes, not 8 for each of 2520 inferences"),
        ({"counts": [0]}, "counts has no inference"),
        ({"counts": [2**60] * 10}, "more than 100000000"),
        ({"readings": {"at_s": [0.0], "temperature_c": [1.0, 2.0]}}, "differ in length"),
        ({"seconds": -1}, "seconds is -1"),
    ],
)
def test_damaged_samples_are_refused(
    change: dict[str, object], why: str, make_results: MakeResults, tmp_path: Path
) -> None:
    document = json.loads(records.document(_results(make_results, np.full(10, 3.96825))))
    document["sustained"][0]["samples"].update(change)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ResultsError, match=why):
        raw.read(path)


def test_a_unit_that_was_not_benchmarked_is_refused(make_results: MakeResults) -> None:
    with pytest.raises(ValueError, match=r"the sustained unit a\.tflite on litert is not among the units"):
        replace(make_results(), sustained=(alone(_UNIT, np.ones(10)),))


class Room:
    """A machine that cools by a degree a second, and a clock."""

    def __init__(self, celsius: float | None, rate: float = 1.0) -> None:
        self.celsius, self.seconds, self._rate = celsius, 0.0, rate

    def clock(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self.celsius is not None:
            self.celsius -= self._rate * seconds

    def wait(self, settings: SustainedSettings, start_c: float | None) -> tuple[list[str], list[str]]:
        shown: list[str] = []
        told: list[str] = []
        cooling = Cooling(settings, start_c, lambda: self.celsius, self.clock, self.sleep)
        told.append(cooling.describe())
        cooling.wait(shown.append, told.append)
        return shown, told


def test_it_waits_until_the_temperature_of_the_start_is_back() -> None:
    room = Room(60)
    shown, told = room.wait(SustainedSettings(60), 40)
    assert room.seconds == 17
    assert shown[0] == "cooling to 43 °C, now 60 °C"
    assert told == [
        "Before each unit, the benchmark waits until the processor has cooled to 43 °C, for 30 min at most."
    ]


def test_it_waits_for_a_temperature_or_a_time_that_is_given() -> None:
    room = Room(60)
    room.wait(SustainedSettings(60, cool_c=55), 40)
    assert room.seconds == 5
    room.wait(SustainedSettings(60, rest_s=100), 40)
    assert room.seconds == 105


def test_without_a_sensor_it_rests() -> None:
    room = Room(None)
    shown, told = room.wait(SustainedSettings(60), None)
    assert room.seconds == 60
    assert shown[0] == "resting for 60 s"
    assert told == ["Before each unit, the machine rests for 60 s, because the system tells no temperature."]


def test_a_temperature_is_refused_where_none_is_told_before_anything_is_measured(
    fake_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sensors, "temperature", lambda self: None)
    settings = BenchmarkSettings(sustained=SustainedSettings(60, cool_c=0))
    with pytest.raises(ResultsError, match=r"cools to 0 °C .* no temperature; expected seconds .* Give --cool 60"):
        run([fake_model], None, settings, Measurements(fake_model.parent / "results.json", False))


def test_a_machine_that_does_not_cool_is_measured_as_it_is_and_that_is_told() -> None:
    _, told = Room(60, rate=0).wait(SustainedSettings(60), 40)
    assert told[1:] == [
        "the processor has 60 °C after 30 min of rest, and not the 43 °C that were waited for; measuring as it is"
    ]


def test_what_linux_tells_is_read(tmp_path: Path) -> None:
    cores = tmp_path / "devices/system/cpu"
    for core in range(256):
        folder = cores / f"cpu{core}"
        (folder / "cpufreq").mkdir(parents=True)
        (folder / "cpufreq/scaling_cur_freq").write_text("1800000\n")
    for core, count in ((0, 3), (1, 4)):
        (cores / f"cpu{core}/thermal_throttle").mkdir()
        (cores / f"cpu{core}/thermal_throttle/core_throttle_count").write_text(f"{count}\n")
    flags = tmp_path / "devices/platform/soc/soc:firmware"
    flags.mkdir(parents=True)
    (flags / "get_throttled").write_text("50005\n")
    told = {
        "coretemp": [SimpleNamespace(current=51.0), SimpleNamespace(current=63.5)],
        "nvme": [SimpleNamespace(current=80.0)],
    }
    found = Sensors(tmp_path, lambda: told).read()
    assert (found.temperature_c, found.frequency_mhz, found.thermal_events, found.pi_flags) == (63.5, 1800, 7, 0x50005)


def test_a_system_that_tells_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = Sensors(tmp_path, dict).read()
    assert replace(found, throttled_s=None) == Reading()


@pytest.mark.parametrize(("text", "flags"), [("throttled=0x50000", 0x50000), ("error", None)])
def test_a_raspberry_pi_is_asked_by_its_program(
    text: str, flags: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "vcgencmd"
    program.write_text(f"#!/bin/sh\necho {text}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert Sensors(tmp_path, dict).read().pi_flags == flags


def test_options_that_make_no_sense_are_refused() -> None:
    for options, why in (
        (["--sustained", "5s"], "'5s' is not from 10s to 24h"),
        (["--sustained", "30"], "'30' is not a number above 0 with one of the units s, m, min, h"),
        (["--cool", "45C"], "it needs --sustained"),
        (["--sustained", "10s", "--cool", "200C"], "'200C' is neither a temperature such as 45C"),
    ):
        done = CliRunner().invoke(app, ["benchmark", "mobilenetv2", *options], env={"COLUMNS": "250"})
        assert done.exit_code == ExitCode.USAGE
        assert why in done.output


@pytest.mark.slow
def test_the_command_runs_each_unit_alone(two_backbones: Path, tmp_path: Path) -> None:
    file = two_backbones / "mobilenetv2-fp32.tflite"
    command = [
        sys.executable,
        "-m",
        "pneumo_edge",
        "benchmark",
        str(file),
        "--engine",
        "litert",
        "--out",
        str(tmp_path),
    ]
    command += ["--processes", "1", "--queries", "1", "--seconds", "0", "--sustained", "10s", "--cool", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.OK, done.stderr
    assert "No rest between the units." in done.stderr
    assert "mobilenetv2-fp32.tflite on litert: " in done.stdout
    measured = raw.read(tmp_path / "results.json")
    (alone_,) = measured.sustained
    assert 10 <= len(alone_.samples.counts) <= 12
    assert len(alone_.samples.readings.at_s) >= 8
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Sustained</h2>" in report
    settled = verdict_file.read(tmp_path / "verdict.json").sustained
    assert settled
    assert [each.unit.file for each in settled.units] == ["mobilenetv2-fp32.tflite"]


def test_a_unit_that_is_done_is_not_waited_for_and_not_measured_again(
    make_results: MakeResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(make_results().settings, sustained=SustainedSettings(10, rest_s=0))
    samples = alone(_UNIT, np.ones(10)).samples
    measured: list[str] = []

    def work(plan: Plan, done: Callable[[int], None], stop: object = None) -> Message:
        if plan.jobs[0].unit.model in measured or len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(plan.jobs[0].unit.model)
        done(10)
        return Message(sustained=samples)

    results = make_results()
    identity = Identity(settings, Given(), results.machine, {}, results.models, (), "")
    plans = [Plan("sustained", (Job(each.unit, "", ""),), (), settings) for each in results.units]
    for resumes in (False, True):
        measurements = Measurements(tmp_path / "results.json", resumes, work)
        measurements.begin(identity)
        assert [bool(measurements.kept(plan)) for plan in plans] == [resumes] * 2 + [False] * 2
        with pytest.raises(KeyboardInterrupt):
            for plan in plans:
                assert measurements.work(plan, lambda steps: None).sustained == samples
    assert len(measured) == 2
