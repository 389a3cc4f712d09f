"""What the raw results say; computed from them alone, so that anyone can compute it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import numpy as np

from benchmarks import statistics, validity
from benchmarks.measures import accuracy, latency
from benchmarks.measures.accuracy import Accuracy
from benchmarks.measures.latency import Latency
from benchmarks.protocol import CALL_KINDS
from benchmarks.results import Conditions, LatencySamples, Model, Results, UnitResult
from pneumo_edge.evaluation.metrics import Interval
from pneumo_edge.spec import RANDOM_WEIGHTS


@dataclass(frozen=True)
class Row:
    """One unit in numbers.

    ``load_ms`` and ``first_inference_ms`` are medians over processes. ``memory_bytes`` is the peak over a
    process's imports, in each process that measured it. ``shortfalls`` says why its times cannot win a
    comparison; it is empty where they can.
    """

    result: UnitResult
    model: Model
    accuracy: Accuracy
    inference: Latency
    file_to_verdict: Latency
    stages_ms: dict[str, float]
    load_ms: float
    first_inference_ms: float
    memory_bytes: tuple[int, ...]
    shortfalls: tuple[str, ...]

    @property
    def peak_bytes(self) -> float:
        """Median of the peak memory over its processes."""
        return median(self.memory_bytes)


@dataclass(frozen=True)
class NullTest:
    """A file against itself: what a ratio of CPU time shows on this machine where there is no difference."""

    model: str
    engine: str
    threads: int
    inference: Interval
    file_to_verdict: Interval

    @property
    def passed(self) -> bool:
        """Whether no difference was found, as there is none."""
        return statistics.judge(self.inference, 0.0) == "not separable"


@dataclass(frozen=True)
class Ratio:
    """How many times the CPU time of ``denominator`` a call of ``numerator`` takes, and the A/A unit beside them."""

    numerator: Row
    denominator: Row
    inference: Interval
    file_to_verdict: Interval
    null_test: NullTest

    @property
    def relation(self) -> statistics.Relation:
        """Whether inference takes the numerator less or more time."""
        return statistics.judge(self.inference, statistics.reach(self.null_test.inference))


@dataclass(frozen=True)
class Disturbed:
    """A process that something else disturbed, and by what."""

    conditions: Conditions
    by: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """The results in numbers.

    Attributes:
        results: What it was computed from.
        rows: One for each unit, by engine, then format from the largest files to the smallest.
        ratios: One for each pair of backbones in the same format, on the same engine and threads.
        null_tests: One for each engine and number of threads.
        disturbed: Processes that timed while something else went on.
        class_counts: Test images by class name.
        phantom: Why the accuracies mean nothing, where images are procedural; else empty.
        random_weights: Model files whose backbone was not pretrained.
    """

    results: Results
    rows: tuple[Row, ...]
    ratios: tuple[Ratio, ...]
    null_tests: tuple[NullTest, ...]
    disturbed: tuple[Disturbed, ...]
    class_counts: dict[str, int]
    phantom: tuple[str, ...]
    random_weights: tuple[str, ...]

    @property
    def majority_share(self) -> float:
        """Accuracy of calling every image by the commoner class."""
        return max(self.class_counts.values()) / sum(self.class_counts.values())

    @property
    def accuracy_counts(self) -> bool:
        """Whether the accuracies say anything of the backbones."""
        return not self.phantom and not self.random_weights


def summarise(results: Results) -> Summary:
    """Compute every number of the report."""
    counts = Counter(results.test_set.labels.values())
    phantom = [] if results.test_set.real else [f"the test images are {results.test_set.title}"]
    if on_phantom := {model.trained_on for model in results.models if not model.trained_on_real}:
        phantom.append(f"models were trained on {', '.join(sorted(on_phantom))}")
    rows = _in_order([_summarise_unit(results, unit) for unit in results.units])
    null_tests = _null_tests(results)
    return Summary(
        results=results,
        rows=rows,
        ratios=tuple(_compare(*pair, null_tests) for pair in _pairs(rows)),
        null_tests=tuple(null_tests.values()),
        disturbed=tuple(_disturbed(results)),
        class_counts={name: counts[label] for label, name in enumerate(results.test_set.class_names)},
        phantom=tuple(phantom),
        random_weights=tuple(model.file for model in results.models if model.initial_weights == RANDOM_WEIGHTS),
    )


def _summarise_unit(results: Results, unit: UnitResult) -> Row:
    model = results.model_of(unit)
    file_to_verdict = [process.file_to_verdict for process in unit.latency]
    return Row(
        result=unit,
        model=model,
        accuracy=accuracy.summarise(results.test_set.labels, unit.probabilities, model.threshold),
        inference=latency.summarise(process.inference for process in unit.latency),
        file_to_verdict=latency.summarise(file_to_verdict),
        stages_ms=latency.stage_medians(file_to_verdict),
        load_ms=median(process.load_ns for process in unit.latency) / 1e6,
        first_inference_ms=median(process.first_inference_ns for process in unit.latency) / 1e6,
        memory_bytes=tuple(sample.peak_bytes - sample.baseline_bytes for sample in unit.memory),
        shortfalls=validity.shortfalls(results.settings, unit.latency),
    )


def _in_order(rows: list[Row]) -> tuple[Row, ...]:
    largest: dict[str, int] = {}
    for row in rows:
        largest[row.model.format] = max(largest.get(row.model.format, 0), row.model.size_bytes)

    def key(row: Row) -> tuple[str, int, int, str, str]:
        unit = row.result.unit
        return unit.engine, unit.threads, -largest[row.model.format], row.model.backbone, unit.model

    return tuple(sorted(rows, key=key))


def _pairs(rows: tuple[Row, ...]) -> Iterator[tuple[Row, Row]]:
    """Rows that differ in their backbone alone, by the backbones' names."""
    for first, second in combinations(rows, 2):
        one, other = first.result.unit, second.result.unit
        same = (one.engine, one.threads, first.model.format) == (other.engine, other.threads, second.model.format)
        if same and first.model.backbone != second.model.backbone:
            yield first, second


def _compare(numerator: Row, denominator: Row, null_tests: dict[tuple[str, int], NullTest]) -> Ratio:
    unit = numerator.result.unit
    return Ratio(
        numerator,
        denominator,
        *_cpu_ratios(numerator.result.latency, denominator.result.latency),
        null_tests[unit.engine, unit.threads],
    )


def _null_tests(results: Results) -> dict[tuple[str, int], NullTest]:
    by_unit = {result.unit: result for result in results.units}
    return {
        (twin.unit.engine, twin.unit.threads): NullTest(
            twin.unit.model,
            twin.unit.engine,
            twin.unit.threads,
            *_cpu_ratios(by_unit[twin.unit].latency, twin.latency),
        )
        for twin in results.twins
    }


def _cpu_ratios(
    numerator: Sequence[LatencySamples], denominator: Sequence[LatencySamples]
) -> tuple[Interval, Interval]:
    """Ratios of the medians of CPU time of both kinds of call, process by process, where both ran side by side."""

    def medians(processes: Sequence[LatencySamples], kind: str) -> list[float]:
        # A clock that ticks slowly may see no time pass in a call.
        return [max(1.0, float(np.median(getattr(process, kind).cpu_ns))) for process in processes]

    inference, file_to_verdict = (
        statistics.paired_ratio(medians(numerator, kind), medians(denominator, kind)) for kind in CALL_KINDS
    )
    return inference, file_to_verdict


def _disturbed(results: Results) -> Iterator[Disturbed]:
    for conditions in results.conditions:
        calls = [
            result.latency[conditions.process].inference
            for result in results.units
            if (result.unit.engine, result.unit.threads) == (conditions.engine, conditions.threads)
        ]
        wall_over_cpu = latency.summarise(calls).wall_over_cpu if conditions.threads == 1 else None
        if by := validity.disturbances(conditions, results.machine, wall_over_cpu):
            yield Disturbed(conditions, by)
