"""File size and peak memory."""

from __future__ import annotations

from functools import partial
from statistics import median

from pneumo_edge._util.document import Cell, Figure, Paragraph, Section, Table
from pneumo_edge.benchmarks.report import cells, figures
from pneumo_edge.benchmarks.report.runs import Runs, units
from pneumo_edge.benchmarks.summary import Row


def _memory(row: Row) -> tuple[Cell, Cell, Cell, Cell]:
    """Peak memory above the imports, the imports, the process, and the peak by size; empty where not measured."""
    if row.peak_bytes is None:
        return Cell(""), Cell(""), Cell(""), Cell("")
    imports = row.result.imports_bytes
    return (
        Cell(
            f"{row.peak_bytes / cells.MEBI:.1f}",
            f"({min(row.memory_bytes) / cells.MEBI:.1f} to {max(row.memory_bytes) / cells.MEBI:.1f})",
            row.peak_bytes,
        ),
        cells.memory(imports),
        cells.memory(None if imports is None else median(each.peak_bytes for each in row.result.memory)),
        cells.number(row.peak_bytes / row.model.size_bytes),
    )


def section(runs: Runs) -> Section:
    """File size and peak memory of each unit."""
    labels = cells.unit_columns(runs)
    return Section(
        "Memory and size",
        (
            Figure(
                partial(figures.draw_weight, runs),
                "Peak memory above the imports (pale) and size of the file (full), in MiB.",
            ),
            Table(
                (*labels, "Size MiB", "Peak memory MiB", "Imports MiB", "Process MiB", "Memory / size"),
                len(labels),
                tuple(
                    (
                        *cells.unit(row, run),
                        cells.number(row.model.size_bytes / cells.MEBI),
                        *_memory(row),
                    )
                    for run, row in units(runs)
                ),
                group=cells.ENGINE,
            ),
            Paragraph(
                "Measured in fresh processes. Imports: peak resident memory after the libraries were imported. "
                "Process: peak resident memory after the file was loaded and images were classified. Peak memory is "
                "the difference. Medians over processes, with minimum and maximum.",
                minor=True,
            ),
        ),
    )
