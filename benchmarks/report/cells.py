"""Cells and columns that several tables share."""

from __future__ import annotations

from collections.abc import Iterable
from math import isinf
from statistics import median

from pneumo_edge._util.document import Cell
from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks.measures.latency import Latency
from pneumo_edge.benchmarks.report.runs import Run, Runs, engine_title
from pneumo_edge.benchmarks.summary import Ratios, Row
from pneumo_edge.evaluation.metrics import Interval

MEBI = 2**20
MEAN_SENSITIVITY, MEAN_SPECIFICITY = "Mean sensitivity", "Mean specificity"
#: Index of the engine column in the tables of units.
ENGINE = 2


def unit_columns(runs: Runs) -> tuple[str, ...]:
    """The columns that identify the unit of a row."""
    return ("Backbone", "Format", "Engine", *run_columns(runs))


def run_columns(runs: Runs) -> tuple[str, ...]:
    """A column for the run, where there are several runs."""
    return ("Run",) * (len(runs) > 1)


def unit(row: Row, run: Run | None = None) -> tuple[Cell, ...]:
    """The cells of :func:`unit_columns`."""
    of = row.result.unit
    return (
        Cell(backbone_title(row.model.backbone)),
        Cell(row.model.format, row.file),
        Cell(engine_title(of.engine, of.threads)),
        *letter(run),
    )


def letter(run: Run | None) -> tuple[Cell, ...]:
    """The cell of :func:`run_columns`."""
    return (Cell(run.label),) if run and run.letter else ()


def unit_title(row: Row) -> str:
    """A short name of a unit."""
    backbone, file_format, engine = unit(row)
    return f"{backbone} {file_format}, {engine}"


def number(value: float, decimals: int = 2) -> Cell:
    """A number with thousands separators."""
    return Cell(f"{value:,.{decimals}f}", value=value)


def memory(size_bytes: float | None) -> Cell:
    """Memory in MiB; empty where it was not measured."""
    return Cell("") if size_bytes is None else number(size_bytes / MEBI, 1)


def interval(found: Interval | None) -> Cell:
    """A share from 0 to 1 with its interval; empty where it was not measured."""
    if found is None:
        return Cell("")
    return Cell(f"{found.value:.3f}", f"[{found.low:.3f}, {found.high:.3f}]", found.value)


def ratio(found: Interval | None) -> Cell:
    """A ratio with its interval; empty where it was not measured."""
    if found is None:
        return Cell("")
    if isinf(found.high):
        return Cell(f"{found.value:.2f}", "no interval: one process", found.value)
    return Cell(f"{found.value:.2f}", f"[{found.low:.2f}, {found.high:.2f}]", found.value)


def ratios(found: Ratios) -> tuple[Cell, ...]:
    """Both kinds of call on both clocks: inference, then end to end; CPU time before wall time."""
    return tuple(
        ratio(each)
        for each in (found.inference, found.wall_inference, found.file_to_verdict, found.wall_file_to_verdict)
    )


def median_p90(latency: Latency | None) -> Cell:
    """Median wall time with its 90th percentile, in milliseconds; empty where it was not measured."""
    if latency is None:
        return Cell("")
    return Cell(f"{latency.median_ms:.2f}", f"p90 {latency.p90_ms:.2f}", latency.median_ms)


def cpu(latency: Latency | None) -> Cell:
    """CPU time: the median over processes, with minimum and maximum, in milliseconds; empty where not measured."""
    if latency is None or not latency.cpu_medians_ms:
        return Cell("")
    medians = latency.cpu_medians_ms
    value = median(medians)
    return Cell(f"{value:.2f}", f"({min(medians):.2f} to {max(medians):.2f})", value)


def quality_cells(row: Row) -> tuple[Cell, Cell, Cell, Cell]:
    """AUC, accuracy, sensitivity and specificity with their intervals; empty where they were not measured."""
    if row.accuracy is None:
        return Cell(""), Cell(""), Cell(""), Cell("")
    confusion = row.accuracy.confusion
    return (
        interval(row.accuracy.auc),
        interval(confusion.accuracy),
        interval(confusion.sensitivity),
        interval(confusion.specificity),
    )


def share(value: float) -> Cell:
    """A share, as a percentage."""
    return Cell(f"{value:.1%}", value=value)


def qualities(rows: Iterable[Row]) -> tuple[str, str, str, str]:
    """Titles of AUC, accuracy, sensitivity and specificity: with more than two classes three are means over them."""
    if any(row.model.has_spec and row.model.threshold is None for row in rows):
        return "Macro AUC", "Accuracy", MEAN_SENSITIVITY, MEAN_SPECIFICITY
    return "AUC", "Accuracy", "Sensitivity", "Specificity"
