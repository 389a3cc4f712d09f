"""Measures inferences per second for several numbers of threads and processes."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from pneumo_edge.benchmarks.supplement.records import ThroughputSample
from pneumo_edge.benchmarks.supplement.task import Task
from pneumo_edge.errors import ResultsError

#: All processes start together when each is ready; this is the maximum time to wait for one.
_READY_SECONDS = 300.0

_barrier: Any = None


@dataclass(frozen=True)
class ThroughputTask:
    """A unit, the number of processes that run it in parallel, and the duration in seconds."""

    task: Task
    processes: int
    seconds: float


def counts(cores: int) -> list[int]:
    """Numbers of threads or processes to try: each up to four, then powers of two, and the number of cores."""
    return sorted({*range(1, min(cores, 4) + 1), *(2**power for power in range(3, cores.bit_length())), cores})


def combinations(cores: int) -> Iterator[tuple[int, int]]:
    """Pairs of threads and processes: more threads in one process, then more processes with one thread."""
    yield from ((threads, 1) for threads in counts(cores))
    yield from ((1, processes) for processes in counts(cores)[1:])


def measure(wanted: ThroughputTask) -> ThroughputSample:
    """Run inference in several processes in parallel, with no pause between calls.

    Raises:
        PneumoEdgeError: The unit cannot be loaded or called.
        ResultsError: A process crashed.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(wanted.processes)
    with ProcessPoolExecutor(wanted.processes, mp_context=context, initializer=_share, initargs=(barrier,)) as pool:
        # No task ends before all have begun, so each gets its own process.
        running = [pool.submit(_infer, wanted.task, wanted.seconds) for _ in range(wanted.processes)]
        try:
            done = [each.result() for each in running]
        except (BrokenProcessPool, threading.BrokenBarrierError) as error:
            raise ResultsError(
                f"one of {wanted.processes} processes with {wanted.task.unit.name} crashed or was never ready",
                "processes that run in parallel until they have measured",
                "Leave out the file or this measure",
            ) from error
    return ThroughputSample(
        wanted.task.unit,
        wanted.processes,
        sum(inferences for inferences, _ in done),
        sum(inferences / seconds for inferences, seconds in done),
    )


def _share(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _infer(task: Task, seconds: float) -> tuple[int, float]:
    """Number of inferences, and their duration in seconds."""
    try:
        classifier, pixels = task.load()
        tensors = [classifier.as_input(image) for image in pixels]
        for call in range(task.warmups):
            classifier.engine.run(tensors[call % len(tensors)])
    except BaseException:
        _barrier.abort()
        raise
    _barrier.wait(_READY_SECONDS)
    started = time.perf_counter()
    inferences = 0
    while (passed := time.perf_counter() - started) < seconds or not inferences:
        classifier.engine.run(tensors[inferences % len(tensors)])
        inferences += 1
    return inferences, passed
