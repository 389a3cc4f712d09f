"""The stages from an image file to its prediction."""

from __future__ import annotations

from pneumo_edge._util.document import Layout
from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks.report.figures import canvas
from pneumo_edge.benchmarks.report.runs import Runs

_ROW = 0.36
_INFERENCE = "inference"


def draw_stages(runs: Runs, layout: Layout) -> str:
    """The medians of the stages of each unit, one after the other.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    stages = next(row.stages_ms for run in runs for row in run.summary.rows if row.stages_ms)
    names = [stage for stage in stages if stage != _INFERENCE]
    parts = dict(zip(names, canvas.PARTS, strict=False))
    colours = canvas.colours(runs)
    with canvas.draw_panels(
        runs, layout, lambda panel: _ROW * len(canvas.by_format(panel.rows)), sharex=False
    ) as drawn:
        figure, pairs = drawn
        for axes, panel in pairs:
            rows = canvas.by_format(panel.rows)
            for place, same in zip(reversed(range(len(rows))), rows.values(), strict=True):
                height = 0.8 / len(same)
                for number, row in enumerate(same):
                    left = 0.0
                    for stage, value in row.stages_ms.items():
                        colour = parts.get(stage, colours[row.model.backbone])
                        y = place + 0.4 - height * (number + 0.5)
                        axes.barh(y, value, 0.85 * height, left, color=colour)
                        left += value
            canvas.name_places(axes, list(rows))
            axes.set_xlabel("ms")
            axes.set_axisbelow(True)
        named = {f"inference, {backbone_title(name)}": colour for name, colour in colours.items()} | parts
        canvas.legend(figure, {name: (colour, "s", True) for name, colour in named.items()})
        return canvas.to_svg(figure, f"stages-{layout}")
