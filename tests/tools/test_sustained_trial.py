"""The trial of the change points of a sustained benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pneumo_edge._util import cores
from pneumo_edge.benchmarks import machine
from tests.benchmarks.endurance import noise
from tools import sustained_trial
from tools.sustained_trial import TrialRun

_PAGE = "Before\n<!-- table: made by make sustained-trial -->\n<!-- end of table -->\nAfter\n"


def _run(kind: str, number: int) -> TrialRun:
    at_s = np.arange(30)
    step = 10 + number if kind == "steps" else 30
    times = 4 * np.exp(noise(30, number)) * np.where(at_s < step, 1, 1.6)
    steps = ((float(step), 0.6),) if kind == "steps" else ()
    seconds = tuple(map(float, at_s))
    return TrialRun(kind, number, 30, "a quota", steps, seconds, tuple(times.tolist()), 0.1, "a processor", "0")  # type: ignore[arg-type]


def test_the_page_is_computed_from_the_raw_times_and_only_missing_runs_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, runs, made = tmp_path / "page.md", tmp_path / "runs.jsonl", []
    page.write_text(_PAGE)
    lines = [json.dumps(asdict(_run(kind, number))) for kind in ("steps", "undisturbed") for number in range(3)]
    # As if the trial had been killed within the line of a run.
    runs.write_text("\n".join(lines)[:-20])

    def run(kind: str, number: int, *rest: object) -> TrialRun:
        made.append((kind, number))
        return _run(kind, number)

    monkeypatch.setattr(sustained_trial, "run", run)
    monkeypatch.setattr(machine, "describe", lambda: SimpleNamespace(cpu="a processor"))
    command = ["trial", "--steps", "4", "--undisturbed", "4", "--step-seconds", "30", "--runs", str(runs)]
    monkeypatch.setattr(sys, "argv", [*command, "--page", str(page)])
    sustained_trial.main()
    assert made == [("steps", 3), ("undisturbed", 2), ("undisturbed", 3)]
    assert "in 4 of 4; median error 0.0 s" in page.read_text()
    assert "| in 0 of 4 |" in page.read_text()
    sustained_trial.main()
    assert len(made) == 3
    monkeypatch.setattr(sys, "argv", [*command, "--page", str(page), "--seconds", "40"])
    with pytest.raises(SystemExit, match="has runs of another length or machine"):
        sustained_trial.main()


@pytest.fixture
def child() -> Iterator[Any]:
    import psutil

    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield psutil.Process(process.pid)
        process.kill()


def test_without_control_groups_signals_take_the_time_away_and_let_the_process_go_on(
    child: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "folders", lambda: iter(()))
    with sustained_trial.limiter(child.pid) as (by, leave):
        assert by == "a duty cycle of SIGSTOP and SIGCONT"
        leave(0.1)
        while child.status() != "stopped":
            time.sleep(0.01)
    assert child.status() != "stopped"


def test_a_quota_is_that_of_a_group_of_its_own(child: Any) -> None:
    with sustained_trial.limiter(child.pid) as (by, leave):
        if not by.startswith("a quota"):
            pytest.skip("control groups are not writable here")
        leave(0.5)
        membership = Path(f"/proc/{child.pid}/cgroup").read_text()
        assert f"pneumo-edge-trial-{child.pid}" in membership
        child.kill()
        child.wait()
