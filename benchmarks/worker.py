"""The fresh process that measures. It reads a plan as JSON on standard input and writes messages as JSON lines.

:func:`work` runs it as ``python -m pneumo_edge.benchmarks.worker``.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumo_edge._util import children, records
from pneumo_edge.benchmarks.measures import accuracy, latency, memory
from pneumo_edge.benchmarks.measures.conditions import Watch
from pneumo_edge.benchmarks.protocol import Job, Plan
from pneumo_edge.benchmarks.results import AccuracySamples, Conditions, LatencySamples, MemorySample
from pneumo_edge.benchmarks.sustained import measure as sustained
from pneumo_edge.benchmarks.sustained.records import SustainedSamples
from pneumo_edge.benchmarks.sustained.sensors import Sensors
from pneumo_edge.errors import ModelFileError, PneumoEdgeError, ResultsError
from pneumo_edge.imaging import images
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.runtime.engines.tensors import Given


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
    sustained: SustainedSamples | None = None
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
            if message.accuracy or message.memory or message.latency or message.sustained:
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
        unit = first.unit
        if first.given is not None:
            return Message(memory=memory.measure_any(Path(first.path), unit.engine, unit.threads, first.given))
        return Message(memory=memory.measure(Path(first.path), unit.engine, unit.threads, files))
    if plan.measure == "accuracy":
        return Message(accuracy=_measure_accuracy(first, send, done))
    loaded = [_load(job, send) for job in plan.jobs]
    indices = [image.index for image in plan.images]
    pixels = {
        path: images.grey_to_rgb(np.load(path, mmap_mode="r")[indices])
        for path in {job.pixels for job in plan.jobs if job.given is None}
    }
    send(Message(doing="timing"))
    units = [_ready(job, *each, pixels, files) for job, each in zip(plan.jobs, loaded, strict=True)]
    if plan.measure == "sustained":
        assert plan.settings.sustained
        infer = latency.warm_inference(units[0], plan.settings.warmups)
        samples_alone = sustained.measure(
            infer, plan.settings.sustained.seconds, Sensors().read, lambda seconds: send(Message(done=seconds))
        )
        return Message(sustained=samples_alone)
    watch = Watch()
    samples = latency.measure(units, plan.settings, plan.process, done)
    return Message(latency=samples, conditions=watch.conditions(plan.process, first.unit))


def _measure_accuracy(job: Job, send: Callable[[Message], None], done: Callable[[], None]) -> AccuracySamples:
    model, _ = _load(job, send)
    if isinstance(model, Classifier):
        send(Message(doing=f"classifying with {job.unit.name}"))
        return accuracy.measure(model, np.load(job.pixels, mmap_mode="r"), done)
    send(Message(doing=f"running {job.unit.name}"))
    with engines.refusal(job.unit.engine, Path(job.path), "run"):
        given = job.given or Given()
        _check_size(model, given)
        return accuracy.measure_any(model, given, done)


def _check_size(model: engines.AnyModel, given: Given) -> None:
    """Refuse a file whose size is open, and name a shape that was given for none of its inputs."""
    try:
        model.shapes  # noqa: B018 - raises where a size is open
    except ModelFileError as error:
        names = {"", *(each.name for each in model.inputs)}
        if unknown := [name for name in given.shapes if name not in names]:
            raise ModelFileError(
                f"the file has no input {', '.join(map(repr, unknown))}, which --input-shape names, and {error.given}",
                error.expected,
                error.remedy,
            ) from error
        raise


def _ready(
    job: Job,
    model: Classifier | engines.AnyModel,
    load_ns: int,
    pixels: Mapping[str, images.Pixels],
    files: Sequence[Path],
) -> latency.LoadedUnit:
    """A unit with what it is timed on."""
    if isinstance(model, Classifier):
        return latency.LoadedUnit.of_classifier(model, load_ns, pixels[job.pixels], files)
    return latency.LoadedUnit.of_any(model, load_ns, job.given or Given())


def _load(job: Job, send: Callable[[Message], None]) -> tuple[Classifier | engines.AnyModel, int]:
    """The model and its loading time in nanoseconds, without the import of the library."""
    send(Message(doing=f"loading {job.unit.name}"))
    row, threads = engines.choose(Path(job.path), job.unit.engine), job.unit.threads
    engines.import_engine(row)
    started = time.perf_counter_ns()
    model: Classifier | engines.AnyModel
    if job.given is None:
        model = Classifier(job.path, engine=row.name, threads=threads)
    else:
        model = engines.load_any(Path(job.path), row, threads, job.given)
    return model, time.perf_counter_ns() - started


def _talk(child: children.Child, plan: str) -> Iterator[bytes]:
    """Send the process its plan, and yield its lines until it ends."""
    # A process that died before it read its plan ends its output, which the caller notices.
    with contextlib.suppress(BrokenPipeError), child.stdin as stdin:
        stdin.write(plan.encode())
    yield from child.stdout


if __name__ == "__main__":
    main()
