"""The time of each stage from an image file to its prediction."""

from __future__ import annotations

from functools import partial

from pneumo_edge._util.document import Figure, Paragraph, Section, Table
from pneumo_edge.benchmarks.report import cells, figures
from pneumo_edge.benchmarks.report.runs import Runs, units


def section(runs: Runs) -> Section | None:
    """The stages of each unit, as a figure and in numbers; None where no unit was timed end to end."""
    labels, timed = cells.unit_columns(runs), [(run, row) for run, row in units(runs) if row.stages_ms]
    if not timed:
        return None
    stages = tuple(timed[0][1].stages_ms)
    return Section(
        "Time by stage",
        (
            Paragraph("Median wall time of each stage from the image file to the prediction, in milliseconds."),
            Figure(
                partial(figures.draw_stages, runs),
                "The medians of the stages, one after the other. Inference has the colour of the backbone. The stages "
                "before it take the same time for every model with the same input.",
            ),
            Table(
                (*labels, *(f"{stage.capitalize()} ms" for stage in stages), "Inference share"),
                len(labels),
                tuple(
                    (
                        *cells.unit(row, run),
                        *(cells.number(row.stages_ms[stage], 3) for stage in stages),
                        cells.share(row.stages_ms["inference"] / sum(row.stages_ms.values())),
                    )
                    for run, row in timed
                ),
                group=cells.ENGINE,
            ),
        ),
    )
