"""The table of recipe candidates: every number from a run's own records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pneumo_edge._util import files, records
from pneumo_edge.training.counterfactuals import KINDS, column
from pneumo_edge.training.fit import TrainingSettings
from pneumo_edge.training.recipes import RECIPES
from tools import recipe_selection

_ROOT = Path(__file__).parents[2]


def _write(folder: Path, name: str, misled: frozenset[str]) -> None:
    """A run that answers rightly, except on the kinds that mislead it, on which it answers the contrary."""
    settings = TrainingSettings(
        "mobilenetv2", f"candidate-{name}", 0, "random", "ab" * 32, recipe_selection.recipe_of(name)
    )
    files.write_text(folder / name / "settings.json", records.dumps(settings))
    labels = np.repeat([0, 1], 20)
    lines = [",".join(["name", "label", "probability", *map(column, KINDS)])]
    for number, label in enumerate(labels):
        scores = [label, *(1 - label if kind in misled else label for kind in KINDS)]
        lines.append(",".join(map(str, [f"{number}.png", label, *scores])))
    files.write_text(folder / name / "validation.csv", "\n".join(lines) + "\n")


def test_the_candidate_that_is_misled_least_stands_first(tmp_path: Path) -> None:
    _write(tmp_path, "best", frozenset({"tone", "all"}))
    _write(tmp_path, "exchange-half", frozenset({"tone"}))
    heading, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in recipe_selection.table(tmp_path).splitlines()
    )
    first, second = (dict(zip(heading, row, strict=True)) for row in rows)
    assert (first["candidate"], second["candidate"]) == ("`exchange-half`", "`best`")
    # Of five kinds, one is answered contrary: four of five of each class are right.
    assert first["AUC, counterfactual"] == "0.8000" and second["AUC, counterfactual"] == "0.6000"
    assert (first["tone"], first["all"], second["all"]) == ("0.0000", "1.0000", "0.0000")
    assert (first["flips, all"], second["flips, all"]) == ("0.0%", "100.0%")


def test_the_page_shows_the_runs_in_the_repository() -> None:
    page = (_ROOT / recipe_selection.PAGE).read_text(encoding="utf-8")
    assert recipe_selection.table(_ROOT / recipe_selection.RESULTS) in page


def test_the_recipe_is_the_candidate_that_is_misled_least() -> None:
    chosen = recipe_selection.table(_ROOT / recipe_selection.RESULTS).splitlines()[2].split("`")[1]
    (phase,) = RECIPES["robust"].fine_tune
    assert phase == replace(recipe_selection.CANDIDATES[chosen], epochs=phase.epochs)
