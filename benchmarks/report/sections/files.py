"""The model files, and everything that was not measured."""

from __future__ import annotations

from pneumo_edge._util.document import Cell, Paragraph, Points, Section, Table, count
from pneumo_edge.benchmarks.report import cells
from pneumo_edge.benchmarks.report.runs import Runs
from pneumo_edge.scoring.cells import trained_on
from pneumo_edge.scoring.models import Model


def section(runs: Runs) -> Section:
    """The ModelSpec of each file in brief."""
    return Section(
        "Model files",
        (
            Paragraph("From the ModelSpec in each file. The raw results have the full SHA-256."),
            Table(
                (
                    "File",
                    *cells.run_columns(runs),
                    "SHA-256",
                    "Trained on",
                    "Recipe",
                    "Initial weights",
                    "Threshold",
                    "Bytes",
                ),
                5 + (len(runs) > 1),
                tuple(
                    (
                        Cell(model.file),
                        *cells.letter(run),
                        Cell(model.sha256[:12]),
                        trained_on(model),
                        Cell(model.recipe),
                        Cell(model.initial_weights),
                        _threshold(model),
                        cells.number(model.size_bytes, 0),
                    )
                    for run in runs
                    for model in run.summary.results.models
                ),
            ),
        ),
    )


def _threshold(model: Model) -> Cell:
    if model.threshold is not None:
        return cells.number(model.threshold, 3)
    return Cell("argmax" if model.has_spec else "")


def left_out(runs: Runs) -> Section | None:
    """Files, engines and images that were left out, with the reasons."""
    skipped, images = [], []
    for run in runs:
        where = f"Run {run.letter}. " if run.letter else ""
        results = run.summary.results
        skipped += [
            f"{where}{skip.model}{f' on {skip.engine}' * bool(skip.engine)}: {skip.reason}" for skip in results.skipped
        ]
        images += [
            f"{where}{name}: {reason}"
            for name, reason in (results.test_set.left_out if results.test_set else {}).items()
        ]
    if not skipped and not images:
        return None
    return Section(
        "Not measured",
        (
            Paragraph(
                f"{count(len(skipped), 'unit')} and {count(len(images), 'test image')} were left out for these reasons."
            ),
            Points((*skipped, *images)),
        ),
    )
