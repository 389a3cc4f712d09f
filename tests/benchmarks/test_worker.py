from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from pneumo_edge.benchmarks.measures.memory import peak_rss
from pneumo_edge.benchmarks.protocol import BenchmarkSettings, Job, Measure, Plan, Unit
from pneumo_edge.benchmarks.worker import StoppedError, work
from pneumo_edge.errors import ResultsError

_MEBI = 2**20


def plan_for(model: Path, measure: Measure, *more: str) -> Plan:
    jobs = tuple(Job(Unit(name, "litert", 1), str(model), "none.npy") for name in ("fake.tflite", *more))
    return Plan(measure, jobs, (), BenchmarkSettings())


def library_that(behaviour: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an ai_edge_litert in front of the real one, for the worker alone."""
    package = folder / "stand-in" / "ai_edge_litert"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(behaviour)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))


@pytest.mark.parametrize("measure", ["accuracy", "memory"])
def test_a_native_crash_names_the_unit_and_the_signal(
    measure: Measure, fake_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library_that("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", tmp_path, monkeypatch)
    with pytest.raises(ResultsError, match=r"fake\.tflite on litert ended with signal SIGSEGV while .*fake\.tflite"):
        work(plan_for(fake_model, measure), lambda done: None)


def test_a_crash_while_all_are_timed_names_all(
    fake_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library_that("import os\nos._exit(7)\n", tmp_path, monkeypatch)
    with pytest.raises(
        ResultsError, match=r"fake\.tflite on litert, b\.tflite on litert ended with exit code 7 while loading fake"
    ):
        work(plan_for(fake_model, "latency", "b.tflite"), lambda done: None)


def test_what_an_engine_refuses_is_told_in_its_words(fake_model: Path) -> None:
    with pytest.raises(ResultsError, match=r"litert cannot load .*fake\.tflite"):
        work(plan_for(fake_model, "accuracy"), lambda done: None)


def test_what_libraries_print_does_not_disturb_the_messages(
    fake_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library_that(
        "import os\nos.write(1, b'INFO: hello\\n')\nraise ImportError('no such luck')\n", tmp_path, monkeypatch
    )
    with pytest.raises(ResultsError, match="no such luck"):
        work(plan_for(fake_model, "accuracy"), lambda done: None)


def test_a_folder_called_benchmarks_does_not_take_the_place_of_the_package(
    fake_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResultsError, match="litert cannot load"):
        work(plan_for(fake_model, "accuracy"), lambda done: None)


def test_an_interrupt_ends_the_worker(fake_model: Path) -> None:
    def interrupted(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(plan_for(fake_model, "accuracy"), interrupted)


def test_a_worker_that_is_to_stop_ends_with_its_next_step(fake_model: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        work(plan_for(fake_model, "accuracy"), lambda done: pytest.fail("it went on"), stop)


def test_peak_memory_sees_what_was_allocated_and_given_back() -> None:
    code = (
        "import numpy, sys\n"
        "from pneumo_edge.benchmarks.measures.memory import peak_rss\n"
        "before = peak_rss()\n"
        "numpy.ones(64 * 2**20, dtype=numpy.uint8)\n"
        "print(peak_rss() - before)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 60 * _MEBI < int(run.stdout) < 80 * _MEBI


def test_peak_memory_of_a_process_is_not_that_of_its_parent() -> None:
    ballast = np.ones(300 * _MEBI, dtype=np.uint8)
    code = "from pneumo_edge.benchmarks.measures.memory import peak_rss\nprint(peak_rss())\n"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert peak_rss() > ballast.nbytes
    assert int(run.stdout) < ballast.nbytes
