"""The table of training runs in docs/training-results.md, from their records in ``results/training``.

``make training-table`` runs this module in the repository's root. A run is kept there by copying its
``settings.json``, ``history.csv`` and ``validation.csv``; every number follows from these.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from pneumo_edge._util import records
from pneumo_edge.data.run_records import read_validation
from pneumo_edge.errors import PneumoEdgeError, TrainingError
from pneumo_edge.evaluation.metrics import auc_interval, confusion
from pneumo_edge.evaluation.operating_point import choose_threshold, log_loss
from pneumo_edge.runs import VALIDATION_NAME
from pneumo_edge.training.counterfactuals import counterfactual_metrics
from pneumo_edge.training.curves import CSV_NAME
from pneumo_edge.training.fit import TrainingSettings, shift_metrics
from pneumo_edge.training.settings import SETTINGS_NAME
from tools import pages

RESULTS = Path("results/training")
PAGE = Path("docs/training-results.md")

_COLUMNS = (
    "run",
    "backbone",
    "seed",
    "epochs, head + whole",
    "minutes",
    "AUC",
    "log loss",
    "threshold",
    "sensitivity",
    "specificity",
    "AUC, shifted",
    "accuracy, shifted",
    "AUC, counterfactual",
)


def table(folder: Path) -> str:
    """A Markdown table of the runs in a folder, all numbers from validation.

    Raises:
        TrainingError: A run's records are missing or not valid.
    """
    runs = sorted(path.parent for path in folder.glob(f"*/{SETTINGS_NAME}"))
    return pages.rows([_COLUMNS, tuple("---" for _ in _COLUMNS), *(_row(run) for run in runs)])


def _row(run: Path) -> tuple[str, ...]:
    try:
        settings = records.loads(TrainingSettings, (run / SETTINGS_NAME).read_bytes())
        with (run / CSV_NAME).open(newline="") as stream:
            history = list(csv.DictReader(stream))
        heads = sum(epoch["phase"] == "head" for epoch in history)
        minutes = sum(float(epoch["seconds"]) for epoch in history) / 60
        labels, columns = read_validation(run / VALIDATION_NAME)
    except (OSError, KeyError, ValueError) as error:
        raise TrainingError(
            f"{run} cannot be read ({error})",
            f"{SETTINGS_NAME}, {CSV_NAME} and {VALIDATION_NAME} of a finished run",
            "Copy them there again, or remove that folder",
        ) from error
    scores = columns["probability"]
    threshold = choose_threshold(settings.details.threshold_rule, labels, scores)
    assert threshold is not None
    counts = confusion(labels, scores >= threshold)
    shifted = shift_metrics(labels, columns, threshold)
    counterfactual = counterfactual_metrics(labels, columns, threshold)
    return (
        run.name,
        settings.backbone,
        str(settings.seed),
        f"{heads} + {len(history) - heads}",
        f"{minutes:.0f}",
        str(auc_interval(labels, scores)),
        f"{log_loss(labels, scores):.3f}",
        f"{threshold:.3f}",
        f"{counts.sensitivity.value:.3f}",
        f"{counts.specificity.value:.3f}",
        f"{shifted['shifted_auc']:.4f}" if shifted else "",
        f"{shifted['shifted_accuracy']:.3f}" if shifted else "",
        f"{counterfactual['counterfactual_auc']:.4f}" if counterfactual else "",
    )


def main() -> None:
    """Put the table into its page."""
    try:
        pages.put_table(PAGE, "training-table", table(RESULTS))
    except PneumoEdgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
