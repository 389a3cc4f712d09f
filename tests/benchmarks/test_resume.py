from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pneumo_edge._util import records
from pneumo_edge.benchmarks import results
from pneumo_edge.errors import ExitCode


def _command(models: Path, data: Path, out: Path) -> list[str]:
    command = [sys.executable, "-m", "pneumo_edge", "benchmark", str(models), "--data", str(data), "--out", str(out)]
    return [*command, "--engine", "litert", "--seconds", "0"]


def _kill_once_kept(command: list[str], partial: Path, plan: str) -> None:
    """Kill a benchmark as soon as it has kept what came of a plan whose name begins so."""
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        while plan not in (partial.read_text() if partial.exists() else ""):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_benchmark_goes_on_behind_what_it_had_measured(
    two_backbones: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "reports"
    partial = out / "results.json.partial"
    command = [*_command(two_backbones, phantom_folder, out), "--queries", "12", "--processes"]

    _kill_once_kept([*command, "3"], partial, '"latency 0: ')
    # As if it had been killed within a line.
    partial.write_bytes(partial.read_bytes() + b'{"plan": "latency 1')
    assert not (out / "results.json").exists()
    kept = {piece["plan"]: piece for piece in map(json.loads, partial.read_text().splitlines()[1:-1])}

    def go_on(*more: str) -> tuple[int, str]:
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    code, error = go_on("3")
    assert code == ExitCode.FAILED
    assert "results.json.partial contains the measurements of an interrupted run; expected no such file" in error
    code, error = go_on("4", "--resume")
    assert code == ExitCode.FAILED
    assert "contains measurements of another benchmark" in error
    code, error = go_on("3", "--resume")
    assert code == ExitCode.OK, error
    assert not partial.exists()

    measured = results.read(out / "results.json")
    (name,) = [plan for plan in kept if plan.startswith("latency 0: ")]
    before = kept[name]["message"]["latency"]
    first = [unit.latency[0] for unit in measured.units] + [twin.latency[0] for twin in measured.twins]
    assert [json.loads(records.dumps(samples)) for samples in first] == before
    assert all(len(unit.latency) == 3 for unit in measured.units)
    assert measured.started == kept[name]["started"]
    assert measured.duration_s > max(piece["elapsed_s"] for piece in kept.values())


@pytest.mark.slow
def test_units_of_several_threads_have_a_process_each_and_the_twin_its_own(
    two_backbones: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "reports"
    partial = out / "results.json.partial"
    command = [*_command(two_backbones, phantom_folder, out), "--queries", "4", "--processes", "2", "--threads", "2"]
    _kill_once_kept(command, partial, '"latency 1')
    pieces = map(json.loads, partial.read_text().splitlines()[1:])
    kept = {piece["plan"]: piece["message"]["latency"] for piece in pieces if piece["plan"].startswith("latency 0")}
    assert all(len(samples) == 1 for samples in kept.values())

    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.OK, done.stderr
    measured = results.read(out / "results.json")
    (twin,) = measured.twins
    own = {f"latency 0: {unit.unit.name}": unit.latency[0] for unit in measured.units}
    found = own | {f"latency 0 again: {twin.unit.name}": twin.latency[0]}
    assert {name: [json.loads(records.dumps(samples))] for name, samples in found.items()} == kept
    assert [each.process for each in measured.conditions] == [0, 1]
