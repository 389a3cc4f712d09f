"""Shared parts of the figures: a panel for each run, engine and number of threads; colours; SVG."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from pneumo_edge._util import drawing, extras
from pneumo_edge._util.document import Layout
from pneumo_edge._util.records import encodable
from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks.report.runs import Panel, Runs, engine_title, panels
from pneumo_edge.benchmarks.summary import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib does not support CSS variables, so it draws in these colours, which are then replaced.
INK, MUTED, RULE, PAPER = "#000001", "#000002", "#000003", "#000004"
_SERIES = ("#000011", "#000012", "#000013", "#000014")
#: Number of colours for backbones.
SERIES = len(_SERIES)
#: Kinds of lines.
LINES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
#: Colours of the stages that every unit has.
PARTS = ("#000021", "#000022", "#000023", "#000024", "#000025")
_VARIABLES = (
    {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--paper"}
    | {colour: f"--series-{number}" for number, colour in enumerate(_SERIES, 1)}
    | {colour: f"--part-{number}" for number, colour in enumerate(PARTS, 1)}
)
#: In inches.
_WIDTH: dict[Layout, float] = {"wide": 10.0, "narrow": 3.7}
_MOST_COLUMNS = 3
#: Height of a panel's title, ticks and label, and of the legend, in inches.
_FRAME, _LEGEND = 0.75, 0.4
#: Width of a character and of a legend's marker with its space, and height of a line of the legend, in inches.
_CHARACTER, _MARKER, _LINE = 0.07, 0.4, 0.22
#: Most of a panel's width that the names beside it take.
_NAMES = 0.6
_METADATA = ("Creator", "Date", "Format", "Type")
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": RULE,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "font.size": 9,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}


@contextmanager
def draw_panels(
    runs: Runs, layout: Layout, height: Callable[[Panel], float], *, sharex: bool = True, sharey: bool = False
) -> Iterator[tuple[Figure, list[tuple[Axes, Panel]]]]:
    """A figure with a panel for each run, engine and number of threads; in the wide layout one column for each engine.

    Args:
        runs: The runs to show.
        layout: Wide or narrow.
        height: The height that a panel's rows need, in inches.
        sharex: Whether all panels share the x axis.
        sharey: Whether all panels share the y axis.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    shown = panels(runs)
    columns = _columns(shown, layout)
    with draw_grid(
        [panel_title(panel) for panel in shown],
        [height(panel) for panel in shown],
        columns,
        layout,
        sharex=sharex,
        sharey=sharey,
    ) as (figure, grid):
        yield figure, list(zip(grid, shown, strict=True))


@contextmanager
def draw_grid(
    titles: Sequence[str],
    heights: Sequence[float],
    columns: int,
    layout: Layout,
    *,
    sharex: bool = False,
    sharey: bool = False,
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with a panel for each title, in lines of so many columns.

    Args:
        titles: The title of each panel; "" for none.
        heights: The height that each panel needs for its data, in inches.
        columns: Number of panels beside each other.
        layout: Wide or narrow.
        sharex: Whether all panels share the x axis.
        sharey: Whether all panels share the y axis.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    extras.need("matplotlib", "report")
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    starts = range(0, len(titles), columns)
    lines = [max(heights[start : start + columns]) + _FRAME for start in starts]
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH[layout], sum(lines) + _LEGEND), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(
            len(lines),
            columns,
            sharex=sharex,
            sharey="all" if sharey else False,
            squeeze=False,
            gridspec_kw={"height_ratios": lines},
        ).ravel()
        for axes in grid[len(titles) :]:
            axes.remove()
        for axes, title in zip(grid, titles, strict=False):
            axes.set_title(title)
        yield figure, list(grid[: len(titles)])


def panel_title(panel: Panel) -> str:
    """The engine with its number of threads, and the run where there are several."""
    return f"{f'{panel.run.letter}: ' if panel.run.letter else ''}{engine_title(panel.engine, panel.threads)}"


def _columns(shown: Sequence[Panel], layout: Layout) -> int:
    if layout == "narrow":
        return 1
    engines = len({panel.engine for panel in shown})
    return min(_MOST_COLUMNS, engines if engines > 1 else len(shown))


def by_format(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by format, or by file name where several files have the same backbone and format."""
    rows = list(rows)
    kinds = [(row.model.backbone, row.model.format) for row in rows]
    named = len(set(kinds)) < len(kinds)
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.model.file if named else row.model.format, []).append(row)
    return found


def name_places(axes: Axes, names: Sequence[str]) -> None:
    """Write names along the y axis, the first on top; row i is at height len(names) - 1 - i."""
    # Without names, the ends would be equal.
    axes.set_ylim(-0.5, max(1, len(names)) - 0.5)
    figure, place = axes.get_figure(root=True), axes.get_subplotspec()
    assert figure and place
    most = int(_NAMES * figure.get_figwidth() / place.get_gridspec().ncols / _CHARACTER)
    shown = [shortened(encodable(name), most) for name in reversed(names)]
    axes.set_yticks(range(len(names)), shown, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelbottom=True)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def colours(runs: Runs) -> dict[str, str]:
    """A colour for each backbone."""
    backbones = sorted({row.model.backbone for run in runs for row in run.summary.rows})
    return {backbone: _SERIES[number % len(_SERIES)] for number, backbone in enumerate(backbones)}


def legend(figure: Figure, named: Mapping[str, tuple[str, str, bool]]) -> None:
    """Draw a legend of colours and markers or :data:`LINES` above the panels; a marker is full or hollow."""
    from matplotlib.lines import Line2D

    dots = [
        Line2D([], [], color=colour, linestyle=LINES[LINES.index(marker)])
        if marker in LINES
        else Line2D([], [], color=colour, marker=marker, linestyle="none", markerfacecolor=colour if full else PAPER)
        for colour, marker, full in named.values()
    ]
    width = figure.get_figwidth()
    columns = 9 if width == _WIDTH["wide"] else 3
    names = [shortened(name, int((width - _MARKER) / _CHARACTER)) for name in named]
    widths = [_MARKER + _CHARACTER * len(name) for name in names]
    if sum(widths) > width:
        columns = max(1, min(columns, int(width / max(widths))))
    figure.set_figheight(figure.get_figheight() + _LINE * (math.ceil(len(names) / columns) - 1))
    figure.legend(
        dots,
        names,
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        handletextpad=0.2,
        columnspacing=1.2,
    )


def name_backbones(figure: Figure, runs: Runs) -> None:
    """Draw a legend of the backbones' colours."""
    legend(figure, {backbone_title(backbone): (colour, "o", True) for backbone, colour in colours(runs).items()})


def log_scale(axes: Axes, axis: Literal["x", "y"] = "x") -> None:
    """A logarithmic axis with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set(**{f"{axis}scale": "log"})
    low, high = sorted(axes.get_xlim() if axis == "x" else axes.get_ylim())
    # Numbers above each other need less room than those beside each other.
    reach = high / low if axis == "x" else (high / low) ** 0.5
    subs: tuple[float, ...] = (1, 2, 5) if reach < 200 else (1,)
    if reach < 20:
        subs = (1, 1.5, 2, 3, 5, 7)
    if axis == "y" and reach < 2:
        subs = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    scale = axes.xaxis if axis == "x" else axes.yaxis
    scale.set_major_locator(LogLocator(subs=subs))
    scale.set_major_formatter(StrMethodFormatter("{x:g}"))
    scale.set_minor_formatter(NullFormatter())


def ticks_within(low: float, high: float, most: int) -> list[float]:
    """At most about so many round numbers within a range."""
    from matplotlib.ticker import MaxNLocator

    return [
        float(tick)
        for tick in MaxNLocator(min(max(most, 1), 6), steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        if low <= tick <= high
    ]


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters, without its middle where it is longer."""
    half = most // 2
    return text if len(text) <= most else f"{text[: half - 1]}…{text[half - most :]}"


def to_svg(figure: Figure, name: str) -> str:
    """An ``svg`` element for an HTML page."""
    from matplotlib import rc_context

    stream = io.StringIO()
    # A page has several figures, so each salts its ids with its own name.
    with rc_context({"svg.hashsalt": name}):
        drawing.save(figure, stream, format="svg", transparent=True, metadata=dict.fromkeys(_METADATA))
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    # Inside a page, an svg element needs no namespaces, its size comes from the style sheet, and groups need no names.
    svg = re.sub(r' (xmlns(:\w+)?="[^"]*"|(width|height)="[\d.]+pt")', "", svg)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    # A tenth of a point is finer than a screen can show.
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+|\s*\n", lambda part: part[1] or " ", path[0]), svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
