"""The model files, and what was not measured."""

from __future__ import annotations

from pneumo_edge._util.document import Cell, Paragraph, Points, Section, Table, count
from pneumo_edge.benchmarks.report import cells
from pneumo_edge.benchmarks.report.runs import Runs


def section(runs: Runs) -> Section:
    """What each file says of itself."""
    return Section(
        "Model files",
        (
            Paragraph("What each file says of itself. The SHA-256 is cut here, and whole in the raw results."),
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
                        Cell(model.trained_on),
                        Cell(model.recipe),
                        Cell(model.initial_weights),
                        Cell("argmax") if model.threshold is None else cells.number(model.threshold, 3),
                        cells.number(model.size_bytes, 0),
                    )
                    for run in runs
                    for model in run.summary.results.models
                ),
            ),
        ),
    )


def left_out(runs: Runs) -> Section | None:
    """Files, engines and images that were not measured, with the reasons."""
    skipped, images = [], []
    for run in runs:
        where = f"Run {run.letter}. " if run.letter else ""
        results = run.summary.results
        skipped += [
            f"{where}{skip.model}{f' on {skip.engine}' * bool(skip.engine)}: {skip.reason}" for skip in results.skipped
        ]
        images += [f"{where}{name}: {reason}" for name, reason in results.test_set.left_out.items()]
    if not skipped and not images:
        return None
    return Section(
        "Not measured",
        (
            Paragraph(
                f"{count(len(skipped), 'unit')} and {count(len(images), 'test image')} were left out, for these "
                "reasons."
            ),
            Points((*skipped, *images)),
        ),
    )
