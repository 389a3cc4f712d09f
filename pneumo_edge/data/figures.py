"""Draws an audit as a figure: the class counts of each split, and sample images."""

from __future__ import annotations

import hashlib
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pneumo_edge._util import drawing, extras, files
from pneumo_edge.data.audit import Audit
from pneumo_edge.data.places import GRID
from pneumo_edge.data.sources import SPLITS, Source
from pneumo_edge.errors import printable
from pneumo_edge.imaging import images

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

#: Okabe and Ito's palette, which people with any colour vision can tell apart; blue and orange first.
CLASS_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
#: Endings of the file names that a figure can have.
FORMATS = (".png", ".svg", ".pdf")
PHANTOM_WARNING = "PHANTOM: procedural images, not real X-rays"

_SAMPLES = 6
#: Images of a mark in its contact sheet.
_MARKED = 8
#: The most characters of a class name in the figure.
_MOST_CHARACTERS = 40


def draw_audit(audit: Audit, source: Source, path: Path) -> None:
    """Draw the class counts of each split and some images of each class.

    Args:
        audit: The findings on ``source``.
        source: The data set that the images are read from.
        path: The file to write; its ending, one of :data:`FORMATS`, sets the format.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    extras.need("matplotlib", "data")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, max(4.8, 1.2 * len(source.task.class_names))), layout="constrained", dpi=150)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 2.7))[0]
    counts = audit.training_split.counts if audit.training_split else audit.counts
    title = "as training uses them" if audit.training_split else "as found"
    shown: dict[str, dict[str, int]] = {split: counts[split] for split in SPLITS if split in counts}
    _draw_counts(left.subplots(), source.task.class_names, shown, title)
    _draw_samples(right, audit, source)
    figure.suptitle(audit.source, fontsize=13, fontweight="bold")
    if not audit.real:
        figure.suptitle(PHANTOM_WARNING, fontsize=13, fontweight="bold", color="#B00020")
    with files.atomic(path) as temporary:
        drawing.save(figure, temporary)


def draw_marks(audit: Audit, source: Source, path: Path) -> None:
    """Draw, for each burned-in mark, some of the images that have it, with a frame around its usual place.

    Args:
        audit: The findings on ``source``, with at least one mark.
        source: The data set that the images are read from.
        path: The file to write; its ending, one of :data:`FORMATS`, sets the format.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    extras.need("matplotlib", "data")
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    marks = audit.marks or ()
    samples = {sample.name: sample for sample in source.samples}
    figure = Figure(figsize=(13, 0.5 + 2.2 * len(marks)), layout="constrained", dpi=150)
    for row, mark in zip(figure.subplots(len(marks), _MARKED, squeeze=False), marks, strict=True):
        for axes in row:
            axes.set_axis_off()
        for axes, name in zip(row, mark.names, strict=False):
            grey = images.decode(source.read(samples[name]))
            axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
            place = (mark.left * grey.width, mark.top * grey.height)
            size = (mark.width * grey.width, mark.height * grey.height)
            axes.add_patch(Rectangle(place, *size, fill=False, edgecolor=CLASS_COLOURS[1], linewidth=1))
        found = sum(sum(of_split.values()) for of_split in mark.counts.values())
        row[0].set_title(f"{_short(mark.class_name)}, {found:,} images", loc="left", fontsize=10)
    figure.suptitle(f"Burned-in marks of {printable(audit.source)}", fontsize=13, fontweight="bold")
    with files.atomic(path) as temporary:
        drawing.save(figure, temporary)


def draw_places(audit: Audit, path: Path) -> None:
    """Draw how far each place of the training images alone tells the classes.

    Args:
        audit: The findings, with places.
        path: The file to write; its ending, one of :data:`FORMATS`, sets the format.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    extras.need("matplotlib", "data")
    from matplotlib.figure import Figure

    found = audit.places or ()
    cells = found[-(GRID**2) :]
    figure = Figure(figsize=(6.4, 6.2), layout="constrained", dpi=150)
    axes = figure.subplots()
    values = np.array([place.auc.value for place in cells]).reshape(GRID, GRID)
    picture = axes.imshow(values, cmap="viridis", vmin=0.5, vmax=1.0)
    for (row, column), value in np.ndenumerate(values):
        colour = "black" if value > 0.8 else "white"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(GRID), [str(column + 1) for column in range(GRID)])
    axes.set_yticks(range(GRID), [str(row + 1) for row in range(GRID)])
    axes.set_xlabel("column, from the left of the image")
    axes.set_ylabel("row, from the top")
    whole = ", ".join(f"{place.name} {place.auc}" for place in found[: -(GRID**2)])
    axes.set_title(f"AUC of a linear probe on each place alone\n{whole}", fontsize=10)
    figure.colorbar(picture, ax=axes, shrink=0.8, label="AUC, training images, cross-validation by patient")
    figure.suptitle(printable(audit.source) if audit.real else PHANTOM_WARNING, fontsize=12, fontweight="bold")
    with files.atomic(path) as temporary:
        drawing.save(figure, temporary)


def _draw_counts(axes: Axes, class_names: tuple[str, ...], counts: dict[str, dict[str, int]], title: str) -> None:
    width = 0.8 / len(class_names)
    groups = []
    for label, (class_name, colour) in enumerate(zip(class_names, cycle(CLASS_COLOURS), strict=False)):
        places = [position + width * (label - (len(class_names) - 1) / 2) for position in range(len(counts))]
        bars = axes.bar(places, [of_split[class_name] for of_split in counts.values()], 0.95 * width, color=colour)
        axes.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=9)
        groups.append(bars)
    axes.set_xticks(range(len(counts)), list(counts))
    axes.set_ylabel("images")
    axes.set_title(f"Images by split and class, {title}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.1)
    axes.legend(groups, [_short(name) for name in class_names], frameon=False)


def _draw_samples(figure: SubFigure, audit: Audit, source: Source) -> None:
    class_names = source.task.class_names
    grid = figure.subplots(len(class_names), _SAMPLES)
    for label, (row, class_name, colour) in enumerate(zip(grid, class_names, cycle(CLASS_COLOURS), strict=False)):
        usable = [s for s in source.samples if s.label == label and s.name not in audit.unreadable]
        # Ordered by a hash, so that the same images are always drawn, and not all of them are of the first patient.
        usable.sort(key=lambda sample: hashlib.sha256(sample.name.encode()).digest())
        for axes in row:
            axes.set_axis_off()
        for axes, sample in zip(row, usable, strict=False):
            axes.imshow(images.decode(source.read(sample)), cmap="gray", vmin=0, vmax=255)
        row[0].set_title(_short(class_name), loc="left", fontsize=11, fontweight="bold", color=colour)


def _short(class_name: str) -> str:
    shown = printable(class_name)
    return shown if len(shown) <= _MOST_CHARACTERS else f"{shown[: _MOST_CHARACTERS - 1]}\N{HORIZONTAL ELLIPSIS}"
