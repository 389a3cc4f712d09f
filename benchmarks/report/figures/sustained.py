"""The time per inference of units that run alone, second by second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pneumo_edge._util.document import Layout
from pneumo_edge.benchmarks.report import cells
from pneumo_edge.benchmarks.report.figures import canvas
from pneumo_edge.benchmarks.report.runs import Panel, Runs, panels
from pneumo_edge.benchmarks.summary import Row
from pneumo_edge.benchmarks.sustained.summary import Course

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Stalls above this quantile of a line, and so many times it, are cut off.
_SHOWN, _ABOVE = 0.97, 1.4
#: Heights of a panel of times and of one of temperatures, in inches, and the most points of a line.
_HEIGHT, _HEIGHT_OF_TEMPERATURE, _MOST_POINTS = 2.2, 0.9, 600
#: Seconds after a change whose median is the height of its mark.
_AFTER = 10


def draw_sustained(runs: Runs, layout: Layout) -> str:
    """A panel for each run, engine and number of threads with a line for each unit; below it, the temperature.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    shown = [(panel, found) for panel in panels(runs) if (found := _courses(panel))]
    styles = _styles(runs, [row for _, found in shown for row, _ in found])
    titles, heights = [], []
    for panel, found in shown:
        titles.append(f"{canvas.panel_title(panel)}: ms per inference")
        heights.append(_HEIGHT)
        if _has_temperature(found):
            titles.append("Temperature in °C")
            heights.append(_HEIGHT_OF_TEMPERATURE)
    with canvas.draw_grid(titles, heights, 1, layout) as (figure, grid):
        remaining = iter(grid)
        for _, found in shown:
            axes = next(remaining)
            for row, course in found:
                _draw_times(axes, course, *styles[_name(row)])
            lowest = axes
            if _has_temperature(found):
                lowest = next(remaining)
                lowest.sharex(axes)
                for row, course in found:
                    readings = course.result.samples.readings
                    if readings.temperature_c:
                        colour, style = styles[_name(row)]
                        lowest.plot(readings.at_s, readings.temperature_c, color=colour, linestyle=style, linewidth=1)
            axes.set_ylim(0, _ABOVE * max(float(np.quantile(course.mean_ms, _SHOWN)) for _, course in found))
            lowest.set_xlabel("Seconds")
        canvas.legend(figure, {name: (colour, style, True) for name, (colour, style) in styles.items()})
        return canvas.to_svg(figure, f"sustained-{layout}")


def _courses(panel: Panel) -> list[tuple[Row, Course]]:
    return [(row, course) for row in panel.rows if (course := panel.run.summary.course(row))]


def _name(row: Row) -> str:
    return " ".join(str(cell) for cell in cells.unit(row)[:2])


def _styles(runs: Runs, rows: Sequence[Row]) -> dict[str, tuple[str, str]]:
    """Colour and line of each file: a colour for a backbone, a line for a format."""
    colours = canvas.colours(runs)
    formats = list(dict.fromkeys(row.model.format for row in rows))
    return {
        _name(row): (colours[row.model.backbone], canvas.LINES[formats.index(row.model.format) % len(canvas.LINES)])
        for row in rows
    }


def _has_temperature(found: Sequence[tuple[Row, Course]]) -> bool:
    return any(course.result.samples.readings.temperature_c for _, course in found)


def _draw_times(axes: Axes, course: Course, colour: str, style: str) -> None:
    step = -(-len(course.at_s) // _MOST_POINTS)
    starts = np.arange(0, len(course.at_s), step)
    times = np.add.reduceat(course.mean_ms, starts) / np.diff([*starts, len(course.at_s)])
    axes.plot(course.at_s[starts], times, color=colour, linestyle=style, linewidth=1.2)
    for change in course.changes:
        after = course.mean_ms[course.at_s >= change.at_s.value]
        axes.plot(change.at_s.value, np.median(after[:_AFTER]), color=colour, marker="o", markerfacecolor=canvas.PAPER)
