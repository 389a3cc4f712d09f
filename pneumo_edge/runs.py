"""A finished training run: what training leaves behind and the converters take up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pneumo_edge import files, records
from pneumo_edge.errors import ConversionError
from pneumo_edge.spec import DataSpec, DecisionSpec, TrainingSpec

RECORD_NAME = "run.json"
MODEL_NAME = "model.keras"
MANIFEST_NAME = "split.json"


@dataclass(frozen=True)
class Run:
    """The record of a finished run; it becomes the ModelSpec of every file that is exported from it.

    ``data_path`` is where the data lay when it was trained on; it does not go into the ModelSpec.
    """

    backbone: str
    class_names: tuple[str, ...]
    height: int
    width: int
    decision: DecisionSpec
    temperature: float
    data: DataSpec
    training: TrainingSpec
    versions: dict[str, str]
    notice: str
    data_path: str

    def save(self, folder: Path) -> None:
        """Write the record; a folder that has one is a finished run."""
        files.write_text(folder / RECORD_NAME, records.dumps(self))


def load(folder: Path) -> Run:
    """Read the record of a finished run.

    Raises:
        ConversionError: The folder holds no finished run, or its record is not valid.
    """
    try:
        return records.loads(Run, (folder / RECORD_NAME).read_bytes())
    except FileNotFoundError as error:
        raise ConversionError(
            f"{folder} holds no finished training run",
            f"a folder with {RECORD_NAME} and {MODEL_NAME}",
            "Make one, or finish it, with: pneumo-edge train",
        ) from error
    except (OSError, records.RecordError) as error:
        raise ConversionError(
            f"{folder / RECORD_NAME} cannot be read ({error})", "the record of a training run", "Train again"
        ) from error
