"""Accuracy against latency: a point for each file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pneumo_edge._util import drawing
from pneumo_edge._util.document import Layout
from pneumo_edge._util.records import encodable
from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks.networks import front
from pneumo_edge.benchmarks.report import cells
from pneumo_edge.benchmarks.report.figures import canvas
from pneumo_edge.benchmarks.report.runs import Run, Runs, fastest_units
from pneumo_edge.benchmarks.statistics import geometric_mean
from pneumo_edge.benchmarks.summary import Row
from pneumo_edge.evaluation.metrics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

#: Beyond what is drawn: a share of its range on the axis of latency, and at least this factor.
_MARGIN, _LEAST_MARGIN = 0.1, 1.1
#: Minimum height of the panel of the only run, and of one of several, and height of a label, in inches.
_HEIGHT, _HEIGHT_OF_SEVERAL = {"wide": 2.9, "narrow": 2.7}, 1.8
_LINE = 0.16
#: Maximum number of characters of a label.
_MOST_CHARACTERS = {"wide": 44, "narrow": 20}
#: Width that the number of a tick takes, in inches.
_TICK = 0.5
_FONT_SIZE = 8.5
_LATENCY = "Inference in ms, faster at the top"
#: Distance between a label, its line and the data, in points.
_GAP = 4.0
_MARKERS = "os^D"
#: The suffix whose files' labels are formats alone.
_COMMON = ".tflite"


@dataclass(frozen=True)
class _Point:
    """A file or network in the figure: its unit, its place and intervals, its label, and how it is marked."""

    row: Row
    x: Interval
    latency: Interval
    label: str
    picked: bool
    misses: bool

    @property
    def suffix(self) -> str:
        return Path(self.row.model.file).suffix


def draw_tradeoff(runs: Runs, layout: Layout) -> str:
    """AUC against the latency of inference, both with their intervals: a point for each file on its fastest unit.

    Where no accuracy was measured, file size takes the place of AUC. The fastest files are at the top, and the most
    accurate ones at the right. Labels stand in a column at each side, so that they never overlap.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return _draw(runs, {run.letter: _points(run, layout) for run in runs}, layout, "tradeoff")


def draw_networks(runs: Runs, layout: Layout) -> str:
    """The same with a point for each network and format, whose AUC is that of all trainings.

    Args:
        runs: Runs of which each has a verdict over networks.
        layout: Wide or narrow.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return _draw(runs, {run.letter: _points_of_networks(run, layout) for run in runs}, layout, "networks")


def _draw(runs: Runs, points: Mapping[str, Sequence[_Point]], layout: Layout, name: str) -> str:
    least = _HEIGHT[layout] if len(runs) == 1 else _HEIGHT_OF_SEVERAL
    heights = [max(least, _LINE * (2 + max(map(len, _sides(points[run.letter]))))) for run in runs]
    titles = [f"{f'Run {run.letter}: ' if run.letter else ''}{_LATENCY}" for run in runs]
    with canvas.draw_grid(titles, heights, 1 if layout == "narrow" else min(len(runs), 2), layout) as (figure, grid):
        for axes, run in zip(grid, runs, strict=True):
            _draw_points(axes, runs, points[run.letter])
            axes.set_title(axes.get_title("left"), color=canvas.MUTED, fontsize=_FONT_SIZE + 0.5, fontweight="normal")
            axes.set_xlabel(_x_title(run))
            axes.grid(visible=False, axis="y")
            axes.set_ylim(*_limits(points[run.letter]))
            canvas.log_scale(axes, "y")
            axes.invert_yaxis()
        _explain(figure, runs, [point for of_run in points.values() for point in of_run])
        # Labels are placed around the points, so the layout must be final.
        drawing.lay_out(figure)
        for axes, run in zip(grid, runs, strict=True):
            _label(axes, runs, points[run.letter])
        return canvas.to_svg(figure, f"{name}-{layout}")


def _limits(points: Sequence[_Point]) -> tuple[float, float]:
    """Of the axis of latency: all that is drawn, with a margin; one process has an interval without ends."""
    found = [point.latency for point in points]
    low = min((each.low if each.low > 0 else each.value for each in found), default=1.0)
    high = max((each.high if isfinite(each.high) else each.value for each in found), default=1.0)
    margin = max(_LEAST_MARGIN, (high / low) ** _MARGIN)
    return low / margin, high * margin


def _x_title(run: Run) -> str:
    if not run.summary.has_accuracy:
        return "Size in MiB, smaller to the left"
    return f"{cells.qualities(run.summary.rows)[0]}, better to the right"


def _points(run: Run, layout: Layout) -> list[_Point]:
    best = run.best
    missed = [row.model.file for row, gate in run.verdict.unranked if gate]
    rows = [row for row in fastest_units(run) if row.accuracy or not run.summary.has_accuracy]
    labels = _labels(run, rows)
    return [
        _Point(
            row,
            row.accuracy.auc if row.accuracy else _exactly(row.model.size_bytes / cells.MEBI),
            geometric_mean(row.inference.wall_medians_ms),
            canvas.shortened(label, _MOST_CHARACTERS[layout]),
            best is not None and row.model.file == best.model.file,
            row.model.file in missed,
        )
        for row, label in zip(rows, labels, strict=True)
    ]


def _points_of_networks(run: Run, layout: Layout) -> list[_Point]:
    """The networks that have several trainings; their accuracy is that of all of them."""
    found = front(run.networks) if run.networks else ()
    labels = _labels(run, [standing.row for standing in found])
    return [
        _Point(
            standing.row,
            standing.network.auc,
            geometric_mean(standing.row.inference.wall_medians_ms),
            canvas.shortened(label, _MOST_CHARACTERS[layout]),
            standing.is_front,
            misses=False,
        )
        for standing, label in zip(found, labels, strict=True)
    ]


def _exactly(value: float) -> Interval:
    return Interval(value, value, value)


def _labels(run: Run, rows: Sequence[Row]) -> list[str]:
    """The format of each file, or its name where that says more."""
    models = [row.model for row in rows]
    several = len({model.backbone for model in models}) > canvas.SERIES
    suffixes = {Path(model.file).suffix for model in models}
    labels = []
    for model in models:
        suffix = Path(model.file).suffix
        told = f"{backbone_title(model.backbone)} {model.format}" if several else model.format
        labels.append(told if suffix == _COMMON or len(suffixes) == 1 else f"{told}{suffix}")
    named = [(model.backbone, label) for model, label in zip(models, labels, strict=True)]
    return [
        model.file if model.backbone == model.file or named.count(name) > 1 else name[1]
        for model, name in zip(models, named, strict=True)
    ]


def _sides(points: Sequence[_Point]) -> tuple[list[_Point], list[_Point]]:
    """The points whose labels stand at the left, and those at the right.

    The files of a backbone are alike in AUC, so their labels stay together; in size they are not.
    """
    groups: dict[str, list[float]] = {}
    for point in points:
        groups.setdefault(_group(point), []).append(point.x.value)
    places = {group: float(np.median(values)) for group, values in groups.items()}
    middle = (min(places.values()) + max(places.values())) / 2 if places else 0.0
    left = [point for point in points if places[_group(point)] < middle]
    return left, [point for point in points if places[_group(point)] >= middle]


def _group(point: _Point) -> str:
    return point.row.model.backbone if point.row.accuracy else point.row.model.file


def _draw_points(axes: Axes, runs: Runs, points: Iterable[_Point]) -> None:
    for point in points:
        colour = canvas.colours(runs)[point.row.model.backbone]
        x, y = point.x, point.latency
        axes.plot((x.low, x.high), (y.value, y.value), color=colour, linewidth=2.2, alpha=0.35, solid_capstyle="butt")
        if isfinite(y.high) and y.low > 0:
            axes.plot((x.value, x.value), (y.low, y.high), color=colour, linewidth=2.2, alpha=0.6)
        axes.plot(
            x.value,
            y.value,
            marker=_marker(runs, point),
            markersize=6,
            color=colour,
            markerfacecolor=canvas.PAPER if point.misses else colour,
            zorder=3,
        )
        if point.picked:
            axes.plot(x.value, y.value, "o", markersize=13, color=canvas.INK, fillstyle="none", zorder=4)


def _marker(runs: Runs, point: _Point) -> str:
    """A shape for each kind of file."""
    return _MARKERS[_suffixes(runs).index(point.suffix) % len(_MARKERS)]


def _suffixes(runs: Runs) -> list[str]:
    return sorted({Path(row.model.file).suffix for run in runs for row in run.summary.rows}, reverse=True)


def _explain(figure: Figure, runs: Runs, points: Sequence[_Point]) -> None:
    """Draw a legend of colours, shapes and marks."""
    shown = {point.row.model.backbone for point in points if point.row.model.backbone != point.row.model.file}
    named = {
        backbone_title(backbone): (colour, "o", True)
        for backbone, colour in canvas.colours(runs).items()
        if backbone in shown and len(shown) <= canvas.SERIES
    }
    suffixes = {point.suffix for point in points}
    if len(suffixes) > 1:
        named |= {
            suffix: (canvas.MUTED, _MARKERS[number % len(_MARKERS)], True)
            for number, suffix in enumerate(_suffixes(runs))
            if suffix in suffixes
        }
    if any(point.misses for point in points):
        named["not eligible"] = (canvas.MUTED, "o", False)
    canvas.legend(figure, named)


def _label(axes: Axes, runs: Runs, points: Sequence[_Point]) -> None:
    """Write the labels in a column at each side of the data, each with a line to its point."""
    left, right = _sides(points)
    colours = canvas.colours(runs)
    inside = axes.get_window_extent()
    dots = axes.figure.dpi / 72
    texts = [[_text(axes, point, colours[point.row.model.backbone]) for point in side] for side in (left, right)]
    widths = [max((text.get_window_extent().width for text in side), default=0.0) for side in texts]
    # Between the columns the data take the rest of the width.
    margins = [width + 3 * _GAP * dots for width in widths]
    low, high = min(point.x.low for point in points), max(point.x.high for point in points)
    if high == low:
        low, high = low - 0.01, high + 0.01
    scale = (high - low) / max(inside.width - sum(margins), 0.2 * inside.width)
    axes.set_xlim(low - margins[0] * scale, high + margins[1] * scale)
    room = (inside.width - sum(margins)) / axes.figure.dpi
    axes.set_xticks(canvas.ticks_within(low, high, int(room / _TICK)))
    to_data = axes.transData.inverted()
    for side, found, width, is_left in ((left, texts[0], widths[0], True), (right, texts[1], widths[1], False)):
        order = sorted(range(len(side)), key=lambda index: -side[index].latency.value)
        heights = [axes.transData.transform((side[index].x.value, side[index].latency.value))[1] for index in order]
        places = _apart([height - inside.y0 for height in heights], _LINE * axes.figure.dpi, inside.height)
        edge = inside.x0 + width + _GAP * dots if is_left else inside.x1 - width - _GAP * dots
        for index, place in zip(order, places, strict=True):
            point, text = side[index], found[index]
            text.set(ha="right" if is_left else "left")
            x, y = map(float, to_data.transform((edge, inside.y0 + place)))
            text.set_position((x, y))
            ends = [axes.transData.transform((x, point.latency.value))[0] for x in (point.x.low, point.x.high)]
            start = edge + _GAP * dots / 2 * (1 if is_left else -1)
            end = min(ends) - _GAP * dots / 2 if is_left else max(ends) + _GAP * dots / 2
            line = to_data.transform([(start, inside.y0 + place), (end, heights[order.index(index)])])
            axes.plot(line[:, 0], line[:, 1], color=colours[point.row.model.backbone], linewidth=0.6, alpha=0.6)


def _text(axes: Axes, point: _Point, colour: str) -> Text:
    return axes.text(
        point.x.value,
        point.latency.value,
        encodable(point.label),
        color=colour,
        fontsize=_FONT_SIZE,
        fontweight="bold" if point.picked else "normal",
        va="center",
        parse_math=False,
    )


def _apart(wanted: Sequence[float], least: float, height: float) -> list[float]:
    """Places near the wanted ones, in the same order, at least this far apart and within the height.

    The sum of the squared distances from the wanted places is the least possible (isotonic regression by pooling
    neighbours).

    Args:
        wanted: The wanted places, in ascending order.
        least: The least distance of two neighbours.
        height: The places are within 0 and this height, where it has room for them.
    """
    pools: list[tuple[float, int]] = []
    for number, place in enumerate(wanted):
        pools.append((place - number * least, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (one, first), (other, second) = pools[-2:]
            pools[-2:] = [((one * first + other * second) / (first + second), first + second)]
    top = height - least / 2 - (len(wanted) - 1) * least
    flat = [min(max(value, least / 2), top) for value, size in pools for _ in range(size)]
    return [value + number * least for number, value in enumerate(flat)]
