"""What a run records of its data, whether it was trained here or elsewhere."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pneumo_edge import runs
from pneumo_edge._util import files, tabular
from pneumo_edge.data.splits import Manifest
from pneumo_edge.data.tensors import Dataset
from pneumo_edge.evaluation.metrics import Labels, Scores
from pneumo_edge.spec import DataSpec


def data_spec(manifest: Manifest) -> DataSpec:
    """Describe the data of a manifest, as every model file does."""
    return DataSpec(
        manifest.source,
        manifest.real,
        manifest.fingerprint,
        manifest.counts,
        manifest.licence,
        manifest.patient_pattern,
        manifest.options,
        manifest.used_images,
    )


def save_validation(dataset: Dataset, indices: npt.NDArray[np.intp], columns: dict[str, Scores], path: Path) -> None:
    """Write name, label and probabilities of each validation image. Temperature and threshold are computed from them.

    Args:
        dataset: The data set of the run.
        indices: Indices of the images.
        columns: Scores by the name of their column, or columns (:func:`pneumo_edge.runs.score_columns`): float64 of
            shape (images,), or (images, classes), 0 to 1.
        path: The CSV file to write.

    Raises:
        OSError: The file cannot be written.
    """
    task = dataset.manifest.task
    names = [each for name in columns for each in runs.score_columns(name, task)]
    lines = [tabular.row(["name", "label", *names], end="\r\n")]
    for row, entry in enumerate(dataset.entries(indices)):
        numbers = (f"{score:.9g}" for scores in columns.values() for score in np.atleast_1d(scores[row]))
        lines.append(tabular.row([entry.name, entry.label, *numbers], end="\r\n"))
    with files.atomic(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8", newline="")


def read_validation(path: Path) -> tuple[Labels, dict[str, Scores]]:
    """Read what :func:`save_validation` wrote.

    Returns:
        The label of each image, int64 of shape (images,), and the columns of scores by name, each of that shape.

    Raises:
        OSError: The file cannot be read.
        ValueError: It has no rows, or a cell is no number.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, restval=""))
    if not rows:
        raise ValueError("it has no rows")
    names = [name for name in rows[0] if name not in ("name", "label")]
    labels = np.array([int(row["label"]) for row in rows], dtype=np.int64)
    return labels, {name: np.array([float(row[name]) for row in rows]) for name in names}
