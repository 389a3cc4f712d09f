"""The table of model files on counterfactual validation: every number from the records."""

from __future__ import annotations

from pathlib import Path

from pneumo_edge import bundled
from pneumo_edge._util import files, records
from pneumo_edge.training.counterfactuals import KINDS
from tools import counterfactual_files

_ROOT = Path(__file__).parents[2]


def test_a_row_has_the_numbers_of_its_record(tmp_path: Path) -> None:
    metrics = {"counterfactual_auc": 0.91} | {
        f"counterfactual_{what}_{kind}": number / 10 for number, kind in enumerate(KINDS) for what in ("auc", "flips")
    }
    measured = counterfactual_files.Measured(
        "mobilenetv2", "tflite-int8", "robust", 3, "ab" * 32, "cd" * 32, 523, 0.99, metrics
    )
    files.write_text(tmp_path / "one.json", records.document(measured))
    heading, _, row = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in counterfactual_files.table(tmp_path).splitlines()
    )
    cells = dict(zip(heading, row, strict=True))
    assert (cells["file"], cells["recipe"], cells["seed"]) == ("MobileNetV2, `tflite-int8`", "`robust`", "3")
    assert (cells["AUC"], cells["AUC, counterfactual"]) == ("0.9900", "0.9100")
    assert (cells["tone"], cells["all"], cells["flips, all"]) == ("0.2000", "0.4000", "40.0%")


def test_the_page_shows_the_records_in_the_repository() -> None:
    page = (_ROOT / counterfactual_files.PAGE).read_text(encoding="utf-8")
    assert counterfactual_files.table(_ROOT / counterfactual_files.RESULTS) in page


def test_the_records_of_the_bundled_recipe_are_of_the_bundled_files() -> None:
    of_files = {files.sha256(bundled.path(name)) for name in bundled.NAMES}
    paths = sorted((_ROOT / counterfactual_files.RESULTS).glob("*.json"))
    measured = [records.loads(counterfactual_files.Measured, path.read_bytes()) for path in paths]
    assert of_files <= {each.sha256 for each in measured}
