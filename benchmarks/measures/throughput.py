"""How many images a second a machine infers, over numbers of threads and of processes."""

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

#: All processes start at once, when each is ready; longer than this none takes to be.
_READY_SECONDS = 300.0

_barrier: Any = None


@dataclass(frozen=True)
class ThroughputTask:
    """A unit, and how many processes infer side by side for how many seconds."""

    task: Task
    processes: int
    seconds: float


def counts(cores: int) -> list[int]:
    """Numbers of threads or processes to try on so many cores: each up to four, then doubled, and all of them."""
    return sorted({*range(1, min(cores, 4) + 1), *(2**power for power in range(3, cores.bit_length())), cores})


def combinations(cores: int) -> Iterator[tuple[int, int]]:
    """Pairs of threads and processes: more threads in one process, then more processes of one thread."""
    yield from ((threads, 1) for threads in counts(cores))
    yield from ((1, processes) for processes in counts(cores)[1:])


def measure(wanted: ThroughputTask) -> ThroughputSample:
    """Infer in some processes at once, with nothing between calls.

    Raises:
        PneumoEdgeError: The unit cannot be loaded or called.
        ResultsError: A process crashed.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(wanted.processes)
    with ProcessPoolExecutor(wanted.processes, mp_context=context, initializer=_share, initargs=(barrier,)) as pool:
        # None ends before all have begun, so that each has a process of its own.
        running = [pool.submit(_infer, wanted.task, wanted.seconds) for _ in range(wanted.processes)]
        try:
            done = [each.result() for each in running]
        except (BrokenProcessPool, threading.BrokenBarrierError) as error:
            raise ResultsError(
                f"one of {wanted.processes} processes with {wanted.task.unit.name} crashed or was never ready",
                "as many as there are cores to run side by side",
                "Leave out the file, or this measure",
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
    """Inferences, and the time that they took in seconds."""
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
