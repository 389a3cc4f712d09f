"""Accuracy against latency."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pneumo_edge._util import drawing
from pneumo_edge._util.document import Layout
from pneumo_edge._util.records import encodable
from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks.report.figures import canvas
from pneumo_edge.benchmarks.report.runs import Run, Runs
from pneumo_edge.benchmarks.summary import Row
from pneumo_edge.evaluation.metrics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

_MARKERS = "osD^vPX"
#: Dot area in square points.
_AREA_PER_MEBI, _LEAST_AREA = 14.0, 12.0
_HEIGHT = {"wide": 3.2, "narrow": 2.6}


def draw_tradeoff(runs: Runs, layout: Layout) -> str:
    """AUC with its interval against the median latency of inference.

    A dot's area is the size of the model file, its colour the backbone, its shape the format; those on the
    Pareto front have a ring.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with canvas.draw_panels(runs, layout, lambda panel: _HEIGHT[layout], sharey=True) as drawn:
        figure, pairs = drawn
        for axes, panel in pairs:
            _draw_dots(axes, runs, panel.run, _measured(panel.rows))
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("Inference, ms (median)")
            axes.set_ylabel("AUC")
            axes.margins(x=0.25, y=0.12)
            canvas.log_scale(axes)
        _name_formats(figure, runs)
        # Labels are placed around the dots, so the layout must be final.
        drawing.lay_out(figure)
        for axes, panel in pairs:
            _label_dots(axes, runs, _measured(panel.rows))
        return canvas.to_svg(figure, f"tradeoff-{layout}")


def _measured(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.accuracy]


def _draw_dots(axes: Axes, runs: Runs, run: Run, rows: Sequence[Row]) -> None:
    front = [id(row) for row in run.verdict.pareto]
    for row in sorted(rows, key=_area, reverse=True):
        auc, x, colour = _auc(row), row.inference.median_ms, canvas.colours(runs)[row.model.backbone]
        axes.plot((x, x), (auc.low, auc.high), color=colour, linewidth=1, alpha=0.4)
        marker = _markers(runs)[row.model.format]
        axes.scatter(
            x, auc.value, _area(row), color=colour, marker=marker, edgecolors=canvas.PAPER, linewidths=0.8, zorder=3
        )
        if id(row) in front:
            ring = np.pi * (_radius(row) + 3.5) ** 2
            axes.scatter(x, auc.value, ring, facecolors="none", edgecolors=canvas.INK, linewidths=1.3, zorder=4)


def _markers(runs: Runs) -> dict[str, str]:
    """A shape for each format."""
    formats = dict.fromkeys(row.model.format for run in runs for row in run.summary.rows)
    return {name: _MARKERS[number % len(_MARKERS)] for number, name in enumerate(formats)}


def _label_dots(axes: Axes, runs: Runs, rows: Sequence[Row]) -> None:
    """Label dots with their format, beside the dot or at an end of its interval; omit the label if there is no room."""
    taken = [box for row in rows for box in _extents(axes, row)]
    inside = axes.get_window_extent()
    for dots in _coincident(axes, rows):
        first, auc = dots[0], _auc(dots[0])
        beside, line = _radius(first) + 5, 11
        candidates = (
            (auc.value, (beside, 0), "left", "center"),
            (auc.value, (-beside, 0), "right", "center"),
            (auc.high, (0, 3), "center", "bottom"),
            (auc.low, (0, -3), "center", "top"),
            (auc.high, (0, 3 + line), "center", "bottom"),
            (auc.low, (0, -3 - line), "center", "top"),
            (auc.value, (beside, line), "left", "center"),
            (auc.value, (-beside, line), "right", "center"),
            (auc.value, (beside, -line), "left", "center"),
            (auc.value, (-beside, -line), "right", "center"),
        )
        label = axes.annotate(
            encodable(", ".join(dict.fromkeys(row.model.format for row in dots))),
            _place(first),
            (0, 0),
            textcoords="offset points",
            color=canvas.colours(runs)[first.model.backbone],
            fontsize=8,
            parse_math=False,
        )
        for y, offset, horizontal, vertical in candidates:
            label.xy = (first.inference.median_ms, y)
            label.xyann = offset
            label.set(ha=horizontal, va=vertical)
            box = label.get_window_extent()
            within = box.x0 >= inside.x0 and box.x1 <= inside.x1
            if within and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
        else:
            label.remove()


def _name_formats(figure: Figure, runs: Runs) -> None:
    """Draw a legend of the backbones' colours and the formats' shapes."""
    colours = {backbone_title(name): (colour, "o") for name, colour in canvas.colours(runs).items()}
    canvas.legend(figure, colours | {name: (canvas.MUTED, marker) for name, marker in _markers(runs).items()})


def _coincident(axes: Axes, rows: Iterable[Row]) -> list[list[Row]]:
    """Group overlapping dots of one backbone, which share a label; the largest comes first."""
    groups: list[list[Row]] = []
    for row in sorted(rows, key=_area, reverse=True):
        for group in groups:
            apart = axes.transData.transform(_place(row)) - axes.transData.transform(_place(group[0]))
            if row.model.backbone == group[0].model.backbone and np.hypot(*apart) < _pixels(axes, group[0]):
                group.append(row)
                break
        else:
            groups.append([row])
    return groups


def _extents(axes: Axes, row: Row) -> list[Bbox]:
    """The extents of a dot and its interval, in pixels."""
    from matplotlib.transforms import Bbox

    x, y = axes.transData.transform(_place(row))
    _, low = axes.transData.transform((row.inference.median_ms, _auc(row).low))
    _, high = axes.transData.transform((row.inference.median_ms, _auc(row).high))
    radius = _pixels(axes, row)
    return [
        Bbox.from_extents(x - radius, y - radius, x + radius, y + radius),
        Bbox.from_extents(x - 1, low, x + 1, high),
    ]


def _place(row: Row) -> tuple[float, float]:
    return row.inference.median_ms, _auc(row).value


def _auc(row: Row) -> Interval:
    assert row.accuracy, "only rows whose accuracy was measured are drawn"
    return row.accuracy.auc


def _pixels(axes: Axes, row: Row) -> float:
    return _radius(row) * axes.figure.dpi / 72


def _area(row: Row) -> float:
    return max(_LEAST_AREA, _AREA_PER_MEBI * row.model.size_bytes / 2**20)


def _radius(row: Row) -> float:
    """Radius of a unit's dot, in points."""
    return float(np.sqrt(_area(row) / np.pi))
