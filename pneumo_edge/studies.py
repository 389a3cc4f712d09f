"""A study: several networks, each trained with several seeds on the same images. Its folder has a table of its runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pneumo_edge import runs
from pneumo_edge._util import files, jobs, records
from pneumo_edge._util.records import AtLeastOne, Count
from pneumo_edge._util.result_files import read_record
from pneumo_edge.errors import ResultsError, TrainingError

RECORD_NAME = "study.json"
#: Folders beside the runs: what each process said, and by default what is exported and measured.
LOGS, MODELS = "logs", "models"
SCHEMA_VERSION = 1

#: How far a run is: ``failed`` when it was last tried; ``in training`` where a process is at it now.
State = Literal["finished", "failed", "interrupted", "not started", "in training"]


@dataclass(frozen=True)
class StudyRun:
    """A row of the table: a network and a seed. Its run is in the folder ``name`` inside that of the study.

    Attributes:
        name: Name of the folder: network, recipe and seed.
        backbone: Name of the network, with its width and image size where they are unusual.
        recipe: Name of the recipe.
        seed: Seed of the run.
        cores: Cores that the run is given. With another number its sums differ in the last digits.
        memory_bytes: Memory that is set aside for it.
        error: Why it failed when it was last tried; "" where it did not.
    """

    name: str
    backbone: str
    recipe: str
    seed: Count
    cores: AtLeastOne
    memory_bytes: Count
    error: str = ""

    def __post_init__(self) -> None:
        if self.name != Path(self.name).name or not self.name:
            raise ValueError(f"name is {self.name!r}, not that of a folder")


@dataclass(frozen=True)
class Study:
    """The table of a study, in ``study.json``.

    Attributes:
        data_path: Where the data lay.
        fingerprint: SHA-256 of the images, their labels and their splits.
        runs: The runs, in the order in which they are started.
        schema_version: Version of this record.
        data_paths: Where a table of labels and separate test images lay, by the names of their options.
    """

    data_path: str
    fingerprint: str
    runs: tuple[StudyRun, ...]
    schema_version: int = SCHEMA_VERSION
    data_paths: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len({run.name for run in self.runs}) != len(self.runs):
            raise ValueError("two runs have the same name")

    def with_run(self, changed: StudyRun) -> Study:
        """The same table with a row in place of the one of its name, or at the end."""
        if all(run.name != changed.name for run in self.runs):
            return replace(self, runs=(*self.runs, changed))
        return replace(self, runs=tuple(changed if run.name == changed.name else run for run in self.runs))

    def save(self, folder: Path) -> None:
        """Write the table, atomically."""
        files.write_text(folder / RECORD_NAME, records.document(self))


def is_study(folder: Path) -> bool:
    """Whether a path is the folder of a study."""
    return (folder / RECORD_NAME).is_file()


def load(folder: Path) -> Study:
    """Read the table of a study.

    Raises:
        TrainingError: The folder holds no study.
        ResultsError: Its table is damaged, or of a newer version.
    """
    if not is_study(folder):
        raise TrainingError(
            f"{folder} holds no study",
            f"a folder with {RECORD_NAME}",
            "Make one with: pneumo-edge train --study DIR",
        )
    return read_record(Study, folder / RECORD_NAME, SCHEMA_VERSION, "the table of a study", "train")


def state(folder: Path, run: StudyRun) -> State:
    """How far a run of a study in ``folder`` is."""
    if is_finished(folder, run):
        return "finished"
    if jobs.is_running(folder / run.name / runs.RECORD_NAME):
        return "in training"
    if run.error:
        return "failed"
    return "interrupted" if (folder / run.name).exists() else "not started"


def is_finished(folder: Path, run: StudyRun) -> bool:
    """Whether a run of a study in ``folder`` is finished."""
    return (folder / run.name / runs.RECORD_NAME).is_file()


def check(folder: Path, run: StudyRun) -> None:
    """Check that a finished run is the one of its row, and that its network is there as training wrote it.

    Raises:
        ResultsError: The row differs from the record of the run.
        TrainingError: The file of the network is missing, or another.
        ConversionError: The record is not valid.
    """
    record = runs.load(folder / run.name)
    recorded = record.backbone, record.training.recipe, record.training.seed
    for what, of_row, of_run in zip(
        ("network", "recipe", "seed"), (run.backbone, run.recipe, run.seed), recorded, strict=True
    ):
        if of_row != of_run:
            raise ResultsError(
                f"{folder / RECORD_NAME} has the {what} {of_row} for {run.name}, and its {runs.RECORD_NAME} has "
                f"{of_run}",
                "the same in both",
                f"Put back what {RECORD_NAME} had",
            )
    model = folder / run.name / runs.MODEL_NAME
    if not model.is_file() or (record.model_sha256 is not None and files.sha256(model) != record.model_sha256):
        raise TrainingError(
            f"{model} is {'not the file that training wrote' if model.is_file() else 'missing'}",
            "the network of the finished run",
            f"Copy it again, or delete {model.parent} to train it again",
        )


def finished(folder: Path) -> list[Path]:
    """The folders of the finished runs of a study.

    Raises:
        TrainingError: As :func:`load`, or no run is finished.
        ResultsError: As :func:`load`.
    """
    study = load(folder)
    found = [folder / run.name for run in study.runs if is_finished(folder, run)]
    if not found:
        raise TrainingError(
            f"the study {folder} has {len(study.runs)} runs, none of them finished",
            "at least one finished run",
            "Finish it with the same command of train",
        )
    return found


def expand(paths: Iterable[Path]) -> list[Path]:
    """The paths, with the finished runs of a study in place of its folder.

    Raises:
        TrainingError: As :func:`finished`.
        ResultsError: As :func:`finished`.
    """
    return list(_expand(paths))


def _expand(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if is_study(path):
            yield from finished(path)
        else:
            yield path
