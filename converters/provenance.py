"""Checks that the files of a run are unchanged since training, so that its record is about this network."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from pneumo_edge import runs
from pneumo_edge._util import files
from pneumo_edge.converters.reference import Reference
from pneumo_edge.data.splits import Manifest
from pneumo_edge.errors import ConversionError, DataError
from pneumo_edge.evaluation.metrics import Labels, Scores
from pneumo_edge.evaluation.operating_point import ThresholdRule, choose_threshold
from pneumo_edge.runs import Run

#: Tolerance for probabilities, because another processor or TensorFlow rounds differently.
_DIFFERENCE = 1e-3
#: Tolerance for numbers that are computed from the written probabilities.
_ROUNDING = 1e-4
_AS_LEFT = "Copy the whole folder of the run again, or train again"


@dataclass(frozen=True)
class Validation:
    """``validation.csv``: target and score of each validation image, and the image's SHA-256.

    See :meth:`pneumo_edge.task.Task.targets` and :meth:`~pneumo_edge.task.Task.scores`. ``changed`` has the scores of
    counterfactual validation by the name of their column, where there are two classes and training made any.
    """

    sha256: tuple[str, ...]
    labels: Labels
    scores: Scores
    changed: Mapping[str, Scores] = field(default_factory=dict)


def check(folder: Path, run: Run) -> Validation:
    """Check the files of a run against its record.

    Args:
        folder: The run's folder.
        run: Its record.

    Returns:
        The validation results that training wrote, for :func:`check_scores`.

    Raises:
        ConversionError: A file is missing or differs from the record; or the record's threshold or metrics do not
            follow from the probabilities.
    """
    model = folder / runs.MODEL_NAME
    try:
        found = files.sha256(model)
    except OSError as error:
        raise ConversionError(f"{model} cannot be read ({error.strerror})", "the trained network", _AS_LEFT) from error
    if run.model_sha256 is not None and found != run.model_sha256:
        _refuse(
            f"{model} has the SHA-256 {found[:16]}", f"{run.model_sha256[:16]}, that of the network that was trained"
        )
    validation = _read(folder, run)
    path = folder / runs.VALIDATION_NAME
    try:
        threshold = choose_threshold(ThresholdRule(run.decision.rule), validation.labels, validation.scores)
    except ValueError as error:
        _refuse(f"{folder} has no threshold that can be repeated ({error})", "a rule, and images of both classes")
    if threshold is not None and abs(threshold - (run.decision.threshold or 0.0)) > _ROUNDING:
        _refuse(
            f"{folder / runs.RECORD_NAME} has the threshold {run.decision.threshold:.6g}",
            f"{threshold:.6g}, which its rule gives of {path.name}",
        )
    measured = runs.validation_metrics(validation.labels, validation.scores, run.decision.threshold)
    for name in measured.keys() & run.training.validation.keys():
        if abs(measured[name] - run.training.validation[name]) > _ROUNDING:
            _refuse(
                f"{folder / runs.RECORD_NAME} has the validation {name} {run.training.validation[name]:.6g}",
                f"{measured[name]:.6g}, which follows from {path.name}",
            )
    return validation


def check_scores(folder: Path, validation: Validation, reference: Reference) -> None:
    """Compare the network's answers on the validation images with those that training wrote.

    Raises:
        ConversionError: They differ, so the network or the file is a different one.
    """
    written = dict(zip(validation.sha256, validation.scores, strict=True))
    differences = [
        float(np.max(np.abs(written.get(digest, np.inf) - score)))
        for digest, score in zip(reference.sha256.tolist(), reference.scores, strict=True)
    ]
    if max(differences) > _DIFFERENCE:
        _refuse(
            f"{folder / runs.MODEL_NAME} gives probabilities of validation images that differ by up to "
            f"{max(differences):.3g} from {runs.VALIDATION_NAME}",
            f"at most {_DIFFERENCE:g}, as of the network that was trained",
        )


def _read(folder: Path, run: Run) -> Validation:
    path = folder / runs.VALIDATION_NAME
    images, columns = _images(folder, run), runs.score_columns("probability", run.task)
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
            table = csv.DictReader(stream)
            kinds = [each for each in table.fieldnames or () if each.startswith(runs.COUNTERFACTUAL)]
            columns += tuple(kinds if run.task.positive_class else ())
            rows = {row["name"]: (int(row["label"]), [float(row[column]) for column in columns]) for row in table}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ConversionError(
            f"{path} cannot be read ({error})", "what training wrote of the validation images", _AS_LEFT
        ) from error
    if {name: label for name, (label, _) in rows.items()} != {name: label for name, (_, label) in images.items()}:
        _refuse(f"{path} has other images or labels than {runs.MANIFEST_NAME}", "its validation images")
    scores = np.array([score for _, score in rows.values()])
    if not ((scores >= 0) & (scores <= 1)).all():
        _refuse(f"{path} has numbers that are no probabilities", "0 to 1")
    return Validation(
        tuple(images[name][0] for name in rows),
        run.task.targets(np.array([label for label, _ in rows.values()])),
        scores if run.task.positive_class is None else scores[:, 0],
        {column: scores[:, place] for place, column in enumerate(columns) if column in kinds},
    )


def _images(folder: Path, run: Run) -> Mapping[str, tuple[str, int]]:
    """SHA-256 and label of each validation image by name."""
    path = folder / runs.MANIFEST_NAME
    try:
        manifest = Manifest.load(path)
    except DataError as error:
        raise ConversionError(error.given, "the split of the training run", _AS_LEFT) from error
    if manifest.fingerprint != run.data.fingerprint or not manifest.is_whole:
        _refuse(
            f"{path} is not the split that the run was trained with", f"the fingerprint {run.data.fingerprint[:12]}"
        )
    return {entry.name: (entry.sha256, entry.label) for entry in manifest.entries if entry.split == "val"}


def _refuse(given: str, expected: str) -> NoReturn:
    raise ConversionError(given, expected, _AS_LEFT)
