"""The figures of the report, as SVG that takes its colours and its font from the page it stands in."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.report.content import backbone_title, unit_title
from benchmarks.summary import Row, Summary
from pneumo_edge import extras

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

#: Narrow figures put their panels below each other, for a phone.
Layout = Literal["wide", "narrow"]
LAYOUTS: tuple[Layout, ...] = ("wide", "narrow")

# matplotlib knows no CSS variables: it draws in these colours, which are then replaced.
_INK, _MUTED, _RULE, _PAPER = "#000001", "#000002", "#000003", "#000004"
_SERIES = ("#000011", "#000012", "#000013", "#000014")
_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _RULE: "--rule", _PAPER: "--paper"} | {
    colour: f"--series-{number}" for number, colour in enumerate(_SERIES, 1)
}
_MARKERS = "osD^vP"
#: In inches.
_WIDTH = {"wide": 10.0, "narrow": 3.7}
#: Dot area in square points.
_AREA_PER_MEBI, _LEAST_AREA = 16.0, 10.0
#: Histogram bins are this share of a latency wide.
_BIN_WIDTH, _MAX_BINS = 0.02, 200
_METADATA = ("Creator", "Date", "Format", "Type")
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": _RULE,
    "axes.grid": True,
    "axes.labelcolor": _MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": _INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "font.size": 9,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
}


def draw_tradeoff(summary: Summary, layout: Layout) -> str:
    """AUC with its interval against the median latency of inference, one panel for each engine.

    A dot's area is the size of the model file, its colour the backbone, its shape the format.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    engines = _distinct(row.result.unit.engine for row in summary.rows)
    panels = {engine: [row for row in summary.rows if row.result.unit.engine == engine] for engine in engines}
    height = 3.8 if layout == "wide" else 2.8 * len(engines) + 0.4
    with _figure(layout, height) as figure:
        grid = (1, len(engines)) if layout == "wide" else (len(engines), 1)
        all_axes = figure.subplots(*grid, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, (engine, rows) in zip(all_axes, panels.items(), strict=True):
            _draw_dots(axes, summary, rows)
            axes.set_title(engine)
            axes.set_xlabel("Inference, ms (median)")
            axes.set_ylabel("AUC")
            axes.margins(x=0.25, y=0.12)
            _log_milliseconds(axes)
            axes.label_outer()
        _name_backbones(figure, summary)
        # Labels need to know where everything is.
        figure.draw_without_rendering()
        for axes, rows in zip(all_axes, panels.values(), strict=True):
            _label_dots(axes, summary, rows)
        return _svg(figure, f"tradeoff-{layout}")


def draw_latency(summary: Summary, layout: Layout) -> str:
    """The distribution of every timed call of each unit; a tick marks the median, a dot the 90th percentile.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    kinds = {"Inference, ms": "inference", "File to verdict, ms": "file_to_verdict"}
    wide = layout == "wide"
    places = list(enumerate(reversed(summary.rows)))
    with _figure(layout, 0.36 * len(places) + 1.0 if wide else 2 * (0.5 * len(places) + 0.8)) as figure:
        all_axes = figure.subplots(*((1, 2) if wide else (2, 1)), sharex=True, sharey=True)
        for axes, (title, kind) in zip(all_axes, kinds.items(), strict=True):
            for place, row in places:
                samples = [getattr(process, kind).wall_ns for process in row.result.latency]
                _draw_distribution(
                    axes, np.concatenate(samples) / 1e6, place, 0.75 if wide else 0.5, _colour(summary, row)
                )
                if not wide:
                    axes.text(0, place + 0.6, unit_title(row), transform=axes.get_yaxis_transform(), in_layout=False)
            axes.set_title(title)
            axes.set_ylim(-0.3, len(places))
            axes.set_yticks(range(len(places)), [unit_title(row) if wide else "" for _, row in places])
            axes.tick_params(axis="y", length=0)
            axes.tick_params(axis="x", labelbottom=True)
            axes.grid(visible=False, axis="y")
            axes.spines["left"].set_visible(False)
            _log_milliseconds(axes)
        return _svg(figure, f"latency-{layout}")


@contextmanager
def _figure(layout: Layout, height: float) -> Iterator[Figure]:
    extras.need("matplotlib", "report")
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH[layout], height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def _draw_dots(axes: Axes, summary: Summary, rows: Sequence[Row]) -> None:
    formats = _distinct(row.model.format for row in summary.rows)
    for row in sorted(rows, key=_area, reverse=True):
        auc, x, colour = row.accuracy.auc, row.inference.median_ms, _colour(summary, row)
        axes.plot((x, x), (auc.low, auc.high), color=colour, linewidth=1, alpha=0.6)
        marker = _MARKERS[formats.index(row.model.format) % len(_MARKERS)]
        axes.scatter(x, auc.value, _area(row), color=colour, marker=marker, edgecolors=_PAPER, linewidths=0.8, zorder=3)


def _label_dots(axes: Axes, summary: Summary, rows: Sequence[Row]) -> None:
    """Write the formats beside the dots, or at an end of the interval where that is free and the sides are not."""
    taken = [box for row in rows for box in _extents(axes, row)]
    for dots in _coincident(axes, rows):
        first, auc = dots[0], dots[0].accuracy.auc
        beside, line = _radius(first) + 3, 11
        candidates = (
            (auc.value, (beside, 0), "left", "center"),
            (auc.value, (-beside, 0), "right", "center"),
            (auc.high, (0, 3), "center", "bottom"),
            (auc.low, (0, -3), "center", "top"),
            (auc.high, (0, 3 + line), "center", "bottom"),
            (auc.low, (0, -3 - line), "center", "top"),
        )
        label = axes.annotate(
            ", ".join(_distinct(row.model.format for row in dots)),
            _place(first),
            (0, 0),
            textcoords="offset points",
            color=_colour(summary, first),
        )
        for y, offset, horizontal, vertical in candidates:
            label.xy = (first.inference.median_ms, y)
            label.xyann = offset
            label.set(ha=horizontal, va=vertical)
            if not any(label.get_window_extent().overlaps(box) for box in taken):
                break
        taken.append(label.get_window_extent())


def _coincident(axes: Axes, rows: Sequence[Row]) -> list[list[Row]]:
    """Dots of one backbone that lie on each other share a label; the largest comes first."""
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
    """Where a dot and its interval are, in pixels."""
    from matplotlib.transforms import Bbox

    x, y = axes.transData.transform(_place(row))
    _, low = axes.transData.transform((row.inference.median_ms, row.accuracy.auc.low))
    _, high = axes.transData.transform((row.inference.median_ms, row.accuracy.auc.high))
    radius = _pixels(axes, row)
    return [
        Bbox.from_extents(x - radius, y - radius, x + radius, y + radius),
        Bbox.from_extents(x - 1, low, x + 1, high),
    ]


def _place(row: Row) -> tuple[float, float]:
    return row.inference.median_ms, row.accuracy.auc.value


def _pixels(axes: Axes, row: Row) -> float:
    return _radius(row) * axes.figure.dpi / 72


def _name_backbones(figure: Figure, summary: Summary) -> None:
    from matplotlib.lines import Line2D

    colours = {backbone_title(row.model.backbone): _colour(summary, row) for row in summary.rows}
    dots = [Line2D([], [], color=colour, marker="o", linestyle="none") for colour in colours.values()]
    figure.legend(dots, list(colours), loc="outside upper left", ncols=4, frameon=False)


def _draw_distribution(axes: Axes, samples: npt.NDArray[np.float64], place: float, height: float, colour: str) -> None:
    bins = min(_MAX_BINS, 1 + int(np.log(samples.max() / samples.min()) / _BIN_WIDTH))
    counts, edges = np.histogram(samples, np.geomspace(samples.min(), samples.max() * (1 + _BIN_WIDTH), bins + 1))
    axes.stairs(place + height * counts / counts.max(), edges, baseline=place, fill=True, color=colour, alpha=0.6)
    axes.plot([np.median(samples)] * 2, (place, place + height), color=_INK, linewidth=1.2)
    axes.plot(np.percentile(samples, 90), place, marker="o", markersize=3, color=_INK, clip_on=False)


def _log_milliseconds(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _colour(summary: Summary, row: Row) -> str:
    backbones = sorted({row.model.backbone for row in summary.rows})
    return _SERIES[backbones.index(row.model.backbone) % len(_SERIES)]


def _area(row: Row) -> float:
    return max(_LEAST_AREA, _AREA_PER_MEBI * row.model.size_bytes / 2**20)


def _radius(row: Row) -> float:
    """Radius of a unit's dot, in points."""
    return float(np.sqrt(_area(row) / np.pi))


def _svg(figure: Figure, name: str) -> str:
    """An ``svg`` element for an HTML page."""
    from matplotlib import rc_context

    stream = io.StringIO()
    # Several figures stand in one page, so each salts its ids with its own name.
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", transparent=True, metadata=dict.fromkeys(_METADATA))
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    # In a page, an svg element needs no namespaces; its size comes from the style sheet; groups need no names.
    svg = re.sub(r' (xmlns(:\w+)?="[^"]*"|(width|height)="[\d.]+pt")', "", svg)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
