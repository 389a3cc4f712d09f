"""File size and peak memory."""

from __future__ import annotations

from pneumo_edge._util.document import Layout
from pneumo_edge.benchmarks.report.figures import canvas
from pneumo_edge.benchmarks.report.runs import Runs

_ROW = 0.36


def draw_weight(runs: Runs, layout: Layout) -> str:
    """Peak memory and file size of each unit.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    colours = canvas.colours(runs)
    with canvas.draw_panels(runs, layout, lambda panel: _ROW * len(canvas.by_format(panel.rows))) as drawn:
        figure, pairs = drawn
        for axes, panel in pairs:
            rows = canvas.by_format(panel.rows)
            for place, same in zip(reversed(range(len(rows))), rows.values(), strict=True):
                height = 0.8 / len(same)
                for number, row in enumerate(same):
                    y, colour = place + 0.4 - height * (number + 0.5), colours[row.model.backbone]
                    if row.peak_bytes is not None:
                        axes.barh(y, row.peak_bytes / 2**20, 0.85 * height, color=colour, alpha=0.35)
                    axes.barh(y, row.model.size_bytes / 2**20, 0.4 * height, color=colour)
            canvas.name_places(axes, list(rows))
            axes.set_xlabel("MiB")
            axes.set_axisbelow(True)
        canvas.name_backbones(figure, runs)
        return canvas.to_svg(figure, f"weight-{layout}")
