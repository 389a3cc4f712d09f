"""The schema of the raw results: every sample, and all that is needed to read them later and elsewhere."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.protocol import Settings, Unit
from benchmarks.supplement.records import Supplement
from pneumo_edge import files, records
from pneumo_edge.errors import ResultsError
from pneumo_edge.records import Record

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Machine:
    """The machine that everything was measured on; ``flags`` are the processor's instruction sets.

    ``cores`` are those that could be used. ``quota`` is the processor time that a control group (a container) granted,
    in cores' worth; None where nothing limited it, or in a file from before that was told.
    """

    cpu: str
    architecture: str
    cores: int
    memory_bytes: int
    system: str
    python: str
    flags: tuple[str, ...] = ()
    quota: float | None = None


@dataclass(frozen=True)
class TestSet:
    """The images that accuracy was measured on: the test split of a data set.

    ``labels`` maps sample names to 0 or 1 and ``patients`` to the patient, which is the name itself where
    the source does not tell; ``left_out`` maps those that could not be decoded to the reason.
    ``fingerprint`` is a SHA-256 over label and file content of every image used, whatever its name.
    """

    __test__ = False  # not a test class, whatever pytest makes of its name

    title: str
    real: bool
    licence: str
    class_names: tuple[str, ...]
    labels: dict[str, int]
    patients: dict[str, str]
    left_out: dict[str, str]
    fingerprint: str


@dataclass(frozen=True)
class Model:
    """A model file: its name among the files of this run, what it weighs, and what its ModelSpec says.

    ``processor`` is the kind that it was verified on, None where it does not say; ``unverified`` is what there is to
    remark where that is another kind than this one and makes a difference.
    """

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
    processor: str | None = None
    unverified: str | None = None


@dataclass(frozen=True)
class AccuracySamples:
    """A unit's probability of the positive class for each image of the test set, in its order.

    ``inference_ms`` is the median wall time of inference, beside whatever else ran: good for an order, no more.
    ``operators`` is how many operators the file has, and ``delegated`` how many of them went to the delegate.
    """

    engine_version: str
    delegate: str
    partitions: int
    probabilities: tuple[float, ...]
    inference_ms: float
    operators: int | None = None
    delegated: int | None = None


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
    """The timed calls of one unit in one process; before them, how long loading and the first inference took.

    The file was in the page cache, and the engine's library imported.
    """

    load_ns: int
    first_inference_ns: int
    inference: Calls
    file_to_verdict: Calls


@dataclass(frozen=True)
class Conditions:
    """What else went on while the units of one engine and number of threads were timed, each of them once.

    Attributes:
        process: Number of their process, or processes, from 0.
        engine: The engine.
        threads: The number of threads.
        seconds: How long the timed rounds took.
        steal_share: Share of the machine's processor time that its host gave to others; None where not told.
        involuntary_switches: How often a process was taken off a core that it could have used.
        load_average: Processes that ran or waited, over the last minute, at the end; the most where there were several.
        governor: How the first core's frequency is governed; "" where not told.
        throttled_s: Seconds for which the control group was stopped because its quota was used up, over its cores;
            None where not told.
    """

    process: int
    engine: str
    threads: int
    seconds: float
    steal_share: float | None
    involuntary_switches: int | None
    load_average: float | None
    governor: str
    throttled_s: float | None = None


@dataclass(frozen=True)
class Twin:
    """The A/A unit of an engine and number of threads: a unit's file loaded once more, and timed beside it."""

    unit: Unit
    latency: tuple[LatencySamples, ...]


@dataclass(frozen=True)
class UnitResult:
    """Everything that was measured of one unit; ``latency`` has one item for each process.

    ``probabilities`` maps sample names to the probability of the positive class. They are those of the
    file on the engine, taken once whatever the number of threads. ``memory`` has one item for each of some
    processes of their own. ``operators`` is how many operators the file has, and ``delegated`` how many of them
    went to the delegate; None where that was not noted.
    """

    unit: Unit
    engine_version: str
    delegate: str
    partitions: int
    probabilities: dict[str, float]
    memory: tuple[MemorySample, ...]
    latency: tuple[LatencySamples, ...]
    operators: int | None = None
    delegated: int | None = None


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
    """A whole benchmark. ``started`` is ISO 8601 with its offset; ``versions`` are those of libraries.

    ``supplement`` is what was measured beyond the protocol, on the same files and the same machine.
    """

    started: str
    duration_s: float
    machine: Machine
    versions: dict[str, str]
    settings: Settings
    test_set: TestSet
    models: tuple[Model, ...]
    units: tuple[UnitResult, ...]
    twins: tuple[Twin, ...]
    conditions: tuple[Conditions, ...]
    skipped: tuple[Skipped, ...]
    supplement: Supplement | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        models = {model.file for model in self.models}
        for result in self.units:
            name = result.unit.name
            if result.unit.model not in models:
                raise ValueError(f"the unit {name} has no model of that name")
            if result.probabilities.keys() != self.test_set.labels.keys():
                raise ValueError(f"the unit {name} has other images than the test set")
            if not result.memory:
                raise ValueError(f"the memory of the unit {name} was not measured")
        names = {result.unit.name for result in self.units}
        timed = [(each.unit.name, each.latency) for each in self.units]
        for twin in self.twins:
            timed.append((twin.unit.name, twin.latency))
            if twin.unit.name not in names:
                raise ValueError(f"the A/A unit {twin.unit.name} has no unit beside it")
        for name, latency in timed:
            if len(latency) != self.settings.processes:
                raise ValueError(f"the unit {name} was timed in {len(latency)} processes")
        if self.test_set.patients.keys() != self.test_set.labels.keys():
            raise ValueError("the test set has labels and patients of other images")

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
        ResultsError: As :func:`read_record`; or they are of schema 1, which says too little for any claim.
    """
    return read_record(Results, path, SCHEMA_VERSION, "results", "benchmark", oldest=SCHEMA_VERSION)


def read_record(
    record: type[Record], path: Path, schema_version: int, what: str, verb: str, *, oldest: int = 1
) -> Record:
    """Read a file of raw results of any kind.

    Args:
        record: The dataclass that it holds, with a field ``schema_version``.
        path: The file; one that ends in ``.gz`` is unpacked.
        schema_version: The newest schema that can be read.
        what: What it holds, for people.
        verb: The verb of the command line that writes it.
        oldest: The oldest schema that can be read.

    Raises:
        ResultsError: The file is missing, damaged, of a newer or too old a schema, or contradicts itself.
    """
    expected = f"{what} of schema {schema_version}, as `pneumo-edge {verb}` writes them"
    try:
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        found = records.loads(_Header, text).schema_version
        if found > schema_version:
            raise ResultsError(f"{path} has schema {found}", expected, "Install a newer pneumo-edge to read it")
        if found < oldest:
            remedy = f"Measure again with `pneumo-edge {verb}`"
            raise ResultsError(f"{path} has schema {found}, which lacks what is needed", expected, remedy)
        return records.loads(record, text)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ResultsError(f"{path} is no whole gzip file ({error})", expected, "Copy it again") from error
    except OSError as error:
        raise ResultsError(f"{path} cannot be read ({error.strerror})", expected, "Check the path") from error
    except records.RecordError as error:
        raise ResultsError(f"{path} is not valid: {error}", expected, "Copy it again, or measure again") from error
