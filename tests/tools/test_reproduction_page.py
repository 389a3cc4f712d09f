"""The page of the reproduction: its table and figure come from the outcomes in the repository."""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest

from pneumo_edge._util import files, records
from pneumo_edge.errors import ResultsError, TrainingError
from pneumo_edge.training.report_recipes import PUBLISHED, REPRODUCTIONS
from pneumo_edge.training.reproduction import LossAndAccuracy, Modes, Reestimated, ReportEpoch, Result
from tools import pages
from tools import reproduction_page as page

_ROOT = Path(__file__).parents[2]


def _result(name: str) -> Result:
    return Result(
        recipe=REPRODUCTIONS[name],
        seed=0,
        epoch_limit=2,
        epochs=2,
        train_images={"NORMAL": 300, "PNEUMONIA": 900},
        train_images_sha256="ab" * 32,
        validation_images={"NORMAL": 234, "PNEUMONIA": 374},
        test_images=624,
        modes=Modes(128, LossAndAccuracy(0.1, 0.98), LossAndAccuracy(None, 0.61)),
        data="folder chest_xray",
        real=True,
        fingerprint="cd" * 32,
        left_out={},
        initial_weights="ImageNet, from some file",
        versions={"keras": "3.15.1", "tensorflow": "2.21.0"},
        reestimated=Reestimated(49, 1200, 0.875, 0.6, 0.95),
    )


def _write(folder: Path, result: Result) -> None:
    files.write_text(folder / result.recipe.name / "reproduction.json", records.dumps(result))
    rows = [
        ReportEpoch("all layers", epoch, 0.2, 0.9 + epoch / 20, 96.0 - epoch, accuracy, auc, 9.0, 1.0, 1e-3)
        for epoch, accuracy, auc in ((0, 0.6151, 0.7), (1, 0.3849, float("nan")))
    ]
    with (folder / result.recipe.name / "history.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([field.name for field in dataclasses.fields(ReportEpoch)])
        writer.writerows(dataclasses.astuple(row) for row in rows)


def test_the_table_has_each_run_as_published_and_as_found(tmp_path: Path) -> None:
    _write(tmp_path, _result("report-train-model-scaling"))
    lines = page.table(page.find(tmp_path)).splitlines()
    assert [line for line in lines if "as published" in line] == [
        line for line in lines if any(line.startswith(f"| `{published.name}` |") for published in PUBLISHED.values())
    ]
    assert sum("not run" in line for line in lines) == len(REPRODUCTIONS) - 1
    (found,) = (line for line in lines if "1,200" in line)
    cells = [cell.strip() for cell in found.strip("|").split("|")]
    assert cells == [
        "", "scaling put right", "1,200 x 2", "0.950", "0.6151, 0.3849", "100%", "none", "96", "0.980 / 0.610",
        "0.8750",
    ]  # fmt: skip
    assert "608 of the 624 test images" in lines[-1] and "keras 3.15.1" in lines[-1]
    columns = {line.count("|") for line in lines if line.startswith("|")}
    assert len(columns) == 1


def test_the_figure_can_be_drawn_with_all_runs_and_with_none(tmp_path: Path) -> None:
    page.draw({}, tmp_path / "none.png")
    for name in REPRODUCTIONS:
        _write(tmp_path, _result(name))
    page.draw(page.find(tmp_path), tmp_path / "all.png")
    assert (tmp_path / "all.png").stat().st_size > (tmp_path / "none.png").stat().st_size > 0


def test_the_table_is_put_between_the_markers_again_and_again(tmp_path: Path) -> None:
    copy = tmp_path / "page.md"
    copy.write_text((_ROOT / page.PAGE).read_text(encoding="utf-8"), encoding="utf-8")
    pages.put_table(copy, "report-reproduction", "| one |")
    pages.put_table(copy, "report-reproduction", "| two |\n")
    text = copy.read_text(encoding="utf-8")
    assert "| two |" in text and "| one |" not in text and text.startswith("# ")
    copy.write_text("no markers", encoding="utf-8")
    with pytest.raises(ResultsError, match="no place for the table"):
        pages.put_table(copy, "report-reproduction", "| three |")


def test_outcomes_of_another_recipe_or_of_phantoms_are_refused(tmp_path: Path) -> None:
    result = _result("report-mobilenet")
    _write(tmp_path, replace(result, recipe=replace(result.recipe, batch_size=64)))
    with pytest.raises(TrainingError, match="another recipe of that name"):
        page.find(tmp_path)
    _write(tmp_path, replace(result, real=False))
    with pytest.raises(TrainingError, match="phantom images"):
        page.find(tmp_path)


def test_the_page_shows_what_lies_in_the_repository() -> None:
    text = (_ROOT / page.PAGE).read_text(encoding="utf-8")
    assert page.table(page.find(_ROOT / page.RESULTS)) in text
    assert (_ROOT / page.FIGURE).exists()


def test_every_run_of_the_report_is_named_in_the_page() -> None:
    text = (_ROOT / page.PAGE).read_text(encoding="utf-8")
    for name, published in PUBLISHED.items():
        assert f"`{name}`" in text and published.name in text
