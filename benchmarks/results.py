"""The schema of the raw results: every sample, and all that is needed to read them later and elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.protocol import Settings, Unit
from pneumo_edge import files, records
from pneumo_edge.errors import ResultsError
from pneumo_edge.records import Record

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Machine:
    """The machine that everything was measured on."""

    cpu: str
    architecture: str
    cores: int
    memory_bytes: int
    system: str
    python: str


@dataclass(frozen=True)
class TestSet:
    """The images that accuracy was measured on: the test split of a data set.

    ``labels`` maps sample names to 0 or 1, ``left_out`` those that could not be decoded to the reason.
    ``fingerprint`` is a SHA-256 over label and file content of every image used, whatever its name.
    """

    __test__ = False  # not a test class, whatever pytest makes of its name

    title: str
    real: bool
    licence: str
    class_names: tuple[str, ...]
    labels: dict[str, int]
    left_out: dict[str, str]
    fingerprint: str


@dataclass(frozen=True)
class Model:
    """A model file: its name among the files of this run, what it weighs, and what its ModelSpec says."""

    file: str
    size_bytes: int
    sha256: str
    backbone: str
    format: str
    threshold: float
    recipe: str
    initial_weights: str
    trained_on: str
    trained_on_real: bool


@dataclass(frozen=True)
class AccuracySamples:
    """A unit's probability of the positive class for each image of the test set, in its order."""

    engine_version: str
    delegate: str
    partitions: int
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class MemorySample:
    """Peak resident memory of a process of its own: after its imports, and after loading and judging."""

    baseline_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class Calls:
    """The timed calls of one kind, of one unit, in one process; all columns have one length.

    ``rounds`` says in which round a call had its turn, so that calls of different units can be paired.
    CPU time is that of the calling thread at one thread, and of the process at more. ``stages_ms`` holds
    the wall time of each stage of a prediction, in milliseconds.
    """

    rounds: tuple[int, ...]
    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]
    stages_ms: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = (self.wall_ns, self.cpu_ns, *self.stages_ms.values())
        if not self.rounds or any(len(column) != len(self.rounds) for column in columns):
            raise ValueError("the columns of a unit's calls are empty or differ in length")


@dataclass(frozen=True)
class LatencySamples:
    """The timed calls of one unit in one process."""

    inference: Calls
    file_to_verdict: Calls


@dataclass(frozen=True)
class UnitResult:
    """Everything that was measured of one unit; ``latency`` has one item for each process.

    ``probabilities`` maps sample names to the probability of the positive class.
    """

    unit: Unit
    engine_version: str
    delegate: str
    partitions: int
    probabilities: dict[str, float]
    memory: MemorySample
    latency: tuple[LatencySamples, ...]


@dataclass(frozen=True)
class Skipped:
    """A model file that was not measured on an engine (on none of them where that is empty), and why.

    ``failed`` is False where nothing is wrong with it: the engine is not installed, or was not chosen.
    """

    model: str
    engine: str
    reason: str
    failed: bool


@dataclass(frozen=True)
class Results:
    """A whole benchmark. ``started`` is ISO 8601 with its offset; ``versions`` are those of libraries."""

    started: str
    duration_s: float
    machine: Machine
    versions: dict[str, str]
    settings: Settings
    test_set: TestSet
    models: tuple[Model, ...]
    units: tuple[UnitResult, ...]
    skipped: tuple[Skipped, ...]
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        models = {model.file for model in self.models}
        for result in self.units:
            name = result.unit.name
            if result.unit.model not in models:
                raise ValueError(f"the unit {name} has no model of that name")
            if result.probabilities.keys() != self.test_set.labels.keys():
                raise ValueError(f"the unit {name} has other images than the test set")
            if len(result.latency) != self.settings.processes:
                raise ValueError(f"the unit {name} was timed in {len(result.latency)} processes")

    def model_of(self, result: UnitResult) -> Model:
        """The model file of a unit."""
        return next(model for model in self.models if model.file == result.unit.model)


@dataclass(frozen=True)
class _Header:
    schema_version: int


def write(path: Path, results: Results) -> None:
    """Write raw results as JSON on one line, whole or not at all."""
    files.write_text(path, records.dumps(results, indent=None))


def read(path: Path) -> Results:
    """Read raw results.

    Raises:
        ResultsError: As :func:`read_record`.
    """
    return read_record(Results, path, SCHEMA_VERSION, "results", "benchmark")


def read_record(record: type[Record], path: Path, schema_version: int, what: str, verb: str) -> Record:
    """Read a file of raw results of any kind.

    Args:
        record: The dataclass that it holds, with a field ``schema_version``.
        path: The file.
        schema_version: The newest schema that can be read.
        what: What it holds, for people.
        verb: The verb of the command line that writes it.

    Raises:
        ResultsError: The file is missing, damaged, of a newer schema, or contradicts itself.
    """
    expected = f"{what} of schema {schema_version}, as `pneumo-edge {verb}` writes them"
    try:
        text = path.read_bytes()
        found = records.loads(_Header, text).schema_version
        if found > schema_version:
            raise ResultsError(f"{path} has schema {found}", expected, "Install a newer pneumo-edge to read it")
        return records.loads(record, text)
    except OSError as error:
        raise ResultsError(f"{path} cannot be read ({error.strerror})", expected, "Check the path") from error
    except records.RecordError as error:
        raise ResultsError(f"{path} is not valid: {error}", expected, "Copy it again, or measure again") from error
