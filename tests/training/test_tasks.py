"""Tasks in processes of their own; none of these imports TensorFlow."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pneumo_edge._util import cores, memory
from pneumo_edge.errors import DataError, PneumoEdgeError, TrainingError
from pneumo_edge.training import tasks
from pneumo_edge.training.tasks import Task

_BEGUN = tuple(f"begin {name} 1" for name in "abcde")


@dataclass(frozen=True)
class Work:
    """What the tasks of these tests get, and answer with."""

    words: str
    folder: str


def work(given: Work) -> Work:
    """Note when it begins and ends, and do what ``words`` say."""
    journal = Path(given.folder) / "journal"
    name, _, what = given.words.partition(" ")
    with journal.open("a") as stream:
        stream.write(f"begin {name} {os.environ['OMP_NUM_THREADS']}\n")
    if what == "refuse":
        raise DataError("a", "b", "Do c")
    if what == "crash":
        print("the reason", file=sys.stderr, flush=True)
        os._exit(7)
    while what == "wait" and not journal.with_name("go").exists():
        time.sleep(0.05)
    time.sleep(0.2)
    with journal.open("a") as stream:
        stream.write(f"end {name}\n")
    return given


@pytest.fixture
def carry_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Carries out tasks by their words, and gives the outcomes by name and what was noted, in order."""
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    )

    def run(*words: str, needs: int = 1, size: int = 1) -> tuple[Mapping[str, Work | PneumoEdgeError], list[str]]:
        given = [
            Task(each.split()[0], work, Work(each, str(tmp_path)), needs, size, tmp_path / "logs" / each.split()[0])
            for each in words
        ]
        found = {task.name: outcome for task, outcome in tasks.here(given)}
        return found, (tmp_path / "journal").read_text().splitlines()

    return run


def test_a_task_that_fails_does_not_stop_the_others(carry_out: Callable[..., Any], tmp_path: Path) -> None:
    found, _ = carry_out("a", "b refuse", "c crash", "d")
    assert found["a"] == Work("a", str(tmp_path)) and found["d"] == Work("d", str(tmp_path))
    assert isinstance(found["b"], DataError) and found["b"].args == ("a", "b", "Do c")
    assert isinstance(found["c"], TrainingError)
    assert found["c"].given == "the process of c crashed (exit code 7: the reason)"
    assert str(tmp_path / "logs" / "c") in str(found["c"])
    assert "the reason" in (tmp_path / "logs" / "c").read_text()


@pytest.mark.parametrize(
    ("free_cores", "free_memory", "needs", "size", "at_once"),
    [
        (2, None, 1, 10, 2),
        (2, None, 4, 10, 1),
        (8, 25, 1, 10, 2),
    ],
)
def test_as_many_are_at_work_as_there_are_cores_and_memory_for(
    free_cores: int,
    free_memory: int | None,
    needs: int,
    size: int,
    at_once: int,
    carry_out: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cores, "available", lambda: free_cores)
    monkeypatch.setattr(memory, "available", lambda: free_memory)
    _, noted = carry_out("a", "b", "c", needs=needs, size=size)
    running = most = 0
    for line in noted:
        running += 1 if line.startswith("begin") else -1
        most = max(most, running)
    # Of processes that may run at the same time, one may end before the other begins.
    assert most <= at_once
    assert {line for line in noted if line.startswith("begin")} == {f"begin {name} {needs}" for name in "abc"}


def test_processes_end_with_the_iterator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available", lambda: 2)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    body = """
        import os, pathlib, time
        from dataclasses import dataclass, replace
        @dataclass(frozen=True)
        class Place:
            path: str
        def wait(place: Place) -> Place:
            if place.path:
                pathlib.Path(place.path).write_text(str(os.getpid()))
                time.sleep(3600)
            while not pathlib.Path(__file__).with_name("pid").exists():
                time.sleep(0.05)
            return place
    """
    (tmp_path / "waiting_work.py").write_text(textwrap.dedent(body))
    monkeypatch.syspath_prepend(tmp_path)
    waiting = importlib.import_module("waiting_work")
    told = tmp_path / "pid"
    given = [
        Task(name, waiting.wait, waiting.Place(path), 1, 1, tmp_path / "log")
        for name, path in (("long", str(told)), ("brief", ""))
    ]
    outcomes = tasks.here(given)
    assert next(outcomes)[0].name == "brief"
    pid = int(told.read_text())
    outcomes.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
def test_on_a_cluster_the_tasks_of_a_lost_node_are_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="the extra 'scale' is not installed")
    cluster_utils: Any = importlib.import_module("ray.cluster_utils")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "memory": 10**9})
    try:
        lost = cluster.add_node(num_cpus=1, memory=10**9)
        ray.init(address=cluster.address, log_to_driver=False)
        words = ("a", "b refuse", "c crash", "d wait", "e wait")
        given = [Task(each.split()[0], work, Work(each, str(tmp_path)), 1, 10**8, tmp_path / "log") for each in words]
        with pytest.raises(TrainingError, match=r"no node of the cluster has 8 cores .* Give --cores and --memory"):
            tasks.check_nodes([replace(given[0], cores=8)])
        found: dict[str, Work | PneumoEdgeError] = {}
        for task, outcome in tasks.on_ray(given):
            found[task.name] = outcome
            if len(found) == 3:
                # Each node has one of those that wait.
                while not {"begin d 1", "begin e 1"} <= set((tmp_path / "journal").read_text().splitlines()):
                    time.sleep(0.1)
                cluster.remove_node(lost)
                (tmp_path / "go").touch()
        assert found["a"] == Work("a", str(tmp_path))
        assert isinstance(found["b"], DataError) and found["b"].args == ("a", "b", "Do c")
        assert isinstance(found["c"], TrainingError) and "exit code 7: the reason" in str(found["c"])
        assert found["d"] == Work("d wait", str(tmp_path)) and found["e"] == Work("e wait", str(tmp_path))
        begun = [line for line in (tmp_path / "journal").read_text().splitlines() if line.startswith("begin")]
        assert sorted(begun) in (sorted(["begin d 1", *_BEGUN]), sorted(["begin e 1", *_BEGUN]))
    finally:
        ray.shutdown()
        cluster.shutdown()
