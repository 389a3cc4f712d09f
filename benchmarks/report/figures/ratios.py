"""Ratios of time between the backbones, with intervals."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from pneumo_edge._util.document import Layout
from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks.report.figures import canvas
from pneumo_edge.benchmarks.report.runs import Panel, Runs
from pneumo_edge.benchmarks.summary import CLOCK_TITLES, Ratio
from pneumo_edge.evaluation.metrics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW = 0.34


def draw_ratios(runs: Runs, layout: Layout) -> str:
    """Ratios of the time that decides claims with their intervals, and the band that counts as no difference.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with canvas.draw_panels(runs, layout, lambda panel: _ROW * max(1, len(_ratios(panel)))) as drawn:
        figure, pairs = drawn
        for axes, panel in pairs:
            ratios = _ratios(panel)
            for place, ratio in zip(reversed(range(len(ratios))), ratios, strict=True):
                _draw(axes, runs, ratio, place)
            axes.axvline(1, color=canvas.MUTED, linewidth=1)
            canvas.name_places(axes, [_name(runs, ratio) for ratio in ratios])
            axes.set_xlabel(_axis(runs, panel))
            axes.margins(x=0.1)
            canvas.log_scale(axes)
        canvas.name_backbones(figure, runs)
        return canvas.to_svg(figure, f"ratios-{layout}")


def _ratios(panel: Panel) -> list[Ratio]:
    own = [id(row) for row in panel.rows]
    return [ratio for ratio in panel.run.summary.ratios if id(ratio.numerator) in own]


def _draw(axes: Axes, runs: Runs, ratio: Ratio, place: float) -> None:
    band = 1 + ratio.band
    if isfinite(band):
        axes.fill_betweenx((place - 0.5, place + 0.5), 1 / band, band, color=canvas.MUTED, alpha=0.25, linewidth=0)
    file_to_verdict = ratio.file_to_verdict if ratio.decides == "cpu" else ratio.wall_file_to_verdict
    _draw_interval(axes, runs, ratio, ratio.decided, place + 0.13, filled=True)
    if file_to_verdict:
        _draw_interval(axes, runs, ratio, file_to_verdict, place - 0.13, filled=False)


def _draw_interval(axes: Axes, runs: Runs, ratio: Ratio, found: Interval, place: float, *, filled: bool) -> None:
    faster = ratio.denominator if found.value > 1 else ratio.numerator
    colour = canvas.colours(runs)[faster.model.backbone]
    if isfinite(found.high) and found.low > 0:
        axes.plot((found.low, found.high), (place, place), color=colour, linewidth=1.4)
    axes.plot(
        found.value, place, marker="o", markersize=5, color=colour, markerfacecolor=colour if filled else canvas.PAPER
    )


def _pairs(runs: Runs) -> set[str]:
    return {_pair(ratio) for run in runs for ratio in run.summary.ratios}


def _pair(ratio: Ratio) -> str:
    return f"{backbone_title(ratio.numerator.model.backbone)} / {backbone_title(ratio.denominator.model.backbone)}"


def _name(runs: Runs, ratio: Ratio) -> str:
    one, other = ratio.numerator.model, ratio.denominator.model
    several = f", {_pair(ratio)}" if len(_pairs(runs)) > 1 else ""
    return f"{one.format}{several}" if one.format == other.format else f"{one.file}{several}"


def _axis(runs: Runs, panel: Panel) -> str:
    pairs = _pairs(runs)
    clocks = " or ".join(dict.fromkeys(CLOCK_TITLES[ratio.decides] for ratio in _ratios(panel)))
    return f"{clocks or 'time'}, {pairs.pop() if len(pairs) == 1 else 'first over second'}"
