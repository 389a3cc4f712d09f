"""Backbone against backbone, in pairs."""

from __future__ import annotations

from functools import partial

from pneumo_edge._util.document import Cell, Figure, Paragraph, Section, Table
from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks.report import cells, figures
from pneumo_edge.benchmarks.report.runs import Runs


def section(runs: Runs) -> Section | None:
    """Ratios of CPU time and of wall time with their intervals, beside the band of the A/A unit."""
    if not any(run.summary.ratios for run in runs):
        return None
    labels = ("Backbones", "Format", "Engine", *cells.run_columns(runs))
    return Section(
        "Backbone against backbone",
        (
            Paragraph(
                "How many times as long the first takes as the second. At one thread claims rest on CPU time, which "
                "other jobs on the machine disturb less. With several they rest on wall time, which is what a user "
                "waits: CPU time is then that of the whole process, and threads that spin while they wait count in it. "
                "The ratio is taken process by process; shown is the geometric mean over processes, with Student's "
                "95 % interval, in which a process counts as one."
            ),
            Figure(
                partial(figures.draw_ratios, runs),
                "The ratio of CPU time at one thread, of wall time with several (logarithmic): full dots are "
                "inference, rings from file to verdict, lines their 95 % intervals. The grey band is what a claim has "
                "to leave: 1 %, or what a file against itself showed where that is more. A dot's colour is that of the "
                "faster backbone.",
            ),
            Table(
                (*labels, "Inference, CPU", "Inference, wall", "File to verdict, CPU", "File to verdict, wall"),
                len(labels),
                tuple(
                    (
                        Cell(
                            f"{backbone_title(ratio.numerator.model.backbone)} / "
                            f"{backbone_title(ratio.denominator.model.backbone)}"
                        ),
                        *cells.unit(ratio.numerator, run)[1:],
                        *cells.ratios(ratio),
                    )
                    for run in runs
                    for ratio in run.summary.ratios
                ),
                group=cells.ENGINE,
            ),
        ),
    )
