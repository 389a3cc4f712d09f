"""Whether the time of a file depends on its training: ``make training-latency MODELS_IN="DIR DIR"``.

The benchmark times one training of each network. This times the fp32 and int8 files of several trainings side by side,
in the same processes, and puts the ratio of each to the first into docs/benchmark-method.md. Without folders the table
is made again from the record. Images are phantoms: they do not change the work.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

from pneumo_edge._util import files, jobs, markdown
from pneumo_edge._util.document import Cell, Table
from pneumo_edge.api.evaluate import describe_skipped
from pneumo_edge.benchmarks import results, run, statistics
from pneumo_edge.benchmarks.protocol import MIN_PROCESSES, PRESETS, BenchmarkSettings
from pneumo_edge.benchmarks.report import cells
from pneumo_edge.benchmarks.report.runs import engine_title
from pneumo_edge.benchmarks.resume import Measurements
from pneumo_edge.benchmarks.summary import Ratio, Row, Summary, compare_units, summarise
from pneumo_edge.errors import PneumoEdgeError, ResultsError
from pneumo_edge.runtime.engines import ENGINES
from pneumo_edge.scoring.models import find_models
from tools import pages

RECORD = Path("results/benchmark/trainings.json.gz")
PAGE = Path("docs/benchmark-method.md")
_MADE = Path("out/training-latency/results.json")
_FORMATS = ("-fp32", "-int8")


def compared(summary: Summary) -> Iterator[Ratio]:
    """Each further training over the first of the same network, format, engine and number of threads."""
    first: dict[tuple[object, ...], Row] = {}
    for row in summary.rows:
        model, unit = row.model, row.result.unit
        key = model.backbone, model.recipe, model.format, Path(model.file).suffix, unit.engine, unit.threads
        known = first.setdefault(key, row)
        if known.model.seed != model.seed:
            yield compare_units(summary.results, row, known)


def table(summary: Summary) -> Table:
    """A row for each comparison.

    Raises:
        ResultsError: No two files differ in the seed of their training alone.
    """
    rows = tuple(tuple(_cells(ratio)) for ratio in compared(summary))
    if not rows:
        raise ResultsError(
            "no two files are of the same network and format with different seeds",
            "two trainings that differ in their seed alone",
            "Give the folders of two trainings in MODELS_IN",
        )
    return Table(("network", "format", "engine", "seeds", "CPU time", "wall time", "A/A unit", "differs"), 4, rows)


def _cells(ratio: Ratio) -> Iterator[Cell]:
    model, unit = ratio.denominator.model, ratio.denominator.result.unit
    yield Cell(f"{model.backbone}, {model.recipe}")
    yield Cell(model.format)
    yield Cell(engine_title(unit.engine, unit.threads))
    yield Cell(f"{ratio.numerator.model.seed} over {model.seed}")
    yield cells.ratio(ratio.inference)
    yield cells.ratio(ratio.wall_inference)
    yield cells.ratio(ratio.null_test.deciding(unit.threads) if ratio.null_test else None)
    short = ratio.numerator.shortfalls or ratio.denominator.shortfalls
    found = statistics.relation(ratio.deciding(unit.threads), ratio.band)
    yield Cell("timed too little" if short else "no" if found == "not separable" else "yes")


def main(arguments: list[str] | None = None) -> int:
    """Time the files of the folders, keep the record, and put the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--engine", default="litert", choices=tuple(ENGINES))
    parser.add_argument("--preset", default="quick", choices=tuple(PRESETS))
    parser.add_argument("--processes", type=int, default=MIN_PROCESSES)
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--page", type=Path, default=PAGE)
    chosen = parser.parse_args(arguments)
    try:
        if chosen.folders:
            _measure(chosen)
        made = markdown.table(table(summarise(results.read(chosen.record))))
        pages.put_table(chosen.page, "training-latency", f"{made}\n")
    except PneumoEdgeError as error:
        sys.exit(f"error: {error}")
    return 0


def _measure(chosen: argparse.Namespace) -> None:
    """Time the files, and keep the record only where it compares any of them."""
    paths = [path for path in find_models(chosen.folders) if path.stem.endswith(_FORMATS)]
    with jobs.alone(_MADE, "training-latency", jobs.WITH_RESUME):
        measurements = Measurements(_MADE, resume=True)
        measured = run.run(
            paths,
            None,
            BenchmarkSettings.of(chosen.preset, processes=chosen.processes),
            measurements,
            engines=[chosen.engine],
            time_all=True,
            tell=lambda skipped: print(describe_skipped(skipped), file=sys.stderr),
        )
        table(summarise(measured))
        results.write(_MADE, measured)
        measurements.forget()
    with files.atomic(chosen.record) as temporary:
        temporary.write_bytes(gzip.compress(_MADE.read_bytes(), mtime=0))


if __name__ == "__main__":
    sys.exit(main())
