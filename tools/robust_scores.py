"""What the test says of the networks that were named beforehand in docs/shortcuts.md: ``make robust-scores``.

Every number follows from ``results/robust/RUN.json``, which ``pneumo-edge evaluate --split test`` wrote once for each
run, and from ``results/evaluation/scores.json``, the files of the recipe ``best``.
"""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pneumo_edge.backbones import backbone_title
from pneumo_edge.errors import PneumoEdgeError, ResultsError
from pneumo_edge.evaluation.conformal import Answered, ConformalBounds, evaluate_sets
from pneumo_edge.evaluation.intervals import Interval
from pneumo_edge.evaluation.metrics import Confusion, auc, confusion, wilson
from pneumo_edge.evaluation.seeds import over_seeds
from pneumo_edge.scoring.scores import EvaluationScores, FileScores, read
from tools import pages

RESULTS = Path("results/robust")
BEFORE = Path("results/evaluation/scores.json")
PAGE = Path("docs/shortcuts.md")
_TARGET = "robust-scores"
#: The networks that were named beforehand.
BACKBONES, SEEDS = ("efficientnetb0", "efficientnetlite0", "mobilenetv2"), 5
#: What was aimed for, as a mean over the seeds.
AUC_AIM, ACCURACY_AIM = 0.991, 0.946
#: The block of normal films, by the number in their names.
_BLOCK = range(195, 268)
_NORMAL_FILM = re.compile(r"NORMAL2-IM-(\d+)-")
_FORMATS = ("fp32", "int8")
#: Metrics of validation that may tell what the test will say, by their name in the ModelSpec.
PREDICTORS = {"auc": "plain", "shifted_auc": "shifted", "counterfactual_auc": "counterfactual"}
_NORMAL = 1.96


def read_runs(folder: Path) -> EvaluationScores:
    """The scores of all runs in a folder, one file each, as if they had been scored together.

    Raises:
        ResultsError: There are none, one is not valid, or two were not scored on the same images.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise ResultsError(
            f"{folder} has no scores", "one file for each run", f"Run make {_TARGET} with DATA= and RUNS_IN="
        )
    runs = [read(path) for path in paths]
    for path, run in zip(paths, runs, strict=True):
        if run.data != runs[0].data:
            raise ResultsError(
                f"{path} is not about the images of {paths[0]}", "runs scored on the same images", "Score the run again"
            )
    return replace(runs[0], files=tuple(itertools.chain.from_iterable(run.files for run in runs)))


def missing(scores: EvaluationScores) -> list[str]:
    """The networks that were named beforehand and are not scored yet, by their title and seed."""
    scored = {(file.model.backbone, file.model.seed) for file in scores.files}
    return [
        f"{backbone_title(backbone)} {seed}"
        for backbone in BACKBONES
        for seed in range(SEEDS)
        if (backbone, seed) not in scored
    ]


def in_block(scores: EvaluationScores) -> npt.NDArray[np.bool_]:
    """Which images are of the block of films, bool of shape (images,)."""
    found = (_NORMAL_FILM.search(image.name) for image in scores.data.images)
    return np.array([film is not None and int(film[1]) in _BLOCK for film in found])


def bundled(scores: EvaluationScores, backbone: str) -> int:
    """The seed of a network whose file is bundled: that with the highest counterfactual AUC on validation."""
    of_network = [file.model for file in scores.files if file.model.backbone == backbone]
    return max(of_network, key=lambda model: (model.validation["counterfactual_auc"], -model.seed)).seed


def means(scores: EvaluationScores) -> str:
    """A Markdown table of each network and format: the means over its seeds with Student's 95 % interval."""
    heading = ("network", "format", "seeds", "AUC", "accuracy", "sensitivity", "specificity", "aim")
    lines = []
    for backbone, of_network in _by_network(scores):
        for name in _FORMATS:
            of_format = [file for file in of_network if file.model.format == name]
            counts = [_counts(scores, file) for file in of_format]
            ranking = over_seeds([_auc(scores, file) for file in of_format]).mean
            accuracy = over_seeds([each.accuracy.value for each in counts]).mean
            lines.append(
                (
                    backbone_title(backbone),
                    f"`{name}`",
                    str(len(of_format)),
                    _four(ranking),
                    str(accuracy),
                    str(over_seeds([each.sensitivity.value for each in counts]).mean),
                    str(over_seeds([each.specificity.value for each in counts]).mean),
                    _verdict(ranking.value, accuracy.value),
                )
            )
    return _table(heading, lines)


def _verdict(ranking: float, accuracy: float) -> str:
    missed = [
        name for name, value, aim in (("AUC", ranking, AUC_AIM), ("accuracy", accuracy, ACCURACY_AIM)) if value < aim
    ]
    return f"missed: {' and '.join(missed)}" if missed else "met"


def seeds(scores: EvaluationScores, *, names_bundled: bool = True) -> str:
    """A Markdown table of every file: validation and test, and if asked for which of them is bundled."""
    heading = ("network", "seed", "format", *(f"validation AUC, {name}" for name in PREDICTORS.values()))
    heading += ("test AUC", "test accuracy", "bundled")
    lines = []
    for backbone, of_network in _by_network(scores):
        chosen = bundled(scores, backbone) if names_bundled else None
        for file in sorted(of_network, key=lambda each: (each.model.seed, each.model.format)):
            validation = file.model.validation
            lines.append(
                (
                    backbone_title(backbone),
                    str(file.model.seed),
                    f"`{file.model.format}`",
                    *(f"{validation[name]:.4f}" for name in PREDICTORS),
                    f"{_auc(scores, file):.4f}",
                    f"{_counts(scores, file).accuracy.value:.3f}",
                    "yes" if file.model.seed == chosen and file.model.format == "int8" else "",
                )
            )
    return _table(heading, lines)


def quantization(scores: EvaluationScores) -> str:
    """A Markdown table of the AUC that quantization costs each network: int8 minus fp32 of the same training."""
    lines = []
    for backbone, of_network in _by_network(scores):
        by_format = {
            name: {file.model.seed: _auc(scores, file) for file in of_network if file.model.format == name}
            for name in _FORMATS
        }
        differences = [by_format["int8"][seed] - value for seed, value in by_format["fp32"].items()]
        lines.append((backbone_title(backbone), _four(over_seeds(differences).mean), f"{min(differences):+.4f}"))
    return _table(("network", "AUC, int8 minus fp32", "worst seed"), lines)


def block(before: EvaluationScores, after: EvaluationScores) -> str:
    """A Markdown table of the bundled files on the block of films, with the recipe before and the one after."""
    heading = (
        "file",
        "recipe",
        "specificity on the block",
        "specificity on other normal films",
        "AUC without the block",
    )
    lines = []
    for backbone, _ in _by_network(after):
        for scores, seed in ((before, 0), (after, bundled(after, backbone))):
            for file in scores.files:
                model = file.model
                if (model.backbone, model.format, model.seed) == (backbone, "int8", seed):
                    lines.append(_on_block(scores, file))
    return _table(heading, lines)


def _on_block(scores: EvaluationScores, file: FileScores) -> tuple[str, ...]:
    labels, inside = scores.data.targets, in_block(scores)
    right = file.scores < _threshold(file)
    normal = labels == 0
    return (
        f"{backbone_title(file.model.backbone)}, `{file.model.format}`",
        f"`{file.model.recipe}`",
        *(_share(right[normal & chosen]) for chosen in (inside, ~inside)),
        f"{auc(labels[~inside], file.scores[~inside]):.4f}",
    )


def _share(right: npt.NDArray[np.bool_]) -> str:
    return f"{int(right.sum())} of {len(right)}: {wilson(int(right.sum()), len(right))}"


def uncertain(scores: EvaluationScores) -> str:
    """A Markdown table of uncertain answers: of each network and format the means over its seeds."""
    of_class = (f"coverage, {name}" for name in scores.data.class_names)
    heading = ("network", "format", "uncertain", "errors that are uncertain", *of_class)
    lines = []
    for backbone, of_network in _by_network(scores):
        for name in _FORMATS:
            answered = [_answered(scores, file) for file in of_network if file.model.format == name]
            values = (
                [1 - each.share.value for each in answered],
                [each.errors_flagged.value for each in answered],
                *zip(*([covered.value for covered in each.by_class] for each in answered), strict=True),
            )
            lines.append((backbone_title(backbone), f"`{name}`", *(str(over_seeds(each).mean) for each in values)))
    return _table(heading, lines)


def _answered(scores: EvaluationScores, file: FileScores) -> Answered:
    conformal = file.conformal
    if conformal is None or conformal.least_positive is None or conformal.most_negative is None:
        raise ResultsError(
            f"{file.model.file} in {RESULTS} has no prediction sets",
            "scores of files that say when they are uncertain",
            "Export the runs again with this version, and score the files",
        )
    bounds = ConformalBounds(conformal.least_positive, conformal.most_negative)
    return evaluate_sets(scores.data.targets, file.scores, _threshold(file), bounds)


def predictors(scores: EvaluationScores) -> str:
    """A Markdown table of how each validation AUC ranks the float files beside the test AUC."""
    ranked = [file for file in scores.files if file.model.format == "fp32"]
    test = [_auc(scores, file) for file in ranked]
    lines = [
        (name, str(len(ranked)), str(spearman([file.model.validation[metric] for file in ranked], test)))
        for metric, name in PREDICTORS.items()
    ]
    return _table(("validation", "trainings", "Spearman's correlation with the test AUC"), lines)


def spearman(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Spearman's rank correlation with its 95 % interval (Bonett and Wright, Psychometrika 2000, eq. 4).

    Args:
        first: Values, at least four.
        second: As many.
    """
    from scipy.stats import spearmanr

    value = float(spearmanr(first, second).statistic)
    if abs(value) == 1:
        return Interval(value, value, value)
    spread = _NORMAL * math.sqrt((1 + value**2 / 2) / (len(first) - 3))
    low, high = (math.tanh(math.atanh(value) + sign * spread) for sign in (-1, 1))
    return Interval(value, low, high)


def _by_network(scores: EvaluationScores) -> Iterator[tuple[str, list[FileScores]]]:
    ordered = sorted(scores.files, key=lambda file: file.model.backbone)
    for backbone, files in itertools.groupby(ordered, key=lambda file: file.model.backbone):
        yield backbone, list(files)


def _auc(scores: EvaluationScores, file: FileScores) -> float:
    return auc(scores.data.targets, file.scores)


def _counts(scores: EvaluationScores, file: FileScores) -> Confusion:
    return confusion(scores.data.targets, file.scores >= _threshold(file))


def _threshold(file: FileScores) -> float:
    assert file.model.threshold is not None  # two classes, one of them positive
    return file.model.threshold


def _four(interval: Interval) -> str:
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def _table(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return pages.rows([heading, tuple("---" for _ in heading), *lines])


def text(before: EvaluationScores, after: EvaluationScores) -> str:
    """Everything that stands between the page's markers: until all networks are scored, each file and no mean."""
    if missed := missing(after):
        return (
            f"Not all networks are scored yet. Missing, with their seeds: {', '.join(missed)}. "
            f"Means are computed when all are.\n\n{seeds(after, names_bundled=False)}"
        )
    return "\n".join(
        (
            means(after),
            quantization(after),
            block(before, after),
            uncertain(after),
            predictors(after),
            seeds(after),
        )
    )


def main() -> None:
    """Put the tables into their page."""
    try:
        pages.put_table(PAGE, _TARGET, text(read(BEFORE), read_runs(RESULTS)))
    except PneumoEdgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
