"""The schema of the raw results: every sample, and everything needed to interpret them later on another machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np

from pneumo_edge._util import files, records
from pneumo_edge._util.records import AtLeastOne, Count, Share, Within
from pneumo_edge._util.result_files import read_record
from pneumo_edge.benchmarks.protocol import MOST_SECONDS, BenchmarkSettings, Unit
from pneumo_edge.benchmarks.supplement.records import Supplement
from pneumo_edge.benchmarks.sustained.records import SustainedUnit
from pneumo_edge.errors import ResultsError
from pneumo_edge.evaluation.metrics import Labels, Scores
from pneumo_edge.scoring.classes import check_classes, check_probabilities, task_of
from pneumo_edge.scoring.models import Model, Skipped
from pneumo_edge.task import Task

SCHEMA_VERSION = 3
#: Schema 3 is schema 2 with measures that may be missing.
_OLDEST_SCHEMA = 2

#: Durations of calls, of loading and of the first inference.
_Nanoseconds = Annotated[int, Within(0, 1e9 * MOST_SECONDS)]
_WallNanoseconds = Annotated[int, Within(1, 1e9 * MOST_SECONDS)]
_Milliseconds = Annotated[float, Within(0, 1e3 * MOST_SECONDS)]
_Seconds = Annotated[float, Within(0, MOST_SECONDS)]
#: The stage that every prediction has.
_INFERENCE = "inference"


@dataclass(frozen=True)
class Machine:
    """The machine of the benchmark; ``flags`` are the processor's instruction sets.

    ``cores`` is the number of available cores. ``quota`` is the processor time that the control group (a container)
    grants, in cores; None where there is no limit, and in files from before the field existed. ``device`` is the name
    by which ``benchmark --device`` reached it; "" for the machine that the command ran on.
    """

    cpu: str
    architecture: str
    cores: AtLeastOne
    memory_bytes: Count
    system: str
    python: str
    flags: tuple[str, ...] = ()
    quota: float | None = None
    device: str = ""

    @property
    def title(self) -> str:
        """Its processor, with the name of the device before it."""
        return f"{self.device}, {self.cpu}" if self.device else self.cpu


@dataclass(frozen=True)
class TestSet:
    """The images that accuracy was measured on: the test split of a data set.

    ``labels`` maps sample names to the index of their class and ``patients`` to the patient, which is the sample name
    where the source does not name patients; ``left_out`` maps images that could not be decoded to the reason.
    ``fingerprint`` is a SHA-256 over label and file content of every image used, independent of its name.
    ``positive_class`` is None with more than two classes, and in results from before it was written.
    """

    __test__ = False  # pytest takes classes with such a name for tests

    title: str
    real: bool
    licence: str
    class_names: tuple[str, ...]
    labels: dict[str, Count]
    patients: dict[str, str]
    left_out: dict[str, str]
    fingerprint: str
    positive_class: str | None = None

    def __post_init__(self) -> None:
        self.task  # noqa: B018 - raises ValueError
        check_classes(self.class_names, self.labels.values())
        if self.patients.keys() != self.labels.keys():
            raise ValueError("labels and patients are of different images")

    @property
    def has_patients(self) -> bool:
        """Whether the source names the patient of some image."""
        return any(name != patient for name, patient in self.patients.items())

    @property
    def task(self) -> Task:
        """What was asked of the images."""
        return task_of(self.class_names, self.positive_class)

    @property
    def targets(self) -> Labels:
        """:meth:`pneumo_edge.task.Task.targets` of the images, in their order, shape (images,)."""
        return self.task.targets(np.array(list(self.labels.values()), dtype=np.int64))


@dataclass(frozen=True)
class AccuracySamples:
    """A unit's probability of the positive class for each image of the test set, in its order.

    A file without a ModelSpec has no probabilities. ``inference_ms`` is the median wall time of inference while other
    processes ran; use it only to order units.
    ``operators`` is the number of operators in the file, and ``delegated`` the number that went to the delegate.
    Without a positive class, ``probabilities`` is empty, and ``class_probabilities`` has every class in its order.
    """

    engine_version: str
    delegate: str
    partitions: Count
    probabilities: tuple[Share, ...]
    inference_ms: _Milliseconds
    operators: Count | None = None
    delegated: Count | None = None
    class_probabilities: tuple[tuple[Share, ...], ...] | None = None


@dataclass(frozen=True)
class MemorySample:
    """Peak resident memory of a fresh process: after its imports, and after loading a model and classifying images.

    ``baseline_bytes`` is None where only the memory above it is known; ``peak_bytes`` is then that memory.
    """

    baseline_bytes: Count | None
    peak_bytes: Count

    @property
    def above_bytes(self) -> int:
        """The peak above the imports."""
        return self.peak_bytes - (self.baseline_bytes or 0)


@dataclass(frozen=True)
class Calls:
    """The timed calls of one kind, of one unit, in one process; all columns have the same length.

    ``rounds`` has the round of each call, so that calls of different units can be paired. CPU time is that of the
    calling thread with one thread, and of the process with several; None where it was not measured. ``stages_ms`` has
    the wall time of each stage of a prediction, in milliseconds.
    """

    rounds: tuple[Count, ...]
    wall_ns: tuple[_WallNanoseconds, ...]
    cpu_ns: tuple[_Nanoseconds, ...] | None
    stages_ms: dict[str, tuple[_Milliseconds, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = (self.wall_ns, *([] if self.cpu_ns is None else [self.cpu_ns]), *self.stages_ms.values())
        if not self.rounds or any(len(column) != len(self.rounds) for column in columns):
            raise ValueError("the columns of a unit's calls are empty or differ in length")


@dataclass(frozen=True)
class LatencySamples:
    """The timed calls of one unit in one process, and the durations of loading and of the first inference.

    While loading, the file was in the page cache and the engine's library was imported. ``file_to_verdict`` is None
    where it was not measured, as of a file without a ModelSpec: how an image becomes its input is not known.
    """

    load_ns: _Nanoseconds
    first_inference_ns: _Nanoseconds
    inference: Calls
    file_to_verdict: Calls | None = None


@dataclass(frozen=True)
class Conditions:
    """The conditions while the units of one engine and number of threads were timed once each.

    Attributes:
        process: Number of their process, or processes, from 0.
        engine: The engine.
        threads: The number of threads.
        seconds: Duration of the timed rounds.
        steal_share: Share of the machine's processor time that its host gave to others; None where not known.
        involuntary_switches: Number of involuntary context switches; None where not known.
        load_average: Load average over the last minute, at the end; the highest of several processes.
        governor: Frequency governor of the first core; "" where not known.
        throttled_s: Seconds for which the control group was throttled because its quota was used up, summed over its
            cores; None where not known.
    """

    process: Count
    engine: str
    threads: AtLeastOne
    seconds: _Seconds
    steal_share: Share | None
    involuntary_switches: Count | None
    load_average: Annotated[float, Within(0)] | None
    governor: str
    throttled_s: float | None = None


@dataclass(frozen=True)
class AAUnit:
    """The A/A unit of an engine and number of threads: a unit's file loaded a second time and timed beside it."""

    unit: Unit
    latency: tuple[LatencySamples, ...]


@dataclass(frozen=True)
class UnitResult:
    """All measurements of one unit; ``latency`` has one item for each process.

    ``probabilities`` maps sample names to the probability of the positive class. They are measured once for a file on
    an engine, with any number of threads; there are none for a file without a ModelSpec, or without a test set.
    ``memory`` has one item for each process that measured it, and none where it was not measured. ``operators`` is
    the number of operators in the file, and ``delegated`` the number that went to the delegate; None where they were
    not recorded. Without a positive class, ``probabilities`` is empty, and
    ``class_probabilities`` has every class in its order.
    """

    unit: Unit
    engine_version: str
    delegate: str
    partitions: Count
    probabilities: dict[str, Share]
    memory: tuple[MemorySample, ...]
    latency: tuple[LatencySamples, ...]
    operators: Count | None = None
    delegated: Count | None = None
    class_probabilities: dict[str, tuple[Share, ...]] | None = None

    @property
    def imports_bytes(self) -> float | None:
        """Median of the memory of the imports; None where it was not measured."""
        found = [sample.baseline_bytes for sample in self.memory if sample.baseline_bytes is not None]
        return median(found) if found else None

    def scores(self, names: Iterable[str]) -> Scores:
        """What metrics take of images (:meth:`pneumo_edge.task.Task.scores`): (images,) or (images, classes)."""
        of_image = self.probabilities if self.class_probabilities is None else self.class_probabilities
        return np.array([of_image[name] for name in names], dtype=np.float64)


@dataclass(frozen=True)
class Retrained:
    """A file that differs from a measured one in the seed of its training alone, and its answers on an engine.

    Its time and memory were not measured, because they do not depend on the weights. The probabilities are as those of
    :class:`UnitResult`.
    """

    model: Model
    engine: str
    engine_version: str
    probabilities: dict[str, Share]
    class_probabilities: dict[str, tuple[Share, ...]] | None = None

    def scores(self, names: Iterable[str]) -> Scores:
        """As those of :class:`UnitResult`."""
        of_image = self.probabilities if self.class_probabilities is None else self.class_probabilities
        return np.array([of_image[name] for name in names], dtype=np.float64)


@dataclass(frozen=True)
class Results:
    """A whole benchmark. ``started`` is ISO 8601 with its offset; ``versions`` are those of libraries.

    ``test_set`` is None where no data set was given: the units were only timed. ``twins`` has one A/A unit for each
    engine and number of threads. ``supplement`` has further measurements of the same files on the same machine.
    ``retrained`` has the answers of further trainings of the measured files. ``sustained`` has each unit
    running alone for a long time; it is empty where that was not measured.
    """

    started: str
    duration_s: _Seconds
    machine: Machine
    versions: dict[str, str]
    settings: BenchmarkSettings
    test_set: TestSet | None
    models: tuple[Model, ...]
    units: tuple[UnitResult, ...]
    twins: tuple[AAUnit, ...]
    conditions: tuple[Conditions, ...]
    skipped: tuple[Skipped, ...]
    supplement: Supplement | None = None
    retrained: tuple[Retrained, ...] = ()
    sustained: tuple[SustainedUnit, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        _check_started(self.started)
        _check_once("model", (model.file for model in self.models))
        _check_once("unit", (result.unit.name for result in self.units))
        if not self.units:
            raise ValueError("there are no units")
        self._check_units()
        self._check_times()
        self._check_aa_units()
        self._check_conditions()

    def _check_units(self) -> None:
        models = {model.file for model in self.models}
        for result in self.units:
            name = result.unit.name
            if result.unit.model not in models:
                raise ValueError(f"the model of the unit {name} is not among the models")
            test_set = self.test_set if self.model_of(result).has_spec else None
            of_image = result.probabilities if result.class_probabilities is None else result.class_probabilities
            if of_image.keys() != (test_set.labels if test_set else {}).keys():
                raise ValueError(f"the unit {name} has different images from the test set")
            by_class = result.class_probabilities
            if test_set:
                check_probabilities(
                    f"the unit {name}",
                    list(result.probabilities.values()),
                    None if by_class is None else list(by_class.values()),
                    self.model_of(result).threshold,
                    test_set.task,
                    len(test_set.labels),
                )
        for each in self.retrained:
            labels = self.test_set.labels if self.test_set else {}
            answers = each.probabilities if each.class_probabilities is None else each.class_probabilities
            if self.test_set is None or answers.keys() != labels.keys():
                raise ValueError(f"the training {each.model.file} has different images from the test set")
            check_probabilities(
                f"the training {each.model.file}",
                list(each.probabilities.values()),
                None if each.class_probabilities is None else list(each.class_probabilities.values()),
                each.model.threshold,
                self.test_set.task,
                len(labels),
            )
        if self.supplement and (unknown := self.supplement.models - models):
            raise ValueError(f"the supplement names {min(unknown)}, which is not among the models")

    def _check_times(self) -> None:
        timed = [(f"unit {each.unit.name}", each.latency) for each in self.units]
        timed += [(f"A/A unit {each.unit.name}", each.latency) for each in self.twins]
        end_to_end = [each for _, latency in timed for process in latency if (each := process.file_to_verdict)]
        stages = end_to_end[0].stages_ms.keys() if end_to_end else ()
        with_spec = {model.file for model in self.models if model.has_spec}
        of_models = [(each.unit, each.latency) for each in self.units]
        of_models += [(each.unit, each.latency) for each in self.twins]
        for unit, samples in of_models:
            if unit.model not in with_spec and any(each.file_to_verdict for each in samples):
                raise ValueError(f"the unit {unit.name} has end-to-end calls, and its file has no ModelSpec")
            if len({(each.file_to_verdict is None, each.inference.cpu_ns is None) for each in samples}) > 1:
                raise ValueError(f"the processes of the unit {unit.name} measured different things")
        for name, latency in timed:
            if len(latency) != self.settings.processes:
                raise ValueError(f"the {name} was timed in {len(latency)} processes, not {self.settings.processes}")
            for calls in filter(None, (process.file_to_verdict for process in latency)):
                found = calls.stages_ms
                if found.keys() != stages:
                    raise ValueError(f"the {name} has the stages {_listed(found)}, and others {_listed(stages)}")
                if not any(found.get(_INFERENCE, ())):
                    raise ValueError(f"the {name} has no time in the stage {_INFERENCE!r} of its end-to-end calls")

    def _check_aa_units(self) -> None:
        units = {result.unit for result in self.units}
        for twin in self.twins:
            if twin.unit not in units:
                raise ValueError(f"the A/A unit {twin.unit.name} is not among the units")
        for alone in self.sustained:
            if alone.unit not in units:
                raise ValueError(f"the sustained unit {alone.unit.name} is not among the units")
        _check_once("sustained unit", (alone.unit.name for alone in self.sustained))
        _check_once("A/A unit of", (f"{twin.unit.engine}, {twin.unit.threads}" for twin in self.twins))

    def _check_conditions(self) -> None:
        for each in self.conditions:
            if each.process >= self.settings.processes:
                raise ValueError(
                    f"conditions has process {each.process}, and there were {self.settings.processes} from 0"
                )

    def model_of(self, result: UnitResult) -> Model:
        """The model file of a unit."""
        return next(model for model in self.models if model.file == result.unit.model)


def _why_incomplete(results: Results) -> str:
    """What a complete benchmark lacks, or has of units that it lacks; "" where it is complete."""
    units = {(result.unit.engine, result.unit.threads) for result in results.units}
    twins = {(twin.unit.engine, twin.unit.threads) for twin in results.twins}
    for engine, threads in sorted(units - twins):
        return f"twins has no A/A unit for {engine} with threads = {threads}"
    for engine, threads in sorted({(each.engine, each.threads) for each in results.conditions} - units):
        return f"conditions has {engine} with threads = {threads}, for which there is no unit"
    return ""


def _check_started(started: str) -> None:
    try:
        # Converting a date near the first or last year to UTC overflows.
        datetime.fromisoformat(started).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"started is {started!r}, not an ISO 8601 date and time") from error


def _check_once(what: str, names: Iterable[str]) -> None:
    for name, number in Counter(names).items():
        if number > 1:
            raise ValueError(f"the {what} {name} occurs {number} times")


@dataclass(frozen=True)
class _VerdictBasis:
    results_sha256: str


@dataclass(frozen=True)
class _VerdictHeader:
    """The field of ``verdict.json`` that raw results do not have."""

    basis: _VerdictBasis


def _is_verdict(path: Path) -> bool:
    try:
        records.loads(_VerdictHeader, path.read_bytes())
    except (OSError, records.RecordError):
        return False
    return True


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def write(path: Path, results: Results) -> None:
    """Write raw results as JSON on one line, atomically."""
    files.write_text(path, records.document(results, indent=None))


def read(path: Path) -> Results:
    """Read raw results.

    Raises:
        ResultsError: As :func:`read_record`; or they have schema 1, which is not enough for any claim; or they are
            incomplete.
    """
    try:
        found = read_record(Results, path, SCHEMA_VERSION, "results", "benchmark", oldest=_OLDEST_SCHEMA)
    except ResultsError as error:
        if _is_verdict(path):
            raise ResultsError(
                f"{path} is the verdict of a benchmark, not its raw results",
                "raw results as `pneumo-edge benchmark` writes them",
                "Give the results.json beside it",
            ) from error
        raise
    if why := _why_incomplete(found):
        raise ResultsError(
            f"{path} is not valid: {why}",
            "results as `pneumo-edge benchmark` writes them",
            "Copy it again, or measure again",
        )
    return found
