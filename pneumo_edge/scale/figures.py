"""The figure of drift, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pneumo_edge._util import drawing, extras
from pneumo_edge.evaluation.drift import Comparison
from pneumo_edge.spec import HistogramSpec, ValidationDistributionSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pneumo_edge.scale.summary import Summary

_SCORED, _VALIDATION = "#D55E00", "#0072B2"
#: Names of groups on the axis, and characters of each.
_MOST_TICKS, _MOST_NAME = 20, 18
#: Classes that are drawn; the numbers of all are in the summary.
_MOST_CLASSES = 4


def drift_figure(summary: Summary, described: ValidationDistributionSpec) -> bytes:
    """Draw distributions beside those on the validation images, and the stability index of each group.

    Args:
        summary: A summary with comparisons.
        described: The validation distribution that it was compared with.

    Returns:
        The bytes of a PNG file.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    extras.need("matplotlib", "report")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    whole = [each for each in summary.drift if each.group is None][: 1 + _MOST_CLASSES]
    columns = 2 if summary.grouped_by else 1
    with rc_context(drawing.STYLE):
        figure = Figure(figsize=(5.2 * columns, 2.9 * len(whole) + 0.4), layout="constrained")
        panels = figure.subplots(len(whole), columns, squeeze=False)
        for each, beside in zip(whole, panels, strict=True):
            _draw_distribution(beside[0], each, summary, described)
            if summary.grouped_by:
                _draw_groups(beside[1], [other for other in summary.drift if _is_group_of(other, each)], summary)
        panels[0][0].legend(frameon=False, loc="lower right")
        stream = io.BytesIO()
        drawing.save(figure, stream, format="png", dpi=110)
    return stream.getvalue()


def _is_group_of(other: Comparison, whole: Comparison) -> bool:
    return other.group is not None and (other.number, other.class_name) == (whole.number, whole.class_name)


def _title(each: Comparison) -> str:
    if each.class_name is None:
        return "Distance from the training images"
    return f"Probability of {each.class_name}"


def _draw_distribution(axes: Axes, each: Comparison, summary: Summary, described: ValidationDistributionSpec) -> None:
    if each.class_name is None:
        assert described.distance and summary.distance_counts
        of, counts = described.distance, summary.distance_counts
    else:
        of, counts = described.probabilities[each.class_name], summary.probability_counts[each.class_name]
    _draw_cumulative(axes, of, of.counts, _VALIDATION, "validation images")
    _draw_cumulative(axes, of, counts, _SCORED, "these images")
    found = "drift" if each.drift else "no drift"
    axes.set(title=f"{_title(each)}: {found}", ylabel="Cumulative share", ylim=(-0.02, 1.02))


def _draw_cumulative(axes: Axes, of: HistogramSpec, counts: Sequence[int], colour: str, label: str) -> None:
    shares = np.cumsum(counts)[:-1] / sum(counts)
    axes.step(of.edges, shares, where="post", color=colour, linewidth=1.6, label=label)


def _draw_groups(axes: Axes, groups: Sequence[Comparison], summary: Summary) -> None:
    places = np.arange(len(groups))
    colours = [_SCORED if each.drift else drawing.MUTED for each in groups]
    axes.vlines(places, 0, [each.index for each in groups], colors=colours, linewidth=1.2)
    axes.scatter(places, [each.index for each in groups], c=colours, s=14, zorder=3)
    axes.step(
        places, [each.index_by_chance for each in groups], where="mid", color=_VALIDATION, linewidth=1,
        label="by chance up to",
    )  # fmt: skip
    axes.set(title=f"By {summary.grouped_by}: those with drift are orange", ylabel="Stability index")
    # Above the highest there is room for the legend.
    axes.set_ylim(0, 1.3 * max(max(each.index, each.index_by_chance) for each in groups) if groups else 1)
    step = max(1, -(-len(groups) // _MOST_TICKS))
    names = [(each.group or ".")[-_MOST_NAME:] for each in groups[::step]]
    axes.set_xticks(places[::step], names, rotation=45, ha="right")
    axes.legend(frameon=False, loc="upper right")
