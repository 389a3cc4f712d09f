"""What ``predict`` and ``info`` say where a label is not to be taken as it stands."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from pneumo_edge import Classifier
from pneumo_edge.cli import app
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import ConformalSpec

#: Grey levels whose probability of PNEUMONIA is 0.007, 0.32, 0.5, 0.68 and 0.99.
_LEVELS = {"dark": 22, "darkish": 112, "middle": 128, "brightish": 144, "bright": 233}


@pytest.fixture(scope="module")
def model(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose sets hold PNEUMONIA from 0.6 on, and NORMAL up to 0.4."""
    return _with_bounds(tiny_models, tmp_path_factory.mktemp("certain"), ConformalSpec(0.9, 0.6, 0.4, {}, "nothing"))


def _with_bounds(tiny_models: Path, folder: Path, bounds: ConformalSpec) -> Path:
    path = folder / "tiny-fp32.tflite"
    write_spec(tiny_models / "bare" / path.name, path, replace(read_spec(tiny_models / path.name), conformal=bounds))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, level in _LEVELS.items():
        Image.new("L", (64, 64), level).save(folder / f"{name}.png")
    return folder


def _run(verb: str, *arguments: object) -> Result:
    result = CliRunner().invoke(app, [verb, *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


def _by_name(images: list[dict[str, Any]], key: str, field: str) -> dict[str, Any]:
    return {Path(image[key]).stem: image[field] for image in images}


_UNCERTAIN = {"dark": False, "darkish": False, "middle": True, "brightish": False, "bright": False}


def test_json_has_the_prediction_set(model: Path, folder: Path) -> None:
    images = json.loads(_run("predict", folder, "--model", model, "--json").stdout)["images"]
    assert _by_name(images, "source", "uncertain") == _UNCERTAIN
    assert _by_name(images, "source", "prediction_set") == {
        "dark": ["NORMAL"], "darkish": ["NORMAL"], "middle": [], "brightish": ["PNEUMONIA"], "bright": ["PNEUMONIA"],
    }  # fmt: skip
    assert _by_name(images, "source", "label")["middle"] == "PNEUMONIA", "the label stays what it was"
    lines = _run("predict", folder, "--model", model, "--jsonl").stdout.splitlines()
    assert _by_name(list(map(json.loads, lines)), "source", "uncertain") == _UNCERTAIN


def test_csv_and_parquet_have_a_column(model: Path, folder: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(_run("predict", folder, "--model", model, "--csv").stdout)))
    assert {name: text == "true" for name, text in _by_name(rows, "image", "uncertain").items()} == _UNCERTAIN
    assert {row["uncertain"] for row in rows} == {"true", "false"}
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "verdicts.parquet"
    result = _run("predict", folder, "--model", model, "--out", out)
    assert _by_name(parquet.read_table(out).to_pylist(), "image", "uncertain") == _UNCERTAIN
    assert result.stdout == f"{out}: 5 images: 3 PNEUMONIA, 2 NORMAL; of these 1 uncertain\n"


def test_the_table_has_a_remark(model: Path, folder: Path) -> None:
    header, *lines = _run("predict", folder, "--model", model).stdout.splitlines()
    assert header.split() == ["label", "p(PNEUMONIA)", "threshold", "ms", "remark", "image"]
    remarks = {Path(line.split()[-1]).stem: line.split()[4] for line in lines}
    assert remarks == {name: "uncertain" if flag else "-" for name, flag in _UNCERTAIN.items()}


def test_a_label_that_is_at_odds_with_its_set_is_uncertain(tiny_models: Path, tmp_path: Path) -> None:
    # Both bounds lie above the threshold of 0.5, where the model would call it PNEUMONIA.
    model = _with_bounds(tiny_models, tmp_path, ConformalSpec(0.9, 0.9, 0.8, {}, "nothing"))
    result = Classifier(model).predict(Image.new("L", (64, 64), _LEVELS["brightish"]))
    assert (result.label, result.prediction_set, result.uncertain) == ("PNEUMONIA", ("NORMAL",), True)


def test_bounds_that_overlap_leave_both_classes(tiny_models: Path, tmp_path: Path) -> None:
    model = _with_bounds(tiny_models, tmp_path, ConformalSpec(0.9, 0.2, 0.8, {}, "nothing"))
    result = Classifier(model).predict(Image.new("L", (64, 64), _LEVELS["darkish"]))
    assert (result.label, result.prediction_set, result.uncertain) == ("NORMAL", ("NORMAL", "PNEUMONIA"), True)


def test_info_says_when_an_answer_is_uncertain(model: Path) -> None:
    text = _run("info", model).stdout
    assert "It contains PNEUMONIA at probabilities from 0.6000, NORMAL up to 0.4000. It contains the true class" in text


def test_a_file_that_does_not_say_is_judged_as_ever(tiny_models: Path, folder: Path) -> None:
    model = tiny_models / "tiny-fp32.tflite"
    assert _run("predict", folder, "--model", model).stdout.split()[:5] == [
        "label", "p(PNEUMONIA)", "threshold", "ms", "image",
    ]  # fmt: skip
    images = json.loads(_run("predict", folder, "--model", model, "--json").stdout)["images"]
    assert {image["uncertain"] for image in images} == {None}
    rows = csv.DictReader(io.StringIO(_run("predict", folder, "--model", model, "--csv").stdout))
    assert {row["uncertain"] for row in rows} == {""}
    assert "not checked; export the model again to add the check" in _run("info", model).stdout
