"""What the same units take in several runs."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks import comparison
from benchmarks.comparison import Compared
from benchmarks.report import cells
from benchmarks.report.content import Block, Cell, Paragraph, Section, Table
from benchmarks.report.runs import Runs
from pneumo_edge.errors import ResultsError


def section(runs: Runs) -> Section | None:
    """Each later run beside the first."""
    if len(runs) == 1:
        return None
    first, *others = runs
    blocks: list[Block] = [
        Paragraph(
            "How many times as long the later run takes as the first, in CPU time, with Welch's 95 % interval over "
            "processes, which are not paired here; and how many times the memory."
        )
    ]
    for other in others:
        title = f"Run {other.letter} beside run {first.letter}."
        try:
            compared = comparison.compare(first.summary, other.summary)
        except ResultsError:
            blocks.append(Paragraph(f"{title} They have no unit in common."))
            continue
        blocks += [Paragraph(title), comparison_table(compared)]
    return Section("Run beside run", tuple(blocks))


def comparison_table(compared: Iterable[Compared]) -> Table:
    """One row for each unit that two runs have in common: ratios of the second to the first."""
    return Table(
        ("Backbone", "Format", "Engine", "Inference", "File to verdict", "Memory", "AUC", "Found"),
        3,
        tuple(
            (
                *cells.unit(each.after),
                *(
                    cells.ratio(each.ratios[name]) if name in each.ratios else Cell("not known")
                    for name in ("inference", "file to verdict", "memory")
                ),
                Cell(
                    f"{each.before.accuracy.auc.value:.3f} to {each.after.accuracy.auc.value:.3f}",
                    value=each.after.accuracy.auc.value,
                ),
                Cell(
                    f"worse in {', '.join(each.regressions)}" if each.regressions else "no regression",
                    "" if each.same_file else "another file",
                ),
            )
            for each in compared
        ),
        group=cells.ENGINE,
    )
