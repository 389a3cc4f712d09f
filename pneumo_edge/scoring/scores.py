"""The schema of ``scores.json``: every image, and its probability from every model file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np

from pneumo_edge._util import files, records
from pneumo_edge._util.records import AtLeastOne, Count, Share, Within
from pneumo_edge._util.result_files import read_record
from pneumo_edge.data.shortcuts import Direction
from pneumo_edge.data.sources import SplitName
from pneumo_edge.errors import ResultsError
from pneumo_edge.evaluation.metrics import Labels, Scores
from pneumo_edge.scoring.classes import check_classes, check_probabilities, task_of
from pneumo_edge.spec import MAX_TEMPERATURE, ConformalSpec
from pneumo_edge.task import Task

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ScoredImage:
    """An image. ``patient`` is the image name and ``kind`` is "" where the source does not name them."""

    name: str
    label: Count
    patient: str
    kind: str


@dataclass(frozen=True)
class ImageSet:
    """The images of a split that can be decoded; ``left_out`` maps the others to the reason.

    ``positive_class`` is None where there are more than two classes, and in files from before the field existed.
    ``fingerprint`` is a SHA-256 over label and file content of every image, independent of its name. ``external`` is
    True for all images of another population, of every split.
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
    positive_class: str | None = None
    external: bool = False

    def __post_init__(self) -> None:
        self.task  # noqa: B018 - raises ValueError
        check_classes(self.class_names, (image.label for image in self.images))
        if len({image.name for image in self.images}) != len(self.images):
            raise ValueError("two images have the same name")

    @property
    def task(self) -> Task:
        """What was asked of the images."""
        return task_of(self.class_names, self.positive_class)

    @property
    def targets(self) -> Labels:
        """:meth:`pneumo_edge.task.Task.targets` of the images, shape (images,)."""
        return self.task.targets(np.array([image.label for image in self.images], dtype=np.int64))


@dataclass(frozen=True)
class ShortcutValues:
    """A number of each image that is unrelated to the lungs, such as its file size.

    ``direction`` says which values indicate the positive class, as determined on training images.
    """

    measure: str
    direction: Direction
    values: tuple[float, ...]


@dataclass(frozen=True)
class ScoredModel:
    """A model file as its ModelSpec describes it, and the engine that ran it.

    ``validation`` has its metrics on its own validation images; it is empty in files from before the field existed.
    ``measured_on`` is the data that the threshold of a file was chosen on which another program trained: what that was
    ``trained_on`` is not known, and "". In files from before the field existed, ``trained_on`` has it.
    """

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
    threshold: Share | None
    rule: str
    chosen_on: str
    temperature: Annotated[float, Within(above=0, high=MAX_TEMPERATURE)]
    engine: str
    engine_version: str
    validation: dict[str, float] = field(default_factory=dict)
    measured_on: str = ""


@dataclass(frozen=True)
class FileScores:
    """A model file's probability of the positive class for each image, in order.

    Without a positive class it is empty, and ``class_probabilities`` has those of every class in order.
    ``out_of_distribution`` says it of each image; None where the file does not check, and in files from before the
    field existed. ``conformal`` is what the file's prediction sets follow from, None likewise.
    """

    model: ScoredModel
    probabilities: tuple[Share, ...]
    class_probabilities: tuple[tuple[Share, ...], ...] | None = None
    out_of_distribution: tuple[bool, ...] | None = None
    conformal: ConformalSpec | None = None

    @property
    def scores(self) -> Scores:
        """What metrics take (:meth:`pneumo_edge.task.Task.scores`), shape (images,) or (images, classes)."""
        return np.array(self.probabilities if self.class_probabilities is None else self.class_probabilities)


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
            check_probabilities(
                file.model.file,
                file.probabilities,
                file.class_probabilities,
                file.model.threshold,
                self.data.task,
                images,
            )
            if file.out_of_distribution is not None and len(file.out_of_distribution) != images:
                raise ValueError(
                    f"{file.model.file} has out_of_distribution of {len(file.out_of_distribution)} of {images} images"
                )
        if len({(file.model.sha256, file.model.engine) for file in self.files}) != len(self.files):
            raise ValueError("a file occurs twice on one engine")


def write(path: Path, scores: EvaluationScores) -> None:
    """Write scores as JSON on one line, atomically."""
    files.write_text(path, records.document(scores, indent=None))


def read(path: Path) -> EvaluationScores:
    """Read scores.

    Raises:
        ResultsError: The file is missing, damaged, of a newer schema, empty, or contradicts itself.
    """
    scores = read_record(EvaluationScores, path, SCHEMA_VERSION, "scores", "evaluate")
    if not scores.files:
        raise ResultsError(f"{path} has no model files", "scores of at least one", "Score model files again")
    return scores
