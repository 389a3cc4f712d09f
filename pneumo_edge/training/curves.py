"""Writes the history of a run as a CSV file and as a figure."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from pneumo_edge._util import extras, files
from pneumo_edge.training.phases import Epoch

CSV_NAME = "history.csv"
FIGURE_NAME = "curves.png"


def save(rows: Sequence[Epoch], folder: Path) -> None:
    """Write ``history.csv`` (one row per epoch) and ``curves.png`` (losses, and AUC on validation)."""
    with files.atomic(folder / CSV_NAME) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in dataclasses.fields(Epoch)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(row) for row in rows)
    _plot(rows, folder / FIGURE_NAME)


def _plot(rows: Sequence[Epoch], path: Path) -> None:
    extras.need("matplotlib", "train")
    from matplotlib.figure import Figure

    epochs = range(1, len(rows) + 1)
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    loss, area = figure.subplots(1, 2)
    loss.plot(epochs, [row.loss for row in rows], label="training (class-weighted)")
    loss.plot(epochs, [row.val_loss for row in rows], label="validation")
    loss.set(xlabel="epoch", ylabel="cross-entropy, nats", ylim=(0, None))
    loss.legend()
    area.plot(epochs, [row.val_auc for row in rows], color="C1", label="validation")
    area.set(xlabel="epoch", ylabel="AUC")
    area.legend(loc="lower right")
    for axes in (loss, area):
        axes.grid(alpha=0.3)
        for index in range(1, len(rows)):
            if rows[index].phase != rows[index - 1].phase:
                axes.axvline(index + 0.5, color="0.5", linestyle="--", linewidth=1)
    with files.atomic(path) as temporary:
        figure.savefig(temporary, dpi=150)
