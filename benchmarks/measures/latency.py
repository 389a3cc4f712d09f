"""Wall and CPU time of single calls, of all units side by side in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.protocol import CALL_KINDS, CallKind, Settings, schedule, turns_within
from benchmarks.results import Calls, LatencySamples
from pneumo_edge.images import Pixels
from pneumo_edge.runtime.classifier import Classifier, Prediction, Timings


@dataclass(frozen=True)
class Latency:
    """Calls of one kind over all processes: wall time in milliseconds, pooled.

    ``cpu_medians_ms`` holds the median of CPU time in each process.
    """

    calls: int
    median_ms: float
    p90_ms: float
    cpu_medians_ms: tuple[float, ...]


@dataclass(frozen=True)
class LoadedUnit:
    """A unit that is ready to be timed.

    ``pixels`` are the test images at its input size, uint8 of shape (images, height, width, 3), and
    ``files`` their files, in the same order.
    """

    classifier: Classifier
    pixels: Pixels
    files: Sequence[Path]


@dataclass(frozen=True)
class _Sample:
    wall_ns: int
    cpu_ns: int
    stages: Timings | None


class _Timer:
    """Times the calls of one kind of one unit, and keeps the samples of the rounds."""

    def __init__(self, unit: LoadedUnit, kind: CallKind) -> None:
        self._unit = unit
        self._kind = kind
        # The thread's clock leaves out what the process's other threads do; so it is right for one thread only.
        self._cpu_clock = time.thread_time_ns if unit.classifier.engine.threads == 1 else time.process_time_ns
        self._samples: dict[int, _Sample] = {}

    def call(self, image: int) -> _Sample:
        prepared = self._prepare(image % len(self._unit.files))
        cpu, wall = self._cpu_clock(), time.perf_counter_ns()
        answer = prepared()
        wall, cpu = time.perf_counter_ns() - wall, self._cpu_clock() - cpu
        return _Sample(wall, cpu, answer.timings if isinstance(answer, Prediction) else None)

    def record(self, number: int, image: int) -> None:
        self._samples[number] = self.call(image)

    def calls(self) -> Calls:
        samples = self._samples.values()
        stages = [asdict(sample.stages) for sample in samples if sample.stages]
        return Calls(
            rounds=tuple(self._samples),
            wall_ns=tuple(sample.wall_ns for sample in samples),
            cpu_ns=tuple(sample.cpu_ns for sample in samples),
            stages_ms={name: tuple(row[name] for row in stages) for name in stages[0]} if stages else {},
        )

    def _prepare(self, image: int) -> Callable[[], object]:
        classifier = self._unit.classifier
        if self._kind == "inference":
            return partial(classifier.engine.run, classifier.as_input(self._unit.pixels[image]))
        return partial(classifier.predict, self._unit.files[image])


def measure(
    units: Sequence[LoadedUnit], settings: Settings, process: int, done: Callable[[], None]
) -> tuple[LatencySamples, ...]:
    """Warm up all units, then time them in rounds.

    All calls of a round get the same image. A call finds the caches as another unit left them, as on a
    device that does other things between two images.

    Args:
        units: What to time.
        settings: How often.
        process: Number of this process; part of the seed of the order.
        done: Called after each round.

    Returns:
        The samples of each unit, in the order given.

    Raises:
        ImageError: An image cannot be judged.
        ModelFileError: A model gave something that is not a probability.
    """
    timers = [_Timer(unit, kind) for unit in units for kind in CALL_KINDS]
    turns = [turns_within(settings, _warm_up(timer, settings.warmups)) for timer in timers]
    for number, order in enumerate(schedule(turns, settings.rounds, f"{settings.seed} {process}")):
        for index in order:
            timers[index].record(number, process * settings.rounds + number)
        done()
    kinds = len(CALL_KINDS)
    return tuple(
        LatencySamples(*(timer.calls() for timer in timers[first : first + kinds]))
        for first in range(0, len(timers), kinds)
    )


def summarise(processes: Iterable[Calls]) -> Latency:
    """Summarise the calls of one kind of one unit over all processes; every sample counts."""
    processes = list(processes)
    wall = np.concatenate([calls.wall_ns for calls in processes]) / 1e6
    return Latency(
        calls=len(wall),
        median_ms=float(np.median(wall)),
        p90_ms=float(np.percentile(wall, 90)),
        cpu_medians_ms=tuple(float(np.median(calls.cpu_ns)) / 1e6 for calls in processes),
    )


def stage_medians(processes: Iterable[Calls]) -> dict[str, float]:
    """Median wall time of each stage of a prediction over all processes, in milliseconds."""
    processes = list(processes)
    return {
        name: float(np.median(np.concatenate([calls.stages_ms[name] for calls in processes])))
        for name in processes[0].stages_ms
    }


def _warm_up(timer: _Timer, calls: int) -> float:
    """Median wall time of the warm-up calls, in seconds."""
    return float(np.median([timer.call(image).wall_ns for image in range(calls)])) / 1e9
