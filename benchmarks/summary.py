"""Computes the numbers of the report from the raw results. It uses nothing else, so anyone can recompute them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np

from pneumo_edge.benchmarks import statistics, validity
from pneumo_edge.benchmarks.measures import accuracy, latency
from pneumo_edge.benchmarks.measures.accuracy import Accuracy
from pneumo_edge.benchmarks.measures.latency import Latency
from pneumo_edge.benchmarks.protocol import CallKind
from pneumo_edge.benchmarks.results import Conditions, LatencySamples, Results, UnitResult
from pneumo_edge.benchmarks.sustained import summary as sustained
from pneumo_edge.benchmarks.sustained.summary import Course, Endurance
from pneumo_edge.evaluation import outcomes
from pneumo_edge.evaluation.metrics import Interval, Labels, Scores
from pneumo_edge.scoring.cells import phantom_models
from pneumo_edge.scoring.models import Model, pairs_of_backbones
from pneumo_edge.spec import RANDOM_WEIGHTS

Clock = Literal["cpu", "wall"]
#: Names of the clocks in the report.
CLOCK_TITLES: dict[Clock, str] = {"cpu": "CPU time", "wall": "wall time"}


def deciding_clock(threads: int, *, has_cpu: bool = True) -> Clock:
    """The clock that decides claims about time.

    With one thread it is CPU time, which other jobs disturb less. With several it is wall time, because the CPU time of
    the whole process then includes threads that spin while they wait. It is wall time, too, where CPU time was not
    measured of both files (``has_cpu``).
    """
    return "cpu" if threads == 1 and has_cpu else "wall"


@dataclass(frozen=True)
class Row:
    """The numbers of one unit.

    ``load_ms`` and ``first_inference_ms`` are medians over processes. ``memory_bytes`` is the peak memory above the
    imports, for each process that measured it; empty where it was not measured. ``shortfalls`` says what the timing
    lacks; a unit with shortfalls cannot be called faster. ``file`` is the name of its file where another one of the
    same backbone and format was measured in the same way, else "".
    """

    result: UnitResult
    model: Model
    accuracy: Accuracy | None
    inference: Latency
    file_to_verdict: Latency | None
    stages_ms: dict[str, float]
    load_ms: float
    first_inference_ms: float
    memory_bytes: tuple[int, ...]
    shortfalls: tuple[str, ...]
    file: str = ""

    @property
    def peak_bytes(self) -> float | None:
        """Median of the peak memory over its processes; None where it was not measured."""
        return median(self.memory_bytes) if self.memory_bytes else None

    @property
    def memory_cost(self) -> float:
        """:attr:`peak_bytes` for a ranking: infinite where it was not measured."""
        return math.inf if self.peak_bytes is None else self.peak_bytes


@dataclass(frozen=True)
class Ratios:
    """How many times as long one unit takes as another, for both kinds of call and on both clocks.

    CPU time is that of the calling thread with one thread, and of the whole process with several. The second includes
    threads that spin while they wait. A ratio is None where one of the units lacks the measure.
    """

    inference: Interval | None
    file_to_verdict: Interval | None
    wall_inference: Interval
    wall_file_to_verdict: Interval | None

    def clock(self, threads: int) -> Clock:
        """The clock that decides claims with this number of threads."""
        return deciding_clock(threads, has_cpu=self.inference is not None)

    def deciding(self, threads: int) -> Interval:
        """The ratio of inference on the clock that decides claims with this number of threads."""
        return self.inference if self.inference and self.clock(threads) == "cpu" else self.wall_inference


@dataclass(frozen=True)
class NullTest(Ratios):
    """A file against itself (A/A): the ratios that this machine shows where there is no difference."""

    model: str
    engine: str
    threads: int

    @property
    def found(self) -> tuple[str, ...]:
        """The ratios that falsely show a difference: those whose interval excludes 1."""
        ratios = {
            "inference, CPU time": self.inference,
            "inference, wall time": self.wall_inference,
            "end to end, CPU time": self.file_to_verdict,
            "end to end, wall time": self.wall_file_to_verdict,
        }
        return tuple(name for name, ratio in ratios.items() if ratio and not ratio.low <= 1 <= ratio.high)

    @property
    def passed(self) -> bool:
        """Whether no false difference was found."""
        return not self.found

    @property
    def band(self) -> float:
        """Differences up to this share count as none: the measured noise, or the least difference if that is more."""
        return max(statistics.LEAST_DIFFERENCE, statistics.reach(self.deciding(self.threads)))


@dataclass(frozen=True)
class Ratio(Ratios):
    """How many times as long ``numerator`` takes as ``denominator``, and the A/A unit that ran beside them.

    ``null_test`` is None where the results have none for this engine and number of threads.
    """

    numerator: Row
    denominator: Row
    null_test: NullTest | None

    @property
    def band(self) -> float:
        """Differences up to this share count as none; infinite where the noise is not known."""
        return self.null_test.band if self.null_test else math.inf

    @property
    def decides(self) -> Clock:
        """The clock that decides claims."""
        return self.clock(self.numerator.result.unit.threads)

    @property
    def decided(self) -> Interval:
        """The ratio of inference that decides claims."""
        return self.deciding(self.numerator.result.unit.threads)

    @property
    def relation(self) -> statistics.Relation:
        """Whether inference takes less or more time with the numerator."""
        return statistics.relation(self.decided, self.band)


@dataclass(frozen=True)
class Disturbed:
    """A process that was disturbed, and the reasons."""

    conditions: Conditions
    by: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """The numbers of the report.

    Attributes:
        results: The raw results.
        rows: One for each unit, by engine, then format from the largest files to the smallest.
        ratios: One for each pair of backbones in the same format, on the same engine and threads.
        null_tests: One for each engine and number of threads that has an A/A unit.
        disturbed: Processes whose timing was disturbed.
        class_counts: Test images by class name.
        phantom: Why the accuracies mean nothing, where images are phantoms; empty otherwise.
        random_weights: Model files whose backbone was not pretrained.
        endurance: The units running alone for a long time; None where that was not measured.
    """

    results: Results
    rows: tuple[Row, ...]
    ratios: tuple[Ratio, ...]
    null_tests: tuple[NullTest, ...]
    disturbed: tuple[Disturbed, ...]
    class_counts: dict[str, int]
    phantom: tuple[str, ...]
    random_weights: tuple[str, ...]
    endurance: Endurance | None = None

    @property
    def majority_share(self) -> float:
        """Accuracy of always predicting the more common class."""
        return max(self.class_counts.values(), default=0) / max(1, sum(self.class_counts.values()))

    @property
    def has_accuracy(self) -> bool:
        """Whether any unit's accuracy was measured."""
        return any(row.accuracy for row in self.rows)

    @property
    def accuracy_counts(self) -> bool:
        """Whether the accuracies say anything about the backbones."""
        return self.has_accuracy and not self.phantom and not self.random_weights

    @property
    def names(self) -> list[str]:
        """The test images, in the order of :attr:`labels`."""
        return list(self.results.test_set.labels) if self.results.test_set else []

    @property
    def labels(self) -> Labels:
        """1 for the positive class and else 0, or the place of the class, for each test image, shape (images,)."""
        return self.results.test_set.targets if self.results.test_set else np.array([], dtype=np.int64)

    @property
    def patients(self) -> list[str]:
        """The patient of each test image, in the order of :attr:`labels`."""
        return [self.results.test_set.patients[name] for name in self.names] if self.results.test_set else []

    @property
    def smaller_class(self) -> tuple[int, int | None]:
        """Test images of the smaller class, and their patients, None where these are not known."""
        known = self.results.test_set is not None and self.results.test_set.has_patients
        return outcomes.smaller_class(self.labels, self.patients if known else None)

    def course(self, row: Row) -> Course | None:
        """How the time of a unit changed while it ran alone; None where that was not measured."""
        courses = self.endurance.courses if self.endurance else ()
        return next((each for each in courses if each.unit == row.result.unit), None)

    def scores(self, row: Row) -> Scores:
        """A unit's probability of the positive class for each test image, shape (images,); or of every class."""
        return row.result.scores(self.names)

    @property
    def shortage(self) -> str:
        """Why the test images are too few for a claim on accuracy; "" where they are enough."""
        return outcomes.too_few(*self.smaller_class) if self.has_accuracy else ""

    @property
    def trainings(self) -> dict[str, int]:
        """How many trainings of each backbone were measured.

        Trainings are counted by their files: two files of the same backbone, format and suffix with different bytes
        come from two trainings.
        """
        files: dict[str, dict[tuple[str, str], set[str]]] = {}
        for model in (*self.results.models, *(each.model for each in self.results.retrained)):
            kind = model.format, Path(model.file).suffix
            files.setdefault(model.backbone, {}).setdefault(kind, set()).add(model.sha256)
        return {backbone: max(map(len, kinds.values())) for backbone, kinds in files.items()}


def summarise(results: Results) -> Summary:
    """Compute every number of the report."""
    test_set = results.test_set
    counts = Counter(test_set.labels.values() if test_set else ())
    phantom = [f"the test images are {test_set.title}"] if test_set and not test_set.real else []
    phantom += phantom_models(results.models)
    rows = _in_order([_summarise_unit(results, unit) for unit in results.units])
    null_tests = _null_tests(results)
    return Summary(
        results=results,
        rows=rows,
        ratios=tuple(_compare(*pair, null_tests) for pair in pairs_of_backbones(rows, _of_backbone)),
        null_tests=tuple(null_tests.values()),
        disturbed=tuple(_disturbed(results)),
        class_counts={name: counts[label] for label, name in enumerate(test_set.class_names if test_set else ())},
        phantom=tuple(phantom),
        random_weights=tuple(model.file for model in results.models if model.initial_weights == RANDOM_WEIGHTS),
        endurance=sustained.summarise(results.sustained, _wall_noises(null_tests.values())),
    )


def _wall_noises(null_tests: Iterable[NullTest]) -> dict[tuple[str, int], float]:
    """The noise of wall time by engine and number of threads, where it has an interval."""
    found = {(test.engine, test.threads): statistics.reach(test.wall_inference) for test in null_tests}
    return {place: noise for place, noise in found.items() if math.isfinite(noise)}


def _summarise_unit(results: Results, unit: UnitResult) -> Row:
    model = results.model_of(unit)
    file_to_verdict = [process.file_to_verdict for process in unit.latency if process.file_to_verdict]
    return Row(
        result=unit,
        model=model,
        accuracy=accuracy.summarise(results.test_set.targets, unit.scores(results.test_set.labels), model.threshold)
        if results.test_set and model.has_spec
        else None,
        inference=latency.summarise(process.inference for process in unit.latency),
        file_to_verdict=latency.summarise(file_to_verdict) if file_to_verdict else None,
        stages_ms=latency.stage_medians(file_to_verdict) if file_to_verdict else {},
        load_ms=median(process.load_ns for process in unit.latency) / 1e6,
        first_inference_ms=median(process.first_inference_ns for process in unit.latency) / 1e6,
        memory_bytes=tuple(sample.above_bytes for sample in unit.memory),
        shortfalls=validity.shortfalls(results.settings, unit.latency),
        file=model.file if sum(_title(results, each) == _title(results, unit) for each in results.units) > 1 else "",
    )


def _title(results: Results, unit: UnitResult) -> tuple[str, str, str, int]:
    """What tables call a unit."""
    model = results.model_of(unit)
    return model.backbone, model.format, unit.unit.engine, unit.unit.threads


def _in_order(rows: list[Row]) -> tuple[Row, ...]:
    largest: dict[str, int] = {}
    for row in rows:
        largest[row.model.format] = max(largest.get(row.model.format, 0), row.model.size_bytes)

    def key(row: Row) -> tuple[str, int, int, str, str]:
        unit = row.result.unit
        return unit.engine, unit.threads, -largest[row.model.format], row.model.backbone, unit.model

    return tuple(sorted(rows, key=key))


def _of_backbone(row: Row) -> tuple[str, tuple[str, int, str]]:
    """A row's backbone, and what rows of two backbones must share to be compared."""
    unit = row.result.unit
    return row.model.backbone, (unit.engine, unit.threads, row.model.format)


def _compare(numerator: Row, denominator: Row, null_tests: dict[tuple[str, int], NullTest]) -> Ratio:
    unit = numerator.result.unit
    return Ratio(
        *_ratios(numerator.result.latency, denominator.result.latency),
        numerator,
        denominator,
        null_tests.get((unit.engine, unit.threads)),
    )


def compare_units(results: Results, numerator: Row, denominator: Row) -> Ratio:
    """How many times as long one unit takes as another on the same engine with as many threads."""
    return _compare(numerator, denominator, _null_tests(results))


def _null_tests(results: Results) -> dict[tuple[str, int], NullTest]:
    by_unit = {result.unit: result for result in results.units}
    return {
        (twin.unit.engine, twin.unit.threads): NullTest(
            *_ratios(by_unit[twin.unit].latency, twin.latency),
            twin.unit.model,
            twin.unit.engine,
            twin.unit.threads,
        )
        for twin in results.twins
    }


def _ratios(
    numerator: Sequence[LatencySamples], denominator: Sequence[LatencySamples]
) -> tuple[Interval | None, Interval | None, Interval, Interval | None]:
    """The fields of :class:`Ratios`, from the medians of both kinds of call, paired by process."""

    def medians(processes: Sequence[LatencySamples], kind: CallKind, clock: Clock) -> list[float]:
        # A coarse clock may measure no time at all in a call.
        return [max(1.0, float(np.median(getattr(getattr(process, kind), f"{clock}_ns")))) for process in processes]

    def ratio(kind: CallKind, clock: Clock) -> Interval:
        return statistics.paired_ratio(medians(numerator, kind, clock), medians(denominator, kind, clock))

    both = (*numerator, *denominator)
    whole = all(process.file_to_verdict for process in both)
    has_cpu = all(process.inference.cpu_ns is not None for process in both)
    return (
        ratio("inference", "cpu") if has_cpu else None,
        ratio("file_to_verdict", "cpu") if whole and has_cpu else None,
        ratio("inference", "wall"),
        ratio("file_to_verdict", "wall") if whole else None,
    )


def _disturbed(results: Results) -> Iterator[Disturbed]:
    for conditions in results.conditions:
        calls = [
            result.latency[conditions.process].inference
            for result in results.units
            if (result.unit.engine, result.unit.threads) == (conditions.engine, conditions.threads)
        ]
        wall_over_cpu = latency.summarise(calls).wall_over_cpu if calls and conditions.threads == 1 else None
        if by := validity.disturbances(conditions, results.machine, wall_over_cpu):
            yield Disturbed(conditions, by)
