"""Keeps what a benchmark has measured so far, so that an interrupted benchmark can resume."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pneumo_edge._util import records
from pneumo_edge._util.journal import Journal
from pneumo_edge._util.records import RecordError
from pneumo_edge.benchmarks.protocol import BenchmarkSettings, Plan, Unit
from pneumo_edge.benchmarks.results import Machine
from pneumo_edge.benchmarks.worker import Message, work
from pneumo_edge.runtime.engines.tensors import Given
from pneumo_edge.scoring.models import Model

#: Carries out a plan, as :func:`pneumo_edge.benchmarks.worker.work`.
Work = Callable[[Plan, Callable[[int], None], threading.Event | None], Message]


@dataclass(frozen=True)
class Identity:
    """What must be equal for measurements to belong to the same benchmark.

    ``versions`` has the versions of libraries and engines by distribution name; ``images`` is the fingerprint of the
    test set.
    """

    settings: BenchmarkSettings
    given: Given
    machine: Machine
    versions: dict[str, str]
    models: tuple[Model, ...]
    units: tuple[Unit, ...]
    images: str


@dataclass(frozen=True)
class _Piece:
    """A completed plan: its name, number of steps and samples, when the benchmark began, and its duration so far."""

    plan: str
    steps: int
    message: Message
    started: str
    elapsed_s: float


class Measurements:
    """Runs each plan once in a fresh process, also across interruptions. Several threads may call it.

    Args:
        target: The file for the results.
        resume: Keep what an interrupted benchmark had measured for this file.
        work: Runs a plan; by default in a process on this machine.
    """

    def __init__(self, target: Path, resume: bool, work: Work = work) -> None:
        self._journal = Journal(target, "measurements", "benchmark (files, images, settings, libraries, machine)")
        self._resume, self._work, self._lock = resume, work, threading.Lock()
        self._kept: dict[str, _Piece] = {}
        self._began, self._before_s = time.monotonic(), 0.0
        #: When measuring began, ISO 8601 with its offset; for a resumed benchmark, when it first began.
        self.started = datetime.now(UTC).isoformat(timespec="seconds")

    @property
    def elapsed_s(self) -> float:
        """Seconds of measuring, including those before an interruption."""
        return self._before_s + time.monotonic() - self._began

    def begin(self, identity: Identity) -> None:
        """Start or resume.

        Raises:
            ResultsError: There are measurements of an interrupted benchmark, and ``resume`` is false or they belong to
                another benchmark.
            OSError: The journal cannot be written.
        """

        def is_piece(number: int, line: bytes) -> bool:
            try:
                piece = records.loads(_Piece, line)
            except RecordError:
                return False
            self._kept[piece.plan] = piece
            self.started, self._before_s = piece.started, piece.elapsed_s
            return True

        self._journal.begin(asdict(identity), self._resume, is_piece)

    def work(self, plan: Plan, done: Callable[[int], None], stop: threading.Event | None = None) -> Message:
        """Run a plan, or return its samples from before the interruption.

        Parameters and errors are those of :func:`pneumo_edge.benchmarks.worker.work`.
        """
        name = _name(plan)
        if kept := self.kept(plan):
            done(self._kept[name].steps)
            return kept
        steps = 0

        def count(more: int) -> None:
            nonlocal steps
            steps += more
            done(more)

        message = self._work(plan, count, stop)
        with self._lock:
            self._journal.append(asdict(_Piece(name, steps, message, self.started, self.elapsed_s)))
        return message

    def kept(self, plan: Plan) -> Message | None:
        """The samples of a plan from before the interruption; None where it was not complete."""
        found = self._kept.get(_name(plan))
        return found.message if found and _answers(found.message, plan) else None

    def forget_if_empty(self) -> None:
        """Delete the journal where no plan was completed: there is nothing to resume."""
        self._journal.remove_if_empty()

    def forget(self) -> None:
        """Delete the journal, once the results have been written."""
        self._journal.remove()


def _name(plan: Plan) -> str:
    twin = " again" if plan.twin else ""
    return f"{plan.measure} {plan.process}{twin}: {', '.join(job.unit.name for job in plan.jobs)}"


def _answers(message: Message, plan: Plan) -> bool:
    """Whether a message has the samples that a plan asks for, because a journal may have been edited."""
    match plan.measure:
        case "accuracy":
            return message.accuracy is not None
        case "memory":
            return message.memory is not None
        case "latency":
            return message.conditions is not None and len(message.latency) == len(plan.jobs)
        case "sustained":
            return message.sustained is not None
