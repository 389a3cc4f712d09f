"""What the raw results say; computed from them alone, so that anyone can compute it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from benchmarks.measures import accuracy, latency
from benchmarks.measures.accuracy import Accuracy
from benchmarks.measures.latency import Latency
from benchmarks.results import Model, Results, UnitResult
from pneumo_edge.spec import RANDOM_WEIGHTS


@dataclass(frozen=True)
class Row:
    """One unit in numbers. ``memory_bytes`` is the peak over the process's imports."""

    result: UnitResult
    model: Model
    accuracy: Accuracy
    inference: Latency
    file_to_verdict: Latency
    stages_ms: dict[str, float]
    memory_bytes: int


@dataclass(frozen=True)
class Spread:
    """The median over processes, and the least and the greatest of them."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Ratio:
    """How many times the CPU time of ``denominator`` a call of ``numerator`` takes; both are backbones."""

    numerator: str
    denominator: str
    format: str
    engine: str
    threads: int
    inference: Spread
    file_to_verdict: Spread


@dataclass(frozen=True)
class Summary:
    """The results in numbers.

    Attributes:
        results: What it was computed from.
        rows: One for each unit, by engine, then format from the largest files to the smallest.
        ratios: One for each pair of backbones in the same format, on the same engine and threads.
        class_counts: Test images by class name.
        phantom: Why the accuracies mean nothing, where images are procedural; else empty.
        random_weights: Model files whose backbone was not pretrained.
    """

    results: Results
    rows: tuple[Row, ...]
    ratios: tuple[Ratio, ...]
    class_counts: dict[str, int]
    phantom: tuple[str, ...]
    random_weights: tuple[str, ...]

    @property
    def majority_share(self) -> float:
        """Accuracy of calling every image by the commoner class."""
        return max(self.class_counts.values()) / sum(self.class_counts.values())


def summarise(results: Results) -> Summary:
    """Compute every number of the report."""
    counts = Counter(results.test_set.labels.values())
    phantom = [] if results.test_set.real else [f"the test images are {results.test_set.title}"]
    if on_phantom := {model.trained_on for model in results.models if not model.trained_on_real}:
        phantom.append(f"models were trained on {', '.join(sorted(on_phantom))}")
    rows = _in_order([_summarise_unit(results, unit) for unit in results.units])
    return Summary(
        results=results,
        rows=rows,
        ratios=tuple(_compare(*pair) for pair in _pairs(rows)),
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
        memory_bytes=unit.memory.peak_bytes - unit.memory.baseline_bytes,
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


def _compare(numerator: Row, denominator: Row) -> Ratio:
    unit = numerator.result.unit
    return Ratio(
        numerator.model.backbone,
        denominator.model.backbone,
        numerator.model.format,
        unit.engine,
        unit.threads,
        _ratio(numerator.inference, denominator.inference),
        _ratio(numerator.file_to_verdict, denominator.file_to_verdict),
    )


def _ratio(numerator: Latency, denominator: Latency) -> Spread:
    """Ratio of the medians of CPU time, process by process, because units of one process ran side by side."""
    ratios = [a / b for a, b in zip(numerator.cpu_medians_ms, denominator.cpu_medians_ms, strict=True)]
    return Spread(median(ratios), min(ratios), max(ratios))
