"""The distribution of every timed call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pneumo_edge._util.document import Layout
from pneumo_edge.benchmarks.protocol import CallKind
from pneumo_edge.benchmarks.report.figures import canvas
from pneumo_edge.benchmarks.report.runs import Runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Width of a histogram bin as a share of the latency.
_BIN_WIDTH, _MAX_BINS = 0.02, 120
_ROW = {"wide": 0.5, "narrow": 0.55}


def draw_distributions(runs: Runs, kind: CallKind, layout: Layout) -> str:
    """The distribution of every timed call of one kind; a line marks the median, a dot the 90th percentile.

    Ticks below a distribution are the medians of the processes.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    colours = canvas.colours(runs)
    with canvas.draw_panels(runs, layout, lambda panel: _ROW[layout] * len(canvas.by_format(panel.rows))) as drawn:
        figure, pairs = drawn
        for axes, panel in pairs:
            rows = canvas.by_format(panel.rows)
            for place, same in zip(reversed(range(len(rows))), rows.values(), strict=True):
                for row in same:
                    timed = [calls for each in row.result.latency if (calls := getattr(each, kind))]
                    processes = [np.array(calls.wall_ns) / 1e6 for calls in timed]
                    if processes:
                        _draw(axes, processes, place - 0.25, colours[row.model.backbone])
            canvas.name_places(axes, list(rows))
            axes.set_xlabel("ms")
            canvas.log_scale(axes)
        canvas.name_backbones(figure, runs)
        return canvas.to_svg(figure, f"{kind}-{layout}")


def _draw(axes: Axes, processes: list[npt.NDArray[np.float64]], place: float, colour: str) -> None:
    samples = np.concatenate(processes)
    bins = min(_MAX_BINS, 1 + int(np.log(samples.max() / samples.min()) / _BIN_WIDTH))
    counts, edges = np.histogram(samples, np.geomspace(samples.min(), samples.max() * (1 + _BIN_WIDTH), bins + 1))
    height = 0.65
    axes.stairs(place + height * counts / counts.max(), edges, baseline=place, fill=True, color=colour, alpha=0.5)
    axes.plot([np.median(samples)] * 2, (place, place + height), color=colour, linewidth=1.4)
    axes.plot(np.percentile(samples, 90), place, marker="o", markersize=3, color=colour, clip_on=False)
    medians = [float(np.median(process)) for process in processes]
    axes.vlines(medians, place - 0.14, place - 0.04, color=colour, linewidth=0.7)
