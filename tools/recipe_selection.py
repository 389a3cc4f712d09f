"""Trains candidates for a recipe, shortened, and compares them by counterfactual validation: ``make recipe-selection``.

The records of each run (``settings.json``, ``history.csv``, ``validation.csv``) go to ``results/recipe-selection``; the
table in docs/shortcuts.md follows from them. The test split is not read.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pneumo_edge._util import extras, files, native_output, records
from pneumo_edge._util.cache import cache_folder
from pneumo_edge.backbones import BACKBONES, SIDE
from pneumo_edge.data.run_records import read_validation
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import prepare
from pneumo_edge.errors import PneumoEdgeError
from pneumo_edge.evaluation.metrics import auc
from pneumo_edge.evaluation.operating_point import choose_threshold
from pneumo_edge.runs import VALIDATION_NAME
from pneumo_edge.training import fit, initial_weights
from pneumo_edge.training.counterfactuals import KINDS, counterfactual_metrics
from pneumo_edge.training.curves import CSV_NAME
from pneumo_edge.training.exchange import Exchange
from pneumo_edge.training.fit import TrainingSettings
from pneumo_edge.training.recipes import RECIPES, Phase, Recipe
from pneumo_edge.training.settings import SETTINGS_NAME
from tools import pages

RESULTS = Path("results/recipe-selection")
PAGE = Path("docs/shortcuts.md")
_TARGET = "recipe-selection"
_EPOCHS = 3

_BEST = RECIPES["best"]
_PHASE = replace(_BEST.fine_tune[0], epochs=_EPOCHS)
assert _PHASE.augmentation is not None
_FLIPPED = replace(_PHASE.augmentation, flip=0.5)
#: Tone and sharpness come from donors, so little else changes them; nothing is hidden.
_LIGHT = replace(_FLIPPED, gamma=0.2, contrast=0.2, brightness=0.1, blur=0.0, noise=0.03, cutout=0.0)
_EXCHANGE = Exchange(0.5, border=0.15, tone=1.0, sharpness=1.0, marks=True)

#: What the whole network is trained with, by the name of the candidate.
CANDIDATES: dict[str, Phase] = {
    "best": _PHASE,
    "exchange-half": replace(_PHASE, augmentation=_FLIPPED, exchange=_EXCHANGE),
    "exchange-most": replace(_PHASE, augmentation=_FLIPPED, exchange=replace(_EXCHANGE, probability=0.8)),
    "exchange-most-light": replace(_PHASE, augmentation=_LIGHT, exchange=replace(_EXCHANGE, probability=0.8)),
}


def recipe_of(name: str) -> Recipe:
    """The shortened recipe of a candidate."""
    return replace(
        _BEST,
        name=f"candidate-{name}",
        fine_tune=(CANDIDATES[name],),
        check_shifts=False,
        check_counterfactuals=True,
    )


def table(folder: Path) -> str:
    """A Markdown table of the runs in a folder, the highest counterfactual AUC first; all numbers from validation."""
    heading = ("candidate", "epochs", "seed", "AUC", "AUC, counterfactual", *KINDS, "flips, all")
    found = []
    for run in folder.glob(f"*/{SETTINGS_NAME}"):
        settings = records.loads(TrainingSettings, run.read_bytes())
        labels, columns = read_validation(run.parent / VALIDATION_NAME)
        threshold = choose_threshold(settings.details.threshold_rule, labels, columns["probability"])
        measured = counterfactual_metrics(labels, columns, threshold)
        cells = (
            f"`{settings.recipe.removeprefix('candidate-')}`",
            str(settings.details.fine_tune[0].epochs),
            str(settings.seed),
            f"{auc(labels, columns['probability']):.4f}",
            f"{measured['counterfactual_auc']:.4f}",
            *(f"{measured[f'counterfactual_auc_{kind}']:.4f}" for kind in KINDS),
            f"{measured['counterfactual_flips_all']:.1%}",
        )
        found.append((-measured["counterfactual_auc"], settings.recipe, settings.seed, cells))
    return pages.rows([heading, tuple("---" for _ in heading), *(row[-1] for row in sorted(found))])


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, one after the other, and redraw the page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, help="folder with class folders; without it, only the page is drawn")
    parser.add_argument("--weights", type=Path, help="ImageNet weights: a file or a folder")
    parser.add_argument("--backbone", choices=list(BACKBONES), default="mobilenetv2")
    parser.add_argument("--candidates", nargs="*", choices=list(CANDIDATES), default=list(CANDIDATES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/recipe-selection"), help="folder for the runs")
    given = parser.parse_args(arguments)
    try:
        if given.data is not None:
            _train(given)
        if PAGE.exists():
            pages.put_table(PAGE, _TARGET, table(RESULTS))
    except PneumoEdgeError as error:
        sys.exit(f"error: {error}")


def _train(given: argparse.Namespace) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with native_output.quiet_stderr():
        extras.need("keras", "train")
    backbone, cache = BACKBONES[given.backbone], cache_folder()
    dataset = prepare(open_source(given.data), cache, SIDE, SIDE)
    weights = initial_weights.find(backbone, given.weights, trained=False)
    for name in given.candidates:
        run = f"{backbone.name}-{name}-{given.seed}"
        folder = given.out / run
        record = fit.train(backbone, recipe_of(name), weights, dataset, given.data, folder, cache, given.seed)
        for each in (SETTINGS_NAME, CSV_NAME, VALIDATION_NAME):
            with files.atomic(RESULTS / run / each) as temporary:
                shutil.copyfile(folder / each, temporary)
        print(run, record.training.validation, flush=True)


if __name__ == "__main__":
    main()
