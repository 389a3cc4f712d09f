"""The table and the figure of docs/report-reproduction.md, from the outcomes that lie in the repository.

``make report-reproduction`` trains what is missing there and then runs this module, in the repository's root.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pneumo_edge._util import extras, files
from pneumo_edge.backbones import backbone_title
from pneumo_edge.errors import PneumoEdgeError, TrainingError
from pneumo_edge.training.report_recipes import PUBLISHED, REPRODUCTIONS, Correction, Published
from pneumo_edge.training.reproduction import RECORD_NAME, ReportEpoch, Result, load, read_history
from tools import pages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESULTS = Path("results/report-reproduction")
PAGE = Path("docs/report-reproduction.md")
FIGURE = Path("docs/images/report-reproduction.png")

_TARGET = "report-reproduction"
_COLUMNS = (
    "run",
    "",
    "images x epochs",
    "training accuracy",
    "validation accuracy, epoch by epoch",
    "called pneumonia",
    "AUC",
    "largest validation loss",
    "training mode / inference mode",
    "statistics estimated again",
)
_LABELS: dict[Correction, str] = {
    "none": "reproduced",
    "scaling": "scaling put right",
    "batch-norm": "batch norm frozen",
    "both": "both",
}
#: Black and three colours of Okabe and Ito's palette, each with a marker of its own.
_STYLES: dict[Correction, tuple[str, str]] = {
    "none": ("#000000", "o"),
    "scaling": ("#D55E00", "s"),
    "batch-norm": ("#0072B2", "^"),
    "both": ("#009E73", "D"),
}
#: Shares of the two classes in the 608 images; a model with one answer for all of them has one of these.
_ONE_ANSWER = (374 / 608, 234 / 608)
#: More epochs than this are told as a range.
_LISTED = 5


@dataclass(frozen=True)
class Outcome:
    """A finished reproduction and its history."""

    result: Result
    rows: tuple[ReportEpoch, ...]


def find(folder: Path) -> dict[str, Outcome]:
    """Read the outcomes in a folder, one folder for each, by the names of their recipes.

    Raises:
        TrainingError: One cannot be read, was made with a recipe that has changed since, or with phantom images.
    """
    outcomes = {}
    for name, recipe in REPRODUCTIONS.items():
        place = folder / name
        if not (place / RECORD_NAME).exists():
            continue
        result = load(place)
        if result.recipe != recipe:
            raise TrainingError(
                f"{place} was made with another recipe of that name", "the recipe as it stands", f"Remove {place}"
            )
        if not result.real:
            raise TrainingError(f"{place} was made with phantom images", "X-rays", f"Remove {place}")
        outcomes[name] = Outcome(result, read_history(place))
    return outcomes


def table(outcomes: Mapping[str, Outcome]) -> str:
    """A Markdown table of what was published, reproduced and put right, and a line on how."""
    lines = [_line(_COLUMNS), "|" + " --- |" * len(_COLUMNS)]
    for recipe in REPRODUCTIONS.values():
        if recipe.correction == "none":
            lines.append(_published_line(PUBLISHED[recipe.report_run]))
        outcome = outcomes.get(recipe.name)
        cells = _measured(outcome) if outcome else ("not run",)
        lines.append(_line(("", _LABELS[recipe.correction], *cells)))
    if outcomes:
        lines += ["", _how([outcome.result for outcome in outcomes.values()])]
    return "\n".join(lines) + "\n"


def draw(outcomes: Mapping[str, Outcome], path: Path) -> None:
    """Draw validation accuracy by epoch: for each run of the report what it says, and what was found.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    extras.need("matplotlib", "train")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.4), layout="constrained", dpi=150)
    *panels, key = figure.subplots(2, 3, sharey=True).flat
    for axes, (name, published) in zip(panels, PUBLISHED.items(), strict=True):
        _draw_published(axes, published)
        for recipe in REPRODUCTIONS.values():
            if recipe.report_run == name and recipe.name in outcomes:
                _draw_outcome(axes, recipe.correction, outcomes[recipe.name].rows)
        axes.set_title(f"{published.name} ({backbone_title(REPRODUCTIONS[name].backbone)})", fontsize=10)
        axes.set(xlabel="epoch", ylim=(0.3, 1))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in (panels[0], panels[3]):
        axes.set_ylabel("validation accuracy")
    key.set_axis_off()
    entries: dict[str, object] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    key.legend(list(entries.values()), list(entries), loc="center", frameon=False)
    with files.atomic(path) as temporary:
        figure.savefig(temporary)


def _draw_published(axes: Axes, published: Published) -> None:
    for share in _ONE_ANSWER:
        line = axes.axhline(share, color="0.6", linestyle=":", linewidth=1)
    line.set_label("one answer to every image")
    if published.highest > published.lowest:
        axes.axhspan(published.lowest, published.highest, color="0.88", zorder=0, label="range as published")
    else:
        axes.axhline(published.highest, color="0.8", linewidth=5, zorder=0, label="as published")
    if published.last is not None:
        axes.axhline(published.last, color="0.5", linestyle="--", linewidth=1, label="last epoch as published")


def _draw_outcome(axes: Axes, correction: Correction, rows: tuple[ReportEpoch, ...]) -> None:
    colour, marker = _STYLES[correction]
    accuracies = [row.val_accuracy for row in rows]
    epochs = range(1, len(rows) + 1)
    axes.plot(epochs, accuracies, color=colour, marker=marker, markersize=5, alpha=0.85, label=_LABELS[correction])
    for before, after, epoch in zip(rows, rows[1:], epochs, strict=False):
        if before.phase != after.phase:
            axes.axvline(epoch + 0.5, color="0.8", linewidth=1)


def _published_line(published: Published) -> str:
    told = (published.accuracy, published.val_accuracy, "", "", published.loss, "")
    return _line((f"`{published.name}`", "as published", f"5,216 x {published.epochs or '?'}", *told))


def _measured(outcome: Outcome) -> tuple[str, ...]:
    result, rows = outcome.result, outcome.rows
    modes, again = result.modes, result.reestimated
    return (
        f"{sum(result.train_images.values()):,} x {result.epochs}",
        f"{rows[-1].accuracy:.3f}",
        _by_epoch([row.val_accuracy for row in rows]),
        f"{rows[-1].called_pneumonia:.0%}",
        "none" if math.isnan(rows[-1].val_auc) else f"{rows[-1].val_auc:.3f}",
        f"{max(row.val_loss for row in rows):.3g}",
        f"{modes.training.accuracy:.3f} / {modes.inference.accuracy:.3f}",
        f"{again.accuracy:.4f}" if again else "",
    )


def _by_epoch(accuracies: list[float]) -> str:
    if len(accuracies) <= _LISTED:
        return ", ".join(f"{value:.4f}" for value in accuracies)
    return f"{min(accuracies):.4f} to {max(accuracies):.4f}, {accuracies[-1]:.4f} at the end"


def _how(results: list[Result]) -> str:
    names = ("keras", "tensorflow")
    versions = (", ".join(f"{name} {result.versions[name]}" for name in names) for result in results)
    validation = (f"{sum(r.validation_images.values())} of the {r.test_images} test images" for r in results)
    return (
        f"Seed: {_distinct(str(result.seed) for result in results)}. "
        f"Validation: {_distinct(validation)}. "
        f"Initial weights: {_distinct(result.initial_weights for result in results)}. "
        f"Made with {_distinct(versions)}. "
        f"Data fingerprint: {_distinct(result.fingerprint[:16] for result in results)}."
    )


def _distinct(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))


def _line(cells: Iterable[str]) -> str:
    filled = list(cells)
    filled += [""] * (len(_COLUMNS) - len(filled))
    return "| " + " | ".join(filled) + " |"


def main() -> None:
    """Redraw table and figure, or name the recipes that have no outcome yet."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--missing", action="store_true", help="only print the recipes that have no outcome yet")
    missing_only = parser.parse_args().missing
    try:
        outcomes = find(RESULTS)
        if missing_only:
            print("\n".join(name for name in REPRODUCTIONS if name not in outcomes))
            return
        draw(outcomes, FIGURE)
        pages.put_table(PAGE, _TARGET, table(outcomes))
    except PneumoEdgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
