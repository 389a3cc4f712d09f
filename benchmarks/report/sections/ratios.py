"""Ratios of time between the backbones."""

from __future__ import annotations

from functools import partial

from pneumo_edge._util.document import Cell, Figure, Paragraph, Section, Table
from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks.report import cells, figures
from pneumo_edge.benchmarks.report.runs import Runs


def section(runs: Runs) -> Section | None:
    """Ratios of CPU time and of wall time with their intervals, and the band of the A/A unit."""
    if not any(run.summary.ratios for run in runs):
        return None
    labels = ("Backbones", "Format", "Engine", *cells.run_columns(runs))
    return Section(
        "Ratios of time between backbones",
        (
            Paragraph(
                "How many times as long the first backbone takes as the second. With one thread, claims are decided by "
                "CPU time, which other jobs disturb less. With several threads they are decided by wall time, because "
                "the CPU time of the process then includes threads that spin while they wait. The ratio is computed "
                "for each process. The table has the geometric mean over processes with Student's 95 % interval; each "
                "process counts as one observation."
            ),
            *(
                [Paragraph("CPU time was not measured of some units. Wall time decides their claims.")]
                if any(ratio.inference is None for run in runs for ratio in run.summary.ratios)
                else []
            ),
            Figure(
                partial(figures.draw_ratios, runs),
                "The ratio of CPU time with one thread, of wall time with several (logarithmic). Full dots are "
                "inference, rings end to end, lines their 95 % intervals. Ratios inside the grey band count as no "
                "difference: 1 %, or the noise of a file against itself if that is more. A dot has the colour of the "
                "faster backbone.",
            ),
            Table(
                (*labels, "Inference, CPU", "Inference, wall", "End to end, CPU", "End to end, wall"),
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
