"""Finds and describes the model files to be measured, and says why one is skipped."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from pneumo_edge._util import files
from pneumo_edge._util.records import AtLeastOne, Count, Share
from pneumo_edge.data.classes import renaming
from pneumo_edge.errors import MissingExtraError, ModelFileError, PneumoEdgeError, printable
from pneumo_edge.runtime import verified
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import MODEL_SUFFIXES, SUFFIXES_IN_WORDS, ModelSpec, suffix_of
from pneumo_edge.spec.reading import find
from pneumo_edge.task import Task

Item = TypeVar("Item")


@dataclass(frozen=True)
class Model:
    """A model file: its name among the files of this run, its size, and its ModelSpec in brief.

    ``processor`` is the kind of processor that it was verified on; None where it does not say. ``unverified`` is a
    remark where this processor is of another kind and that can change answers; None otherwise. ``has_spec`` is False
    for a file of another tool: its backbone is then its own name, and its format, threshold and training are not known.
    ``seed`` is that of its training; None where it is not known, as in results from before the field existed.
    ``measured_on`` is as of :class:`pneumo_edge.scoring.scores.ScoredModel`.
    """

    file: str
    size_bytes: AtLeastOne
    sha256: str
    backbone: str
    format: str
    threshold: Share | None
    recipe: str
    initial_weights: str
    trained_on: str
    trained_on_real: bool
    processor: str | None = None
    unverified: str | None = None
    has_spec: bool = True
    seed: Count | None = None
    measured_on: str = ""


@dataclass(frozen=True)
class BareFile:
    """A model file without a ModelSpec, with its description for results: it can be timed, and no more."""

    path: Path
    model: Model


@dataclass(frozen=True)
class ModelFile:
    """A model file with its description for results and its ModelSpec."""

    path: Path
    model: Model
    spec: ModelSpec


@dataclass(frozen=True)
class Skipped:
    """A model file that was not measured on an engine ("" for all engines), and the reason.

    ``failed`` is False where nothing is wrong with the file: the engine is not installed or was not chosen.
    """

    model: str
    engine: str
    reason: str
    failed: bool


def pairs_of_backbones(
    items: Iterable[Item], describe: Callable[[Item], tuple[str, Hashable]]
) -> Iterator[tuple[Item, Item]]:
    """Pairs of items that differ only in their backbone, in the order of the items.

    Args:
        items: Units or files.
        describe: Returns the backbone of an item, and the properties that both items of a pair must share.
    """
    for first, second in combinations(items, 2):
        (one, shared), (other, also) = describe(first), describe(second)
        if shared == also and one != other:
            yield first, second


def find_models(paths: Iterable[Path]) -> list[Path]:
    """List model files: the given files and all model files in the given folders, each once.

    Raises:
        ModelFileError: A folder has no model file.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if suffix_of(p) in MODEL_SUFFIXES and not p.name.startswith("."))
            if not inside:
                raise ModelFileError(
                    f"the folder {path} has no model file", f"{SUFFIXES_IN_WORDS} files", "Give another folder"
                )
        for file in inside:
            # Unlike `resolve`, it accepts a loop of links; reading the file reports it.
            found.setdefault(Path(os.path.realpath(file)), file)
    return list(found.values())


def read_models(paths: list[Path], skip: Callable[[Skipped], None], task: Task | None = None) -> list[ModelFile]:
    """Read the ModelSpecs of model files. Files that cannot be measured are skipped with the reason.

    Args:
        paths: The files.
        skip: Called with each skipped file.
        task: The task of the data that the files are measured on; files with another positive class are skipped.
    """
    models = []
    for path, name in _names(paths).items():
        try:
            models.append(_of_task(path, name, read_spec(path), task))
        except PneumoEdgeError as error:
            skip(_skipped(name, error))
    return models


def _check_task(path: Path, spec: ModelSpec, task: Task | None) -> None:
    if task is None or (task.positive_class is None and spec.task == task):
        return
    if task.positive_class == spec.decision.positive_class is not None:
        return
    if task.positive_class in spec.class_names and spec.decision.positive_class in task.class_names:
        typed = f"Give --positive {shlex.quote(printable(spec.decision.positive_class))}"
    else:
        typed = renaming(task.class_names, task.positive_class, spec.task)
        typed = f"Say which classes of the data are those: {typed}" if typed else "Measure it on data of its classes"
    if task.positive_class is None or spec.decision.positive_class is None:
        raise ModelFileError(
            f"{path} has the classes {', '.join(map(printable, spec.class_names))}",
            f"those of the data, in their order: {', '.join(map(printable, task.class_names))}",
            typed,
        )
    raise ModelFileError(
        f"{path} looks for {printable(spec.decision.positive_class)}", printable(task.positive_class), typed
    )


def read_any(paths: list[Path], skip: Callable[[Skipped], None], task: Task | None) -> list[ModelFile | BareFile]:
    """Read model files as :func:`read_models`, and also those without a ModelSpec.

    Args:
        paths: As for :func:`read_models`.
        skip: As for :func:`read_models`.
        task: As for :func:`read_models`; None where there is no data set, and any task will do.
    """
    models: list[ModelFile | BareFile] = []
    for path, name in _names(paths).items():
        try:
            if spec := find(path):
                models.append(_of_task(path, name, spec, task))
            else:
                models.append(BareFile(path, _describe_bare(path, name)))
        except PneumoEdgeError as error:
            skip(_skipped(name, error))
    return models


def _of_task(path: Path, name: str, spec: ModelSpec, task: Task | None) -> ModelFile:
    _check_task(path, spec, task)
    return ModelFile(path, describe(path, name, spec), spec)


def _skipped(name: str, error: PneumoEdgeError) -> Skipped:
    return Skipped(name, "", str(error), failed=not isinstance(error, MissingExtraError))


def _describe_bare(path: Path, name: str) -> Model:
    return Model(
        file=name,
        size_bytes=path.stat().st_size,
        sha256=files.sha256(path),
        backbone=name,
        format=suffix_of(path).removeprefix("."),
        threshold=None,
        recipe="",
        initial_weights="",
        trained_on="",
        trained_on_real=True,
        has_spec=False,
    )


def _names(paths: list[Path]) -> dict[Path, str]:
    """The name of each file in the results: its file name, with its path where several have the same name."""
    count = Counter(path.name for path in paths)
    common = os.path.commonpath([path.absolute().parent for path in paths])
    # Results, reports and pages are UTF-8; file names may not be.
    return {
        path: printable(path.name if count[path.name] == 1 else Path(os.path.relpath(path, common)).as_posix())
        for path in paths
    }


def describe(path: Path, name: str, spec: ModelSpec) -> Model:
    """Describe a model file by its size in bytes, the SHA-256 of its content, and its ModelSpec.

    Args:
        path: The model file.
        name: Its name in the results.
        spec: The ModelSpec inside it.

    Raises:
        OSError: The file cannot be read.
    """
    return Model(
        file=name,
        size_bytes=path.stat().st_size,
        sha256=files.sha256(path),
        backbone=spec.backbone,
        format=spec.format,
        threshold=spec.decision.threshold,
        recipe=spec.training.recipe,
        initial_weights=spec.training.initial_weights,
        trained_on="" if spec.is_trained_elsewhere else spec.data.name,
        trained_on_real=spec.data.real,
        processor=spec.verification.processor if spec.verification else None,
        unverified=verified.remark(name, spec),
        seed=spec.training.seed,
        measured_on=spec.data.name if spec.is_trained_elsewhere else "",
    )
