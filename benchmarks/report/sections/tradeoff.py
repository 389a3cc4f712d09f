"""Accuracy against latency, size and memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from pneumo_edge._util.document import Cell, Figure, Folded, Paragraph, Points, Section, Table
from pneumo_edge.benchmarks.float_baseline import FloatComparison, compare_with_float
from pneumo_edge.benchmarks.report import cells, figures
from pneumo_edge.benchmarks.report.runs import Runs, units
from pneumo_edge.benchmarks.summary import Row

#: A longer list is folded.
_MOST_POINTS = 6


def section(runs: Runs) -> Section:
    """The Pareto front, as a figure and by name, and the main numbers of every unit."""
    measured = any(run.summary.has_accuracy for run in runs)
    return Section(
        "Accuracy, latency and size" if measured else "Latency and size",
        (
            *(_accuracy(runs) if measured else ()),
            Paragraph(
                "A unit is on the Pareto front if no other unit is at least as good in AUC, inference time, file size "
                "and peak memory, and better in one of them."
            ),
            _front(runs),
            main_table(runs),
            *_slow(runs),
            Paragraph(
                "Brackets are 95 % intervals: DeLong's for the AUC, Wilson's for accuracy, sensitivity and specificity "
                "at the decision threshold in each file. Latency is the median wall time with its 90th percentile. "
                '"Times fp32" is the ratio of medians to the fp32 file of the same backbone on the same engine. For '
                "a slower file it also says how many operators the engine's kernel library took. Peak memory is the "
                "memory for loading the file and classifying images, above that of the imported libraries.",
                minor=True,
            ),
        ),
    )


def _accuracy(runs: Runs) -> Iterator[Paragraph | Figure]:
    """What there is only where accuracy was measured."""
    summary = next(run.summary for run in runs if run.summary.has_accuracy)
    commoner = max(summary.class_counts, key=summary.class_counts.__getitem__)
    yield Paragraph(
        f"Always predicting {commoner} would be correct for {summary.majority_share:.1%} of the test images; "
        "compare each accuracy with that. In public X-ray sets, file size, brightness and contrast alone "
        "separate the classes better than chance; `pneumo-edge data audit` measures how well in this one."
    )
    yield Figure(
        partial(figures.draw_tradeoff, runs),
        "AUC with its 95 % interval against the median time of one inference (logarithmic). The area of a dot "
        "is the size of the model file, its colour the backbone, its shape the format. A ring marks the Pareto "
        "front.",
    )


def _beside(found: FloatComparison | None) -> Cell:
    """How many times as long as the float file, and the reason where it is slow."""
    if found is None:
        return Cell("")
    return Cell(f"{found.times:.2f}", found.briefly, found.times, "bad" if found.slow else "")


def _auc(row: Row) -> str:
    return f"AUC {row.accuracy.auc.value:.3f}, " if row.accuracy else ""


def _front(runs: Runs) -> Points | Folded:
    """The Pareto front in words."""
    front = tuple(
        f"{f'Run {run.letter}. ' if run.letter else ''}On the Pareto front: {cells.unit_title(row)}, with "
        f"{_auc(row)}{row.inference.median_ms:.2f} ms, a file of "
        f"{row.model.size_bytes / cells.MEBI:.2f} MiB and {row.peak_bytes / cells.MEBI:.1f} MiB of memory."
        for run in runs
        for row in run.verdict.pareto
    )
    return (
        Points(front)
        if len(front) <= _MOST_POINTS
        else Folded(f"The Pareto front: {len(front)} units", (Points(front),))
    )


def _slow(runs: Runs) -> Iterator[Folded]:
    """The units that are slower than their float file, with the reasons."""
    told = tuple(
        f"{f'Run {run.letter}. ' if run.letter else ''}{cells.unit_title(each.row)}: {each.warning}."
        for run in runs
        for each in compare_with_float(run.summary).values()
        if each.slow
    )
    if told:
        yield Folded("Files that are slower than their fp32 file, and why", (Points(told),))


def main_table(runs: Runs) -> Table:
    """One row for each unit: its identity, size, accuracy, latency and memory."""
    labels = cells.unit_columns(runs)
    ranked = {run.letter: [id(row) for row in run.verdict.pareto] for run in runs}
    beside = {run.letter: compare_with_float(run.summary) for run in runs}
    return Table(
        (
            *labels,
            "Size MiB",
            *cells.qualities(row for _, row in units(runs)),
            "Inference ms",
            "Times fp32",
            "End to end ms",
            "Peak memory MiB",
            "Pareto front",
        ),
        len(labels),
        tuple(
            (
                *cells.unit(row, run),
                cells.number(row.model.size_bytes / cells.MEBI),
                *cells.quality_cells(row),
                cells.median_p90(row.inference),
                _beside(beside[run.letter].get(id(row))),
                cells.median_p90(row.file_to_verdict),
                cells.number(row.peak_bytes / cells.MEBI, 1),
                Cell("yes", tone="good") if id(row) in ranked[run.letter] else Cell(""),
            )
            for run, row in units(runs)
        ),
        group=cells.ENGINE,
    )
