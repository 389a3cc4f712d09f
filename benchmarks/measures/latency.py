"""Measures wall and CPU time of single calls, for several units in one process."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pneumo_edge.benchmarks import statistics
from pneumo_edge.benchmarks.protocol import (
    CALL_KINDS,
    WARMUP_SECONDS,
    BenchmarkSettings,
    CallKind,
    plan_turns,
    schedule,
)
from pneumo_edge.benchmarks.results import Calls, LatencySamples
from pneumo_edge.imaging.images import Pixels
from pneumo_edge.runtime.classifier import Classifier, Prediction, Timings
from pneumo_edge.runtime.engines import AnyModel, tensors
from pneumo_edge.runtime.engines.tensors import Given

#: Number of progress steps of a process.
STEPS = 100
#: How many different values a file without a ModelSpec is timed on.
_RANDOM_INPUTS = 8
#: Median absolute deviations above the median that make a call an outlier (about 7 standard deviations).
_OUTLIER = 10


@dataclass(frozen=True)
class Latency:
    """Calls of one kind over all processes: wall time in milliseconds, pooled.

    ``p90_bound_ms`` is MLPerf's early-stopping bound on the 90th percentile, with a confidence of 99 %; None for too
    few calls. ``outliers`` is the number of calls more than 10 median absolute deviations above the median; they are
    kept in all statistics. ``cpu_medians_ms`` has the median CPU time of each process and ``wall_medians_ms`` the
    median wall time. ``wall_over_cpu`` is the median over calls of their quotient. Where CPU time was not measured,
    the one is empty and the other None.
    """

    calls: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    p90_bound_ms: float | None
    outliers: int
    cpu_medians_ms: tuple[float, ...]
    wall_medians_ms: tuple[float, ...]
    wall_over_cpu: float | None


@dataclass(frozen=True)
class LoadedUnit:
    """A unit that is ready to be timed.

    ``load_ns`` is the loading time. ``pixels`` are the test images at its input size, uint8 of shape
    (images, height, width, 3), and ``files`` their files, in the same order.
    """

    load_ns: int
    threads: int
    images: int
    calls: Mapping[CallKind, Callable[[int], Callable[[], object]]]

    @classmethod
    def of_classifier(
        cls, classifier: Classifier, load_ns: int, pixels: Pixels, files: Sequence[Path] = ()
    ) -> LoadedUnit:
        """A model file with a ModelSpec.

        Args:
            classifier: The model file on its engine.
            load_ns: The loading time in nanoseconds.
            pixels: The images at its input size, uint8 of shape (images, height, width, 3).
            files: Their files, in the same order; without them only inference can be timed.
        """
        calls: dict[CallKind, Callable[[int], Callable[[], object]]] = {
            "inference": lambda image: partial(classifier.engine.run, classifier.as_input(pixels[image]))
        }
        if files:
            calls["file_to_verdict"] = lambda image: partial(classifier.predict, files[image])
        return cls(load_ns, classifier.engine.threads, len(pixels), calls)

    @classmethod
    def of_any(cls, model: AnyModel, load_ns: int, given: Given) -> LoadedUnit:
        """A model file without a ModelSpec, with random values for its inputs.

        Args:
            model: The model file on its engine.
            load_ns: The loading time in nanoseconds.
            given: Values that inputs need.

        Raises:
            ModelFileError: An input has an open axis and was given no shape, or no values of its type can be drawn.
        """
        feeds = [tensors.draw(model.inputs, model.shapes, given, seed) for seed in range(_RANDOM_INPUTS)]
        return cls(load_ns, model.threads, len(feeds), {"inference": lambda image: partial(model.call, feeds[image])})


@dataclass(frozen=True)
class _Sample:
    wall_ns: int
    cpu_ns: int
    stages: Timings | None


class _Timer:
    """Times the calls of one kind of one unit, and keeps the samples."""

    def __init__(self, unit: LoadedUnit, kind: CallKind) -> None:
        self._unit = unit
        self.kind = kind
        # The thread's clock excludes the process's other threads, so it is correct with one thread only.
        self._cpu_clock = time.thread_time_ns if unit.threads == 1 else time.process_time_ns
        self._samples: dict[int, _Sample] = {}
        self.first_ns = 0
        self.spent_ns = 0

    def warm_up(self, calls: int) -> float:
        """Median wall time of some calls, in nanoseconds."""
        walls: list[int] = []
        while len(walls) < calls and (len(walls) < 2 or sum(walls) < 1e9 * WARMUP_SECONDS):
            walls.append(self.call(len(walls)).wall_ns)
        self.first_ns = walls[0]
        return float(np.median(walls))

    def call(self, image: int) -> _Sample:
        prepared = self._unit.calls[self.kind](image % self._unit.images)
        cpu, wall = self._cpu_clock(), time.perf_counter_ns()
        answer = prepared()
        wall, cpu = time.perf_counter_ns() - wall, self._cpu_clock() - cpu
        return _Sample(wall, cpu, answer.timings if isinstance(answer, Prediction) else None)

    def record(self, number: int, image: int) -> None:
        sample = self._samples[number] = self.call(image)
        self.spent_ns += sample.wall_ns

    def falls_short(self, settings: BenchmarkSettings) -> bool:
        """Whether its calls have taken less time than required."""
        return self.kind == "inference" and self.spent_ns < settings.least_ns

    def calls(self) -> Calls:
        samples = self._samples.values()
        stages = [asdict(sample.stages) for sample in samples if sample.stages]
        return Calls(
            rounds=tuple(self._samples),
            wall_ns=tuple(sample.wall_ns for sample in samples),
            cpu_ns=tuple(sample.cpu_ns for sample in samples),
            stages_ms={name: tuple(row[name] for row in stages) for name in stages[0]} if stages else {},
        )


def expected_seconds(settings: BenchmarkSettings, call_ms: float) -> float:
    """Approximate duration of a unit's warm-up and calls in one process, in seconds.

    Args:
        settings: The settings of the benchmark.
        call_ms: Median wall time of an inference, in milliseconds. The stages before inference are neglected.
    """
    warm_up = min(settings.warmups * call_ms, max(1e3 * WARMUP_SECONDS, 2 * call_ms))
    return sum(warm_up + plan_turns(settings, kind, 1e6 * call_ms) * call_ms for kind in CALL_KINDS) / 1e3


def measure(
    units: Sequence[LoadedUnit], settings: BenchmarkSettings, process: int, done: Callable[[], None]
) -> tuple[LatencySamples, ...]:
    """Warm up all units, then time them in rounds.

    All calls of a round get the same image. A call finds the caches as another unit left them, as on a device that
    does other work between two images.

    Args:
        units: The units to time.
        settings: The settings of the benchmark.
        process: Number of this process; part of the seed of the order.
        done: Called :data:`STEPS` times during the rounds.

    Returns:
        The samples of each unit, in the order given.

    Raises:
        ImageError: An image cannot be classified, or a model gives no probabilities for it.
    """
    by_unit = [{kind: _Timer(unit, kind) for kind in CALL_KINDS if kind in unit.calls} for unit in units]
    timers = [timer for of_unit in by_unit for timer in of_unit.values()]
    turns = [plan_turns(settings, timer.kind, timer.warm_up(settings.warmups)) for timer in timers]
    order = random.Random(f"{settings.seed} {process}")
    rounds = schedule(turns, order)
    # Processes begin with different images, because some see only a few.
    image = process * settings.images // settings.processes
    for number, drawn in enumerate(rounds):
        for index in drawn:
            timers[index].record(number, image + number)
        for _ in range((number + 1) * STEPS // len(rounds) - number * STEPS // len(rounds)):
            done()
    # Timed calls may be faster than the warm-up calls that the rounds were planned from.
    number = len(rounds)
    while short := [timer for timer in timers if timer.falls_short(settings)]:
        order.shuffle(short)
        for timer in short:
            timer.record(number, image + number)
        number += 1
    return tuple(
        LatencySamples(
            unit.load_ns,
            of_unit["inference"].first_ns,
            of_unit["inference"].calls(),
            of_unit["file_to_verdict"].calls() if "file_to_verdict" in of_unit else None,
        )
        for unit, of_unit in zip(units, by_unit, strict=True)
    )


def warm_inference(unit: LoadedUnit, warmups: int) -> Callable[[int], tuple[int, int]]:
    """Warm a unit up for inference.

    Args:
        unit: The unit.
        warmups: Number of untimed calls; fewer where they take longer than :data:`WARMUP_SECONDS`.

    Returns:
        What makes an inference on the image of a number, and gives its wall and its CPU time in nanoseconds.
    """
    timer = _Timer(unit, "inference")
    timer.warm_up(warmups)

    def infer(image: int) -> tuple[int, int]:
        sample = timer.call(image)
        return sample.wall_ns, sample.cpu_ns

    return infer


def time_inference(classifier: Classifier, pixels: Pixels, warmups: int, calls: int) -> list[int]:
    """Wall time of consecutive inference calls, in nanoseconds.

    Args:
        classifier: The model file on its engine.
        pixels: Images at its input size, uint8 of shape (images, height, width, 3); used in turn.
        warmups: Number of calls before the timed ones.
        calls: Number of timed calls.
    """
    timer = _Timer(LoadedUnit.of_classifier(classifier, 0, pixels), "inference")
    return [timer.call(image).wall_ns for image in range(warmups + calls)][warmups:]


def summarise(processes: Iterable[Calls]) -> Latency:
    """Summarise the calls of one kind of one unit over all processes. No sample is dropped."""
    processes = list(processes)
    wall = np.concatenate([calls.wall_ns for calls in processes]) / 1e6
    cpus = [calls.cpu_ns for calls in processes if calls.cpu_ns is not None]
    median = np.median(wall)
    return Latency(
        calls=len(wall),
        median_ms=float(median),
        p90_ms=float(np.percentile(wall, 90)),
        p99_ms=float(np.percentile(wall, 99)),
        p90_bound_ms=statistics.early_stopping_bound(wall),
        outliers=int(np.sum(wall - median > _OUTLIER * np.median(np.abs(wall - median)))),
        cpu_medians_ms=tuple(float(np.median(cpu)) / 1e6 for cpu in cpus),
        wall_medians_ms=tuple(float(np.median(calls.wall_ns)) / 1e6 for calls in processes),
        wall_over_cpu=float(np.median(wall / np.maximum(np.concatenate(cpus) / 1e6, 1e-6)))
        if len(cpus) == len(processes)
        else None,
    )


def stage_medians(processes: Iterable[Calls]) -> dict[str, float]:
    """Median wall time of each stage of a prediction over all processes, in milliseconds."""
    processes = list(processes)
    return {
        name: float(np.median(np.concatenate([calls.stages_ms[name] for calls in processes])))
        for name in processes[0].stages_ms
    }
