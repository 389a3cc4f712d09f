"""The table of training runs: every number from a run's own records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pneumo_edge._util import files, records
from pneumo_edge.errors import TrainingError
from pneumo_edge.training.fit import TrainingSettings
from pneumo_edge.training.recipes import RECIPES
from tools import training_table

_ROOT = Path(__file__).parents[2]


def _write(folder: Path, shifted: bool = True) -> None:
    recipe = RECIPES["best"]
    settings = TrainingSettings("mobilenetv2", "best", 3, "random", "ab" * 32, recipe)
    files.write_text(folder / "settings.json", records.dumps(settings))
    files.write_text(folder / "history.csv", "phase,seconds\nhead,30\nfine-tune-1,90\n")
    labels = [0] * 50 + [1] * 100
    scores = np.concatenate([np.linspace(0.0, 0.4, 50), np.linspace(0.39, 0.999, 100)])
    lines = ["name,label,probability" + (",darker,blurred,counterfactual_tone,counterfactual_all" if shifted else "")]
    for number, (label, score) in enumerate(zip(labels, scores, strict=True)):
        lines.append(f"{number}.jpeg,{label},{score}" + (f",{label},{1 - label},{label},{label}" if shifted else ""))
    files.write_text(folder / "validation.csv", "\n".join(lines) + "\n")


def test_the_numbers_are_those_of_the_records(tmp_path: Path) -> None:
    _write(tmp_path / "one")
    _write(tmp_path / "two", shifted=False)
    header, _, one, two = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in training_table.table(tmp_path).splitlines()
    )
    row = dict(zip(header, one, strict=True))
    assert (row["run"], row["backbone"], row["seed"]) == ("one", "mobilenetv2", "3")
    assert (row["epochs, head + whole"], row["minutes"]) == ("1 + 1", "2")
    # The rule of the recipe: the largest specificity with a sensitivity of at least 0.95.
    assert (row["sensitivity"], row["specificity"]) == ("0.950", "1.000")
    assert row["AUC"].startswith("0.99") and "[" in row["AUC"]
    # One shift judged all rightly and the other all wrongly.
    assert (row["AUC, shifted"], row["accuracy, shifted"]) == ("0.5000", "0.500")
    assert row["AUC, counterfactual"] == "1.0000"
    without = dict(zip(header, two, strict=True))
    assert without["AUC, shifted"] == without["AUC, counterfactual"] == ""


@pytest.mark.parametrize("missing", ["history.csv", "validation.csv"])
def test_a_run_without_its_records_is_named(missing: str, tmp_path: Path) -> None:
    _write(tmp_path / "one")
    (tmp_path / "one" / missing).unlink()
    with pytest.raises(TrainingError, match="one cannot be read"):
        training_table.table(tmp_path)


def test_the_page_shows_the_runs_in_the_repository() -> None:
    page = (_ROOT / training_table.PAGE).read_text(encoding="utf-8")
    assert training_table.table(_ROOT / training_table.RESULTS) in page
