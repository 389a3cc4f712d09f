"""The fresh process that measures. It reads a plan as JSON on standard input and writes messages as JSON lines.

:func:`work` runs it as ``python -m pneumo_edge.benchmarks.worker``.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumo_edge._util import children, records
from pneumo_edge.benchmarks.measures import accuracy, latency, memory
from pneumo_edge.benchmarks.measures.conditions import Watch
from pneumo_edge.benchmarks.protocol import Job, Plan
from pneumo_edge.benchmarks.results import AccuracySamples, Conditions, LatencySamples, MemorySample
from pneumo_edge.errors import PneumoEdgeError, ResultsError
from pneumo_edge.imaging import images
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.classifier import Classifier


@dataclass(frozen=True)
class Message:
    """One line from the worker: its current activity, steps done since the last line, or the outcome.

    The last message has the samples of the plan's measure, or the three parts of an error.
    """

    doing: str = ""
    done: int = 0
    accuracy: AccuracySamples | None = None
    memory: MemorySample | None = None
    latency: tuple[LatencySamples, ...] = ()
    conditions: Conditions | None = None
    error: tuple[str, ...] = ()


class StoppedError(Exception):
    """The caller stopped a plan before it was complete."""


def work(plan: Plan, done: Callable[[int], None], stop: threading.Event | None = None) -> Message:
    """Run a plan in a fresh process.

    Args:
        plan: What to measure.
        done: Called with the number of steps since the last call: images classified, or steps through the rounds. If it
            raises, the process is ended.
        stop: Once it is set, the process is ended at the next step.

    Returns:
        The message that holds the samples.

    Raises:
        ResultsError: A unit cannot be measured, or the process crashed; the message names the unit and the reason.
        StoppedError: ``stop`` was set.
    """
    doing = "starting"
    with children.start("-m", "pneumo_edge.benchmarks.worker") as child:
        for line in _talk(child, records.dumps(plan, indent=None)):
            if stop and stop.is_set():
                raise StoppedError
            message = records.loads(Message, line)
            if message.error:
                raise ResultsError(*message.error)
            if message.accuracy or message.memory or message.latency:
                return message
            doing = message.doing or doing
            done(message.done)
        ending, last = child.ending(), child.last_words() or "it printed no message"
    raise ResultsError(
        f"the process that measured {', '.join(job.unit.name for job in plan.jobs)} "
        f"ended with {ending} while {doing} ({last})",
        "a process that runs until it has measured",
        "Leave out the file, or choose other engines (engines / --engine)",
    )


def main() -> None:
    """Read a plan, run it, write the samples."""
    with children.answering() as stream:

        def send(message: Message) -> None:
            stream.write(records.dumps(message, indent=None).encode())
            stream.flush()

        try:
            plan = records.loads(Plan, sys.stdin.buffer.read())
            send(_measure(plan, send))
        except PneumoEdgeError as error:
            send(Message(error=(error.given, error.expected, error.remedy)))


def _measure(plan: Plan, send: Callable[[Message], None]) -> Message:
    def done() -> None:
        send(Message(done=1))

    files = [Path(image.file) for image in plan.images]
    first = plan.jobs[0]
    if plan.measure == "memory":
        send(Message(doing=f"classifying with {first.unit.name}"))
        return Message(memory=memory.measure(Path(first.path), first.unit.engine, first.unit.threads, files))
    loaded = [_load(job, send) for job in plan.jobs]
    if plan.measure == "accuracy":
        send(Message(doing=f"classifying with {first.unit.name}"))
        return Message(accuracy=accuracy.measure(loaded[0][0], np.load(first.pixels, mmap_mode="r"), done))
    indices = [image.index for image in plan.images]
    pixels = {
        path: images.grey_to_rgb(np.load(path, mmap_mode="r")[indices]) for path in {job.pixels for job in plan.jobs}
    }
    send(Message(doing="timing"))
    units = [
        latency.LoadedUnit(classifier, load_ns, pixels[job.pixels], files)
        for (classifier, load_ns), job in zip(loaded, plan.jobs, strict=True)
    ]
    watch = Watch()
    samples = latency.measure(units, plan.settings, plan.process, done)
    return Message(latency=samples, conditions=watch.conditions(plan.process, first.unit))


def _load(job: Job, send: Callable[[Message], None]) -> tuple[Classifier, int]:
    """The classifier and its loading time in nanoseconds, without the import of the library."""
    send(Message(doing=f"loading {job.unit.name}"))
    engines.import_engine(engines.choose(Path(job.path), job.unit.engine))
    started = time.perf_counter_ns()
    classifier = Classifier(job.path, engine=job.unit.engine, threads=job.unit.threads)
    return classifier, time.perf_counter_ns() - started


def _talk(child: children.Child, plan: str) -> Iterator[bytes]:
    """Send the process its plan, and yield its lines until it ends."""
    # A process that died before it read its plan ends its output, which the caller notices.
    with contextlib.suppress(BrokenPipeError), child.stdin as stdin:
        stdin.write(plan.encode())
    yield from child.stdout


if __name__ == "__main__":
    main()
