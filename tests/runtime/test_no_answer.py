"""An image for which a model gives NaN fails alone, as an unreadable one does."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pneumo_edge import Classifier
from pneumo_edge.cli import app
from pneumo_edge.errors import ExitCode, NoAnswerError
from tests.scale import archives

pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

_SAID = "gave [nan, nan] on onnxruntime; expected 2 probabilities that sum to 1"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A dark image, a black one and a bright one."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, level in (("a-dark", 30), ("b-black", 0), ("c-bright", 220)):
        Image.new("L", (40, 40), level).save(folder / f"{name}.png")
    return folder


def _data(folder: Path) -> Path:
    """Class folders of noise, with a black test image."""
    for split, count in (("train", 4), ("test", 3)):
        for label, name in enumerate(("NORMAL", "PNEUMONIA")):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                random = np.random.default_rng([label, index, count])
                pixels = random.integers(20 + 120 * label, 80 + 120 * label, (40, 40)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    Image.new("L", (40, 40)).save(folder / "test" / "NORMAL" / "black.png")
    return folder


@pytest.mark.parametrize("workers", [1, 2])
def test_predict_classifies_the_others(nan_on_black: Path, images: Path, tmp_path: Path, workers: int) -> None:
    words = ["predict", str(images), "--model", str(nan_on_black), "--workers", str(workers)]
    shown = CliRunner().invoke(app, [*words, "--json"])
    assert shown.exit_code == ExitCode.SOME_UNJUDGED, shown.stderr
    dark, black, bright = json.loads(shown.stdout)["images"]
    assert (dark["label"], bright["label"]) == ("NORMAL", "PNEUMONIA")
    assert _SAID in black["error"] and "label" not in black
    assert "RuntimeWarning" not in shown.stderr

    written = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out.csv")])
    assert written.exit_code == ExitCode.SOME_UNJUDGED
    with (tmp_path / "out.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert (rows[1]["label"], rows[1]["PNEUMONIA"]) == ("", "")


def test_score_classifies_the_others(nan_on_black: Path, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    found, manifest = archives.score_here(Classifier(nan_on_black), images, tmp_path / "out")
    assert [row["label"] for row in found] == ["NORMAL", None, "PNEUMONIA"]
    assert found[1]["error_kind"] == "NoAnswerError" and _SAID in found[1]["error"]
    assert manifest.errors == {"NoAnswerError": 1}


def test_evaluate_names_the_image_and_scores_the_other_files(
    nan_on_black: Path, tiny_models: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for path in (nan_on_black, tiny_models / "tiny-fp32.onnx"):
        shutil.copy(path, models)
    words = ["--data", str(_data(tmp_path / "data")), "--split", "test", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["evaluate", str(models), *words])
    assert done.exit_code == ExitCode.SOME_UNJUDGED, done.output
    (line,) = [line for line in done.stderr.splitlines() if "nan.onnx" in line]
    assert "for test/NORMAL/black.png " in line
    assert f"{_SAID}, for every image. Leave the image out" in line
    assert "tiny-fp32.onnx" in done.stdout


def test_from_python_it_is_an_error_of_the_image(nan_on_black: Path, images: Path) -> None:
    with pytest.raises(NoAnswerError, match="another model file"):
        Classifier(nan_on_black).predict(images / "b-black.png")
