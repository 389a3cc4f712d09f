"""The schema of ``scores.json``: every image, and what every model file says of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pneumo_edge._util import files, records
from pneumo_edge._util.records import AtLeastOne, Count, Share, Within
from pneumo_edge._util.result_files import read_record
from pneumo_edge.data.shortcuts import Direction
from pneumo_edge.data.sources import SplitName
from pneumo_edge.errors import ResultsError
from pneumo_edge.scoring.classes import check_classes
from pneumo_edge.spec import MAX_TEMPERATURE

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ScoredImage:
    """An image: ``patient`` is its name where the source tells no patients, ``kind`` "" where it tells none."""

    name: str
    label: Annotated[int, Within(0, 1)]
    patient: str
    kind: str


@dataclass(frozen=True)
class ImageSet:
    """The images of a split that can be decoded; ``left_out`` maps the others to the reason.

    ``fingerprint`` is a SHA-256 over label and file content of every image, whatever its name.
    """

    title: str
    real: bool
    licence: str
    class_names: tuple[str, ...]
    split: SplitName
    has_patients: bool
    fingerprint: str
    left_out: dict[str, str]
    images: tuple[ScoredImage, ...]

    def __post_init__(self) -> None:
        check_classes(self.class_names, (image.label for image in self.images))
        if len({image.name for image in self.images}) != len(self.images):
            raise ValueError("two images have the same name")


@dataclass(frozen=True)
class ShortcutValues:
    """A number of each image that knows nothing of lungs, such as its file size.

    ``direction`` says which values speak for the positive class, as decided on training images.
    """

    measure: str
    direction: Direction
    values: tuple[float, ...]


@dataclass(frozen=True)
class ScoredModel:
    """A model file as its ModelSpec describes it, and the engine that ran it."""

    file: str
    sha256: str
    size_bytes: AtLeastOne
    backbone: str
    format: str
    recipe: str
    seed: Count
    initial_weights: str
    trained_on: str
    trained_on_real: bool
    threshold: Share
    rule: str
    chosen_on: str
    temperature: Annotated[float, Within(above=0, high=MAX_TEMPERATURE)]
    engine: str
    engine_version: str


@dataclass(frozen=True)
class FileScores:
    """A model file's probability of the positive class for each image, in their order."""

    model: ScoredModel
    probabilities: tuple[Share, ...]


@dataclass(frozen=True)
class EvaluationScores:
    """Everything that was scored on one split of one data set."""

    data: ImageSet
    shortcuts: tuple[ShortcutValues, ...]
    files: tuple[FileScores, ...]
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        images = len(self.data.images)
        for shortcut in self.shortcuts:
            if len(shortcut.values) != images:
                raise ValueError(f"{shortcut.measure} has {len(shortcut.values)} values for {images} images")
        for file in self.files:
            if len(file.probabilities) != images:
                raise ValueError(f"{file.model.file} has {len(file.probabilities)} probabilities for {images} images")
        if len({(file.model.sha256, file.model.engine) for file in self.files}) != len(self.files):
            raise ValueError("a file stands twice on one engine")


def write(path: Path, scores: EvaluationScores) -> None:
    """Write scores as JSON on one line, whole or not at all."""
    files.write_text(path, records.document(scores, indent=None))


def read(path: Path) -> EvaluationScores:
    """Read scores.

    Raises:
        ResultsError: The file is missing, damaged, of a newer schema, empty, or contradicts itself.
    """
    scores = read_record(EvaluationScores, path, SCHEMA_VERSION, "scores", "evaluate")
    if not scores.files:
        raise ResultsError(f"{path} holds no model file", "scores of at least one", "Score again")
    return scores
