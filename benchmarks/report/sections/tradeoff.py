"""Accuracy against latency, size and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial

from pneumo_edge._util.document import Block, Cell, Figure, Folded, Paragraph, Points, Section, Table, count
from pneumo_edge.benchmarks import validity, verdict
from pneumo_edge.benchmarks.float_baseline import FloatComparison, compare_with_float
from pneumo_edge.benchmarks.report import cells, figures
from pneumo_edge.benchmarks.report.brief import without_empty_columns
from pneumo_edge.benchmarks.report.runs import Run, Runs, fastest_units, units
from pneumo_edge.benchmarks.summary import Row

#: A longer list is folded.
_MOST_POINTS = 6


def picture(runs: Runs) -> tuple[Figure, Paragraph]:
    """The figure at the top of the page, and what was measured on what.

    It shows networks where each run has networks with several trainings, and else files.
    """
    drawn = _of_networks(runs) if all(run.networks for run in runs) else _of_files(runs)
    return drawn, Paragraph(" ".join(_measured(run) for run in runs), minor=True)


def _of_networks(runs: Runs) -> Figure:
    several = [network for run in runs if run.networks for network in run.networks.networks if network.is_several]
    numbers = sorted({len(network.trainings) for network in several})
    return Figure(
        partial(figures.draw_networks, runs),
        f"Each point is a network in a format: the mean AUC of {' or '.join(map(str, numbers))} trainings, on the "
        "engine and number of threads where it is fastest. Lines are 95 % intervals: of the AUC over other trainings "
        "and other patients, of the time over processes. A circle marks a network that no other one equals in "
        "accuracy, time, size and memory.",
    )


def _of_files(runs: Runs) -> Figure:
    lines = (
        "Lines are 95 % intervals: DeLong's for the AUC, Student's over processes for the time."
        if any(run.summary.has_accuracy for run in runs)
        else "Lines are 95 % intervals of the time, Student's over processes. Accuracy was not measured."
    )
    hollow = (
        f" A hollow point misses its accuracy target, {verdict.GATE_SHARE:.0%} of the AUC of its fp32 file."
        if any(gate for run in runs for _, gate in run.verdict.unranked)
        else ""
    )
    circle = " The circle marks the file named above." if any(run.best for run in runs) else ""
    return Figure(
        partial(figures.draw_tradeoff, runs),
        f"Each point is a model file on its fastest engine and number of threads. {lines}{hollow}{circle}",
    )


def _measured(run: Run) -> str:
    """What was measured on what, in one line."""
    summary, results = run.summary, run.summary.results
    images = ", ".join(f"{number} {name}" for name, number in summary.class_counts.items())
    started = datetime.fromisoformat(results.started).astimezone(UTC)
    parts = (
        f"{count(len(results.models), 'model file')}, {count(len(summary.rows), 'unit')} (file, engine and threads)",
        f"{count(sum(summary.class_counts.values()), 'test image')} ({images})" if summary.class_counts else "",
        f"{results.machine.title}, {validity.describe_cores(results.machine)}",
        f"{started:%Y-%m-%d}",
    )
    return f"{f'Run {run.letter}: ' if run.letter else 'Measured: '}{'; '.join(filter(None, parts))}."


def section(runs: Runs) -> Section:
    """The table of files, each on its fastest unit; then every unit, the Pareto front, and how to read the numbers."""
    best = [(run, row) for run in runs for row in fastest_units(run)]
    files = list(dict.fromkeys(row.model.file for _, row in best))
    best.sort(key=lambda pair: files.index(pair[1].model.file))
    blocks: list[Block] = [_of_files(runs)] if all(run.networks for run in runs) else []
    blocks.append(main_table(runs, best))
    if len(best) < len(units(runs)):
        blocks += [
            Paragraph(
                "Each file is shown on the engine and number of threads where it is fastest end to end.", minor=True
            ),
            Folded(f"Every file on every engine: {len(units(runs))} units", (main_table(runs),)),
        ]
    measured = any(run.summary.has_accuracy for run in runs)
    blocks += [
        *_slow(runs),
        _front(runs),
        Paragraph(
            f"A unit is on the Pareto front if no other unit is at least as good in {'AUC, ' * measured}inference "
            "time, file size and peak memory, and better in one of them.",
            minor=True,
        ),
        *_majority(runs),
        Paragraph(" ".join(_how_to_read(measured)), minor=True),
    ]
    return Section("Accuracy, latency and size" if measured else "Latency and size", tuple(blocks))


def _how_to_read(measured: bool) -> Iterator[str]:
    """What the numbers of the table mean."""
    if measured:
        yield (
            "Brackets are 95 % intervals: DeLong's for the AUC, Wilson's for accuracy, sensitivity and specificity "
            "at the decision threshold in each file."
        )
    yield (
        'Latency is the median wall time with its 90th percentile. "Times fp32" is the ratio of medians to the fp32 '
        "file of the same backbone on the same engine. For a slower file it also says how many operators the engine's "
        "kernel library took. Peak memory is the memory for loading the file and classifying images, above that of "
        "the imported libraries."
    )


def _majority(runs: Runs) -> Iterator[Paragraph]:
    """What an accuracy is compared with."""
    for summary in [run.summary for run in runs if run.summary.has_accuracy][:1]:
        commoner = max(summary.class_counts, key=summary.class_counts.__getitem__)
        yield Paragraph(
            f"Always predicting {commoner} would be correct for {summary.majority_share:.1%} of the test images; "
            "compare each accuracy with that. In public X-ray sets, file size, brightness and contrast alone "
            "separate the classes better than chance; `pneumo-edge data audit` measures how well in this one."
        )


def _beside(found: FloatComparison | None) -> Cell:
    """How many times as long as the float file, and the reason where it is slow."""
    if found is None:
        return Cell("")
    return Cell(f"{found.times:.2f}", found.briefly, found.times, "bad" if found.slow else "")


def _auc(row: Row) -> str:
    return f"AUC {row.accuracy.auc.value:.3f}, " if row.accuracy else ""


def _memory(row: Row) -> str:
    return "" if row.peak_bytes is None else f" and {row.peak_bytes / cells.MEBI:.1f} MiB of memory"


def _front(runs: Runs) -> Points | Folded:
    """The Pareto front in words."""
    front = tuple(
        f"{f'Run {run.letter}. ' if run.letter else ''}On the Pareto front: {cells.unit_title(row)}, with "
        f"{_auc(row)}{row.inference.median_ms:.2f} ms, a file of "
        f"{row.model.size_bytes / cells.MEBI:.2f} MiB{_memory(row)}."
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


def main_table(runs: Runs, shown: Sequence[tuple[Run, Row]] | None = None) -> Table:
    """One row for each unit: its identity, accuracy, latency, size and memory.

    Args:
        runs: The runs.
        shown: The units to show, in this order; all by default.
    """
    labels = cells.unit_columns(runs)
    every = shown is None
    shown = units(runs) if shown is None else shown
    ranked = {run.letter: [id(row) for row in run.verdict.pareto] for run in runs}
    beside = {run.letter: compare_with_float(run.summary) for run in runs}
    title, *titles = cells.qualities(row for _, row in units(runs))
    table = Table(
        (
            *labels,
            title,
            "Inference ms",
            "End to end ms",
            "Size MiB",
            *titles,
            "Times fp32",
            "Peak memory MiB",
            "Pareto front",
        ),
        len(labels),
        tuple(
            (
                *cells.unit(row, run),
                auc,
                cells.median_p90(row.inference),
                cells.median_p90(row.file_to_verdict),
                cells.number(row.model.size_bytes / cells.MEBI),
                *qualities,
                _beside(beside[run.letter].get(id(row))),
                cells.memory(row.peak_bytes),
                Cell("yes", tone="good") if id(row) in ranked[run.letter] else Cell(""),
            )
            for run, row in shown
            for auc, *qualities in [cells.quality_cells(row)]
        ),
        group=cells.ENGINE if every else None,
    )
    return table if any(run.summary.has_accuracy for run in runs) else without_empty_columns(table)
