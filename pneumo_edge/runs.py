"""A finished training run: what training leaves behind and the converters take up."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pneumo_edge._util import files, records
from pneumo_edge._util.records import Within
from pneumo_edge.errors import ConversionError
from pneumo_edge.evaluation.metrics import Confusion, Labels, Scores, auc, class_aucs, tabulate
from pneumo_edge.evaluation.operating_point import log_loss
from pneumo_edge.spec import MAX_SIDE, MAX_TEMPERATURE, DataSpec, DecisionSpec, TrainingSpec
from pneumo_edge.task import Task

RECORD_NAME = "run.json"
MODEL_NAME = "model.keras"
MANIFEST_NAME = "split.json"
VALIDATION_NAME = "validation.csv"
#: What the names of columns and metrics of counterfactual validation begin with.
COUNTERFACTUAL = "counterfactual_"
#: What is not part of the record's own hash: the hash, and what changes when the data is moved.
_UNHASHED = frozenset({"record_sha256", "data_path", "data_paths"})


@dataclass(frozen=True)
class Run:
    """The record of a finished run; it becomes the ModelSpec of every file that is exported from it.

    ``data_path`` is where the data lay when it was trained on, and ``data_paths`` where a table of labels and separate
    test images lay; they do not go into the ModelSpec. ``model_sha256`` is
    the SHA-256 of the Keras file, and ``record_sha256`` that of the rest of this record, which :meth:`save` finds. Runs
    from before there were such have None.
    """

    backbone: str
    class_names: tuple[str, ...]
    height: Annotated[int, Within(1, MAX_SIDE)]
    width: Annotated[int, Within(1, MAX_SIDE)]
    decision: DecisionSpec
    temperature: Annotated[float, Within(above=0, high=MAX_TEMPERATURE)]
    data: DataSpec
    training: TrainingSpec
    versions: dict[str, str]
    notice: str
    data_path: str
    model_sha256: str | None = None
    record_sha256: str | None = None
    data_paths: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.task  # noqa: B018 - raises ValueError

    @property
    def task(self) -> Task:
        """What the network was asked in training."""
        return Task.of(self.class_names, self.decision.positive_class)

    def save(self, folder: Path) -> None:
        """Write the record; a folder that has one is a finished run."""
        document = json.loads(records.dumps(self))
        files.write_text(folder / RECORD_NAME, records.dumps(replace(self, record_sha256=_sha256(document))))


def load(folder: Path) -> Run:
    """Read the record of a finished run.

    Raises:
        ConversionError: The folder holds no finished run, or its record is not valid or was changed.
    """
    try:
        text = (folder / RECORD_NAME).read_bytes()
        run = records.loads(Run, text)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConversionError(
            f"{folder} holds no finished training run",
            f"a folder with {RECORD_NAME} and {MODEL_NAME}",
            "Make one, or finish it, with: pneumo-edge train",
        ) from error
    except (OSError, records.RecordError) as error:
        raise ConversionError(
            f"{folder / RECORD_NAME} cannot be read ({error})", "the record of a training run", "Train again"
        ) from error
    if run.record_sha256 is not None and _sha256(json.loads(text)) != run.record_sha256:
        raise ConversionError(
            f"{folder / RECORD_NAME} was changed after it was written",
            "the record as training left it",
            "Put back what it said, or train again",
        )
    return run


def validation_metrics(labels: Labels, scores: Scores, threshold: float | None) -> dict[str, float]:
    """What the record holds of the validation images.

    Args:
        labels: :meth:`pneumo_edge.task.Task.targets` of the images, shape (images,).
        scores: :meth:`pneumo_edge.task.Task.scores` of them.
        threshold: The decision threshold, None for argmax.
    """
    counts = tabulate(labels, scores, threshold)
    if isinstance(counts, Confusion):
        return {
            "auc": auc(labels, scores),
            "accuracy": counts.accuracy.value,
            "sensitivity": counts.sensitivity.value,
            "specificity": counts.specificity.value,
            "log_loss": log_loss(labels, scores),
        }
    return {
        "auc": auc(labels, scores),
        "least_auc": float(class_aucs(labels, scores).min()),
        "accuracy": counts.accuracy.value,
        "balanced_accuracy": counts.balanced_accuracy,
        "log_loss": log_loss(labels, scores),
    }


def score_columns(name: str, task: Task) -> tuple[str, ...]:
    """The columns of ``validation.csv`` that hold scores: one for the positive class, or one for each class.

    Class names do not stand in them: they may be any text.
    """
    if task.positive_class is not None:
        return (name,)
    return tuple(f"{name}_{place}" for place in range(len(task.class_names)))


def _sha256(document: dict[str, Any]) -> str:
    """Of the text's values and not of its fields in code, so that a record of another version has the same."""
    kept = {name: value for name, value in document.items() if name not in _UNHASHED}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
