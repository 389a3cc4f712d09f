"""Files of mixed precision of trained networks whose int8 fails, beside their int8 and fp32: ``make mixed-precision``.

Each run is exported in mixed precision. Its fp32 and int8 files are made without their acceptance checks, to be timed.
One benchmark times the three. The record of each network goes to ``results/mixed-precision``, and the table of
all records into docs/quantization.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pneumo_edge import runs
from pneumo_edge._util import files, records, scratch
from pneumo_edge._util.cache import cache_folder
from pneumo_edge.api.benchmark import benchmark
from pneumo_edge.api.export import OwnOptions, convert
from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks.summary import Summary, compare_units
from pneumo_edge.converters import calibration, interface, isolated, proof
from pneumo_edge.converters.mixed import INT8
from pneumo_edge.data.datasource import DataSource
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.splits import Manifest
from pneumo_edge.data.tensors import prepare
from pneumo_edge.errors import PneumoEdgeError, ResultsError
from pneumo_edge.evaluation.metrics import Interval
from pneumo_edge.formats import FORMATS, ON_REQUEST, Format
from pneumo_edge.spec import CalibrationSpec, TrainingSpec, VerificationSpec
from tools import pages

RESULTS = Path("results/mixed-precision")
PAGE = Path("docs/quantization.md")
_TARGET = "mixed-precision"
_FP32, _MIXED = FORMATS["tflite-fp32"], ON_REQUEST["tflite-mixed"]
_ENGINE = "litert"
_ORDERS = {"sensitivity": "by sensitivity", "graph": "of the graph"}


@dataclass(frozen=True)
class Timed:
    """A file in the benchmark.

    Attributes:
        size_bytes: Its size; without a ModelSpec for fp32 and int8.
        milliseconds: Median wall time of an inference with one thread.
        as_fp32: CPU time of an inference as a multiple of that of fp32, with its 95 % interval.
        as_int8: The same as a multiple of that of int8.
    """

    size_bytes: int
    milliseconds: float
    as_fp32: Interval
    as_int8: Interval


@dataclass(frozen=True)
class Outcome:
    """One network.

    Attributes:
        backbone: Name of its row in the table of backbones, with the size of its images.
        training: How it was trained.
        int8_failed: Why its int8 file fails.
        calibration: That of the file of mixed precision, with the operators that are in float32.
        verification: What the acceptance checks measured of it.
        files: Each file in the benchmark, by the name of its format.
        null_test: The ratio of a file and itself in that benchmark, by the same clock.
        machine: The processor.
        versions: Of the libraries.
        classes: How many it tells apart.
    """

    backbone: str
    training: TrainingSpec
    int8_failed: str
    calibration: CalibrationSpec
    verification: VerificationSpec
    files: dict[str, Timed]
    null_test: Interval | None
    machine: str
    versions: dict[str, str]
    classes: int = 2

    @property
    def name(self) -> str:
        """Name of its record."""
        return self.backbone if self.classes == 2 else f"{self.backbone}-{self.classes}-classes"


def measure(run: Path, data: Path, place: Path) -> Outcome:
    """Export and time one network.

    Args:
        run: A finished run.
        data: The data that it was trained on.
        place: Folder for what is made.

    Raises:
        ResultsError: Its int8 file passes.
        GateError: No file of mixed precision passes.
    """
    (outcome,) = convert(run, _MIXED.id, place, data, OwnOptions(), print)
    if outcome.missed:
        raise outcome.missed
    found, spec = proof.load(outcome.path), outcome.spec
    mixed = found.calibration.mixed_precision if found.calibration else None
    if spec is None or found.calibration is None or mixed is None or mixed.int8_failed is None:
        raise ResultsError(f"the int8 file of {run} passes", "one that fails", "Give another run")
    backbone = runs.load(run).backbone
    paths = {row: place / row.file_name(backbone) for row in (_FP32, INT8, _MIXED)}
    _convert_unchecked(run, data, {row: paths[row] for row in (_FP32, INT8)})
    measured = benchmark(list(paths.values()), engines=_ENGINE, preset="rapid", out=place / "reports", tell=print)
    nulls = measured.summary.null_tests
    return Outcome(
        backbone,
        spec.training,
        mixed.int8_failed,
        found.calibration,
        found.verification,
        {row.name: _timed(measured.summary, paths, row) for row in (_FP32, INT8, _MIXED)},
        nulls[0].deciding(1) if nulls else None,
        measured.results.machine.cpu,
        {name: version(name) for name in ("keras", "tensorflow", "ai-edge-litert")},
        len(spec.class_names),
    )


def _convert_unchecked(run: Path, data: Path, targets: dict[Format, Path]) -> None:
    """Make files as ``export`` does, with the same calibration images, without their acceptance checks."""
    record = runs.load(run)
    source = open_source(DataSource.of(data), task=record.task)
    dataset = prepare(source, cache_folder(), record.height, record.width, Manifest.load(run / runs.MANIFEST_NAME))
    pixels = calibration.pixels(dataset, calibration.choose(dataset, calibration.IMAGES))
    network = interface.Network(run / runs.MODEL_NAME, record.task)
    with isolated.child_process(next(iter(targets.values())).with_suffix(".log")) as child:
        for row, target in targets.items():
            child.call(interface.make, network, row, pixels if row.calibrated else None, target)


def _timed(summary: Summary, paths: dict[Format, Path], row: Format) -> Timed:
    by_file = {each.model.file: each for each in summary.rows}
    mine, fp32, int8 = (by_file[paths[each].name] for each in (row, _FP32, INT8))
    return Timed(
        paths[row].stat().st_size,
        mine.inference.median_ms,
        compare_units(summary.results, mine, fp32).decided,
        compare_units(summary.results, mine, int8).decided,
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table of the networks."""
    columns = (
        "network",
        "int8 alone",
        "operators in float32",
        "mixed: same decision, AUC loss",
        "MB: fp32, int8, mixed",
        "time of mixed against int8",
        "against fp32",
    )
    return pages.rows([columns, tuple("---" for _ in columns), *map(_row, outcomes)])


def _row(outcome: Outcome) -> tuple[str, ...]:
    mixed = outcome.calibration.mixed_precision
    if mixed is None:
        raise ResultsError(f"the record of {outcome.backbone} has no operators", "those in float32", "Measure it again")
    first = next(iter(outcome.verification.measured.values()))
    weights = outcome.training.initial_weights.partition(",")[0]
    sizes = ", ".join(f"{outcome.files[row.name].size_bytes / 1e6:.2f}" for row in (_FP32, INT8, _MIXED))
    timed = outcome.files[_MIXED.name]
    classes = "" if outcome.classes == 2 else f", {outcome.classes} classes"
    return (
        f"{backbone_title(outcome.backbone)}{classes}, {outcome.training.recipe} from {weights}",
        _accuracy(mixed.int8),
        f"{len(mixed.in_float)} of {mixed.operators}, the first {_ORDERS[mixed.order or 'graph']}",
        _accuracy(first),
        sizes,
        _interval(timed.as_int8),
        _interval(timed.as_fp32),
    )


def _accuracy(measured: dict[str, float]) -> str:
    loss = f", {measured['auc_loss']:.4f} (at most {measured['max_auc_loss']:.4f})" if "auc_loss" in measured else ""
    return f"{measured['agreement']:.1%} of {measured['images']:.0f}{loss}"


def _interval(ratio: Interval) -> str:
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def load(folder: Path = RESULTS) -> list[Outcome]:
    """The records that are kept."""
    return [records.loads(Outcome, path.read_bytes()) for path in sorted(folder.glob("*.json"))]


def main() -> None:
    """Measure the runs that are given, and put all records into the page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="without any it only writes the table")
    parser.add_argument("--data", type=Path, help="the data that they were trained on")
    given = parser.parse_args()
    if given.runs and not given.data:
        parser.error("--data is needed to export runs")
    try:
        for run in given.runs:
            with scratch.folder(cache_folder()) as place:
                outcome = measure(run, given.data, place)
            files.write_text(RESULTS / f"{outcome.name}.json", records.document(outcome))
        pages.put_table(PAGE, _TARGET, table(load()))
    except PneumoEdgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
