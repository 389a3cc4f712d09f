"""What ``make matrix`` keeps of each network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pneumo_edge._util import records
from pneumo_edge.benchmarks.protocol import BenchmarkSettings
from pneumo_edge.benchmarks.results import Machine
from pneumo_edge.evaluation.intervals import Interval

RESULTS = Path("results", "matrix")
#: Rows of the table of backbones: those made for phones and boards, and two larger ones.
NETWORKS = (
    "mobilenet", "mobilenetv2", "mobilenetv3small", "mobilenetv3small-minimalistic", "mobilenetv3large",
    "mobilenetv3large-minimalistic", "efficientnetlite0", "efficientnetb0", "efficientnetb1", "efficientnetv2b0",
    "nasnetmobile", "resnet50", "densenet121",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A file on an engine.

    Attributes:
        engine: Name of the engine.
        version: Its version; "" where it is not installed.
        failure: Why the file does not pass its acceptance checks there; "" where it passes.
        measured: What the checks measured with one thread, by name; empty where the file does not run.
        delegated_to: The kernel library that operators were delegated to, or "none"; "" where the file does not load.
        delegated: Number of operators that were delegated, by name.
        cpu_ms: Median CPU time of an inference in milliseconds, one thread; None where it was not timed.
        ratio: The same as a multiple of the float32 file's on that engine, with its 95 % interval over processes.
    """

    engine: str
    version: str
    failure: str
    measured: dict[str, float] = field(default_factory=dict)
    delegated_to: str = ""
    delegated: dict[str, int] = field(default_factory=dict)
    cpu_ms: float | None = None
    ratio: Interval | None = None


@dataclass(frozen=True)
class InFloat:
    """A file that fails, made again with all operators of one kind in float.

    Attributes:
        operator: The kind.
        passes: Whether that file passes.
        mean_difference: Mean absolute difference of probability from the Keras model.
        agreement: Share of images with the same decision as the Keras model.
    """

    operator: str
    passes: bool
    mean_difference: float
    agreement: float


@dataclass(frozen=True)
class FormatRecord:
    """A network in a format.

    Attributes:
        format: Its id.
        size_bytes: Size of the file without its ModelSpec; 0 where it could not be made.
        failure: Why it could not be made; "" where it was.
        operators: Number of operators in the file by name.
        cells: The file on each engine.
        in_float: Where the file fails its checks, which kinds of operators were tried in float; most helpful first.
    """

    format: str
    size_bytes: int
    failure: str
    operators: dict[str, int]
    cells: tuple[Cell, ...]
    in_float: tuple[InFloat, ...] = ()


@dataclass(frozen=True)
class NetworkRecord:
    """A network in all formats.

    Attributes:
        network: Name of its row in the table of backbones.
        title: Its name for a reader.
        weights: What its backbone started from.
        side: Height and width of the images.
        data: What its head was fitted and its files were checked on.
        images: Validation images, on which the files were checked.
        calibration_images: Training images that formats with fixed ranges were calibrated on.
        validation: Of the Keras model: what the run's record says of these images.
        versions: Of the libraries.
        machine: Where it was measured.
        settings: How it was timed.
        seconds: How long it took.
        formats: In the order of the table of formats.
    """

    network: str
    title: str
    weights: str
    side: int
    data: str
    images: int
    calibration_images: int
    validation: dict[str, float]
    versions: dict[str, str]
    machine: Machine
    settings: BenchmarkSettings
    seconds: float
    formats: tuple[FormatRecord, ...]


def load(folder: Path) -> dict[str, NetworkRecord]:
    """The records in a folder by network, in the order of :data:`NETWORKS`."""
    found = {path.stem: records.loads(NetworkRecord, path.read_bytes()) for path in folder.glob("*.json")}
    return {name: found[name] for name in sorted(found, key=(*NETWORKS, *sorted(found)).index)}
