"""Compares training runs by their probabilities of the validation images, which each run keeps."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pneumo_edge import runs
from pneumo_edge._util.records import encodable
from pneumo_edge.data.run_records import read_validation
from pneumo_edge.data.splits import Manifest
from pneumo_edge.errors import DataError, ResultsError
from pneumo_edge.evaluation import networks, outcomes
from pneumo_edge.evaluation.metrics import Interval, Scores
from pneumo_edge.evaluation.seeds import OverSeeds, over_seeds
from pneumo_edge.runs import Run
from pneumo_edge.scoring.scores import EvaluationScores, FileScores, ImageSet, ScoredImage, ScoredModel
from pneumo_edge.scoring.summary import NetworkComparison, SeedGroup, compare_networks
from pneumo_edge.task import Task

#: What stands for the format and the engine of a network that is not exported.
_FORMAT, _ENGINE = "keras", "keras"


@dataclass(frozen=True)
class TrainingsCompared:
    """Runs on the same validation images.

    Attributes:
        over_seeds: The metrics of ``run.json`` over the seeds of each network with two runs or more.
        networks: Every pair of networks with three trainings or more, the first minus the second.
        notes: What was not computed, and why.
    """

    over_seeds: tuple[SeedGroup, ...]
    networks: tuple[NetworkComparison, ...]
    notes: tuple[str, ...]


def compare(folders: Sequence[Path]) -> TrainingsCompared:
    """Compare finished runs.

    Args:
        folders: Their folders; at least one.

    Raises:
        ConversionError: A folder holds no finished run, or its record is not valid.
        ResultsError: The runs have other validation images, or a file of a run is damaged.
    """
    found = [(folder, runs.load(folder)) for folder in folders]
    images = _images(*found[0])
    files = []
    for folder, run in found:
        if run.data.fingerprint != found[0][1].data.fingerprint:
            raise ResultsError(
                f"{folder} was trained on other images, or with another split, than {folders[0]}",
                "runs on the same images",
                "Compare runs of one data set",
            )
        files.append(_scores(folder, run, images))
    groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for _, run in found:
        groups[run.backbone, run.training.recipe].append(run)
    spread, notes = [], []
    for (backbone, recipe), of_network in sorted(groups.items()):
        seeds = tuple(run.training.seed for run in of_network)
        measured = [run.training.validation for run in of_network]
        if len(set(seeds)) < len(seeds):
            notes.append(f"No mean over seeds for {backbone}, {recipe}: several of its runs have the same seed.")
        elif len(seeds) > 1:
            shared = [name for name in measured[0] if all(name in each for each in measured)]
            metrics = {name: _possible(name, over_seeds([each[name] for each in measured])) for name in shared}
            spread.append(SeedGroup(backbone, recipe, _FORMAT, _ENGINE, seeds, metrics))
    try:
        compared = compare_networks(EvaluationScores(images, (), tuple(files)))
    except ValueError as error:
        raise ResultsError(
            f"the runs {', '.join(str(folder) for folder in folders)} do not go together ({error})",
            "runs as training wrote them, each once",
            "Copy them again",
        ) from error
    if len(groups) > 1 and not compared:
        patients = [image.patient for image in images.images] if images.has_patients else None
        few = outcomes.shortage(images.targets, patients, "validation")
        least = f"a comparison takes {networks.LEAST_TRAININGS} trainings of two networks, each with its own seed"
        notes.append(f"Networks are not compared: {few or least}.")
    return TrainingsCompared(tuple(spread), compared, tuple(notes))


def _possible(metric: str, found: OverSeeds) -> OverSeeds:
    """A spread whose interval has no values that the metric cannot have: few seeds make it wide."""
    highest = math.inf if metric.endswith("log_loss") else 1.0
    mean = found.mean
    return replace(found, mean=Interval(mean.value, max(0.0, mean.low), min(highest, mean.high)))


def _images(folder: Path, run: Run) -> ImageSet:
    path = folder / runs.MANIFEST_NAME
    try:
        manifest = Manifest.load(path)
    except DataError as error:
        raise _damaged(path, error.given) from error
    return ImageSet(
        title=manifest.source,
        real=manifest.real,
        licence=manifest.licence,
        class_names=run.class_names,
        split="val",
        has_patients=any(entry.patient != entry.name for entry in manifest.entries),
        fingerprint=manifest.fingerprint,
        left_out={},
        images=tuple(
            ScoredImage(encodable(entry.name), entry.label, encodable(entry.patient), entry.kind)
            for entry in manifest.entries
            if entry.split == "val"
        ),
        positive_class=run.task.positive_class,
    )


def _scores(folder: Path, run: Run, images: ImageSet) -> FileScores:
    path = folder / runs.VALIDATION_NAME
    try:
        labels, columns = read_validation(path)
        scores = _probabilities(columns, run.task)
    except (OSError, KeyError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if labels.tolist() != [image.label for image in images.images]:
        raise _damaged(path, "its images are not those of split.json")
    model = ScoredModel(
        file=folder.name,
        # Runs from before there was a hash are told apart by their folders.
        sha256=run.model_sha256 or str(folder),
        size_bytes=max(1, (folder / runs.MODEL_NAME).stat().st_size),
        backbone=run.backbone,
        format=_FORMAT,
        recipe=run.training.recipe,
        seed=run.training.seed,
        initial_weights=run.training.initial_weights,
        trained_on=run.data.name,
        trained_on_real=run.data.real,
        threshold=run.decision.threshold,
        rule=run.decision.rule,
        chosen_on=run.decision.chosen_on,
        temperature=run.temperature,
        engine=_ENGINE,
        engine_version=run.versions.get("keras", ""),
        validation=run.training.validation,
    )
    if scores.ndim == 1:
        return FileScores(model, tuple(scores.tolist()))
    return FileScores(model, (), tuple(tuple(row) for row in scores.tolist()))


def _probabilities(columns: dict[str, Scores], task: Task) -> Scores:
    names = runs.score_columns("probability", task)
    return columns[names[0]] if task.positive_class is not None else np.stack([columns[name] for name in names], axis=1)


def _damaged(path: Path, how: str) -> ResultsError:
    return ResultsError(f"{path} cannot be read ({how})", "the file as training wrote it", "Copy it again")
