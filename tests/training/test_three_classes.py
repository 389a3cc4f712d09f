"""Three classes from the file names to a benchmark, by the command line: one small run that all tests here share."""

from __future__ import annotations

import csv
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from typer.testing import CliRunner, Result

from pneumo_edge import Classifier
from pneumo_edge.backbones import BACKBONES
from pneumo_edge.cli import app
from pneumo_edge.converters import isolated
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.errors import ExitCode
from pneumo_edge.training.recipes import RECIPES
from tests import tiny_backbone
from tests.converting import converting_in

pytest.importorskip("psutil", reason="the extra 'bench' is not installed")
pytest.importorskip("matplotlib", reason="the extra 'report' is not installed")
pytestmark = pytest.mark.slow

#: Any text may be a class: a name with spaces, one with marks of HTML and tables, and one that looks like a formula.
_NAMES = ("normal lungs", "bäcteria | <i>x</i>", "=virus")
_CLASSES = r"NORMAL=normal lungs,BACTERIA=bäcteria | <i>x</i>,VIRUS=\=virus"
_LITTLE = ("--preset", "rapid", "--processes", "1", "--queries", "3", "--seconds", "0", "--engine", "litert")


@dataclass(frozen=True)
class Three:
    """A run of three classes: its data, its folder, its model files, and a test image."""

    data: Path
    run: Path
    models: Path
    image: Path

    @property
    def model(self) -> Path:
        return self.models / "tiny-fp32.tflite"


@pytest.fixture(scope="module")
def three(keras: Any, converter: isolated.Child, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    folder = tmp_path_factory.mktemp("three")
    quick = RECIPES["quick"]
    data = make_phantom(folder / "data", seed=3, train_per_class=60, test_per_class=16)
    with pytest.MonkeyPatch.context() as patch, converting_in(converter):
        patch.setenv("PNEUMO_EDGE_CACHE", str(folder / "cache"))
        patch.setitem(BACKBONES, tiny_backbone.NAME, tiny_backbone.ROW)
        patch.setitem(RECIPES, "quick", replace(quick, head=replace(quick.head, epochs=1, patience=None)))
        _run(
            "train", "--data", str(data), "--classes", _CLASSES, "--backbone", tiny_backbone.NAME,
            "--image-size", str(tiny_backbone.ROW.side), "--recipe", "quick", "--out", str(folder / "run"),
        )  # fmt: skip
        formats = [word for name in ("tflite-fp32", "tflite-int8", "onnx-fp32") for word in ("--format", name)]
        _run("export", str(folder / "run"), *formats, "--out", str(folder / "models"))
        image = next((data / "test" / "PNEUMONIA").glob("*virus*"))
        yield Three(data, folder / "run", folder / "models", image)


def test_the_run_and_its_files_say_how_they_decide(three: Three) -> None:
    record = json.loads((three.run / "run.json").read_text())
    assert tuple(record["class_names"]) == _NAMES
    assert record["decision"]["positive_class"] is None and record["decision"]["threshold"] is None
    assert {"auc", "least_auc", "balanced_accuracy"} <= record["training"]["validation"].keys()
    with (three.run / "validation.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    shares = np.array([[float(row[f"probability_{place}"]) for place in range(3)] for row in rows])
    assert shares.sum(axis=1) == pytest.approx(1, abs=1e-6)
    for suffix in ("fp32.tflite", "int8.tflite", "fp32.onnx"):
        spec = Classifier(three.models / f"tiny-{suffix}").spec
        assert spec.class_names == _NAMES and spec.decision.threshold is None
        assert spec.conformal and spec.conformal.least and tuple(spec.conformal.least) == _NAMES
    assert "most probable class" in _run("info", str(three.model)).stdout


def test_an_answer_is_the_most_probable_class_and_its_own_heatmap(three: Three) -> None:
    classifier = Classifier(three.model)
    found = classifier.predict(three.image, explain=True)
    assert found.label == max(found.probabilities, key=lambda name: found.probabilities[name])
    assert found.probability == max(found.probabilities.values()) and found.threshold is None
    assert tuple(found.probabilities) == _NAMES
    assert found.prediction_set is not None and set(found.prediction_set) <= set(_NAMES)
    assert classifier.spec.conformal and classifier.spec.conformal.least
    least = classifier.spec.conformal.least
    assert found.prediction_set == tuple(name for name in _NAMES if found.probabilities[name] >= least[name])
    # The mean over the cells is the logit of the label less the mean of the others'.
    logits = {name: np.log(share) for name, share in found.probabilities.items()}
    others = [logit for name, logit in logits.items() if name != found.label]
    assert found.heatmap is not None and found.heatmap.ndim == 2
    assert float(found.heatmap.mean()) == pytest.approx(logits[found.label] - np.mean(others), abs=1e-3)


def test_predict_prints_and_writes_the_probability_of_each_class(three: Three, tmp_path: Path) -> None:
    arguments = ("predict", str(three.image), "--model", str(three.model))
    table = _run(*arguments).stdout
    assert "p(label)" in table and "threshold" not in table
    (answer,) = json.loads(_run(*arguments, "--json").stdout)["images"]
    assert answer["threshold"] is None and tuple(answer["probabilities"]) == _NAMES
    _run(*arguments, "--out", str(tmp_path / "answers.csv"))
    (row,) = csv.DictReader((tmp_path / "answers.csv").read_text(encoding="utf-8").splitlines())
    # A spreadsheet would take the last name for a formula.
    assert float(row["'=virus"]) == pytest.approx(answer["probabilities"]["=virus"])
    assert row["threshold"] == ""
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra 'parquet' is not installed")
    _run(*arguments, "--out", str(tmp_path / "answers.parquet"))
    (stored,) = parquet.read_table(tmp_path / "answers.parquet").to_pylist()
    assert [stored[name] for name in _NAMES] == pytest.approx(list(answer["probabilities"].values()))


def test_every_file_passes_its_acceptance_checks_again(three: Three) -> None:
    for suffix in ("fp32.tflite", "int8.tflite", "fp32.onnx"):
        _run("verify", str(three.models / f"tiny-{suffix}"))


def test_an_evaluation_has_the_metrics_of_each_class(three: Three, tmp_path: Path) -> None:
    shown = _run("evaluate", str(three.models), "--data", str(three.data), "--split", "test", "--out", str(tmp_path))
    assert "Balanced accuracy" in shown.stdout
    scores = json.loads((tmp_path / "scores.json").read_text())
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    labels = np.array([image["label"] for image in scores["data"]["images"]])
    by_file = {file["model"]["file"]: np.array(file["class_probabilities"]) for file in scores["files"]}
    assert len(metrics["models"]) == 3
    for each in metrics["models"]:
        shares = by_file[each["model"]["file"]]
        assert each["metrics"]["auc"]["value"] == pytest.approx(roc_auc_score(labels, shares, multi_class="ovr"))
        balanced = balanced_accuracy_score(labels, shares.argmax(axis=1))
        assert each["metrics"]["balanced_accuracy"]["value"] == pytest.approx(balanced)
        assert np.sum(each["matrix"]["counts"]) == len(labels) and tuple(each["by_class"]) == _NAMES
    page = (tmp_path / "evaluation.md").read_text(encoding="utf-8")
    assert "Class by class" in page and "<i>x</i>" not in page
    assert (tmp_path / "roc.png").stat().st_size and (tmp_path / "reliability.png").stat().st_size


def test_a_benchmark_reports_and_compares_three_classes(three: Three, tmp_path: Path) -> None:
    report = tmp_path / "report"
    _run("benchmark", str(three.model), "--data", str(three.data), *_LITTLE, "--out", str(report))
    results = report / "results.json"
    assert tuple(json.loads(results.read_text())["test_set"]["class_names"]) == _NAMES
    assert "Macro AUC" in (report / "report.md").read_text(encoding="utf-8")
    assert "<i>x</i>" not in (report / "report.html").read_text(encoding="utf-8")
    chosen = _run("choose", str(results)).stdout
    assert "tiny-fp32.tflite" in chosen and "macro AUC" in chosen and "mean sensitivity" in chosen
    _run("compare", str(results), str(results))


def test_files_and_data_of_other_classes_are_refused_in_a_sentence(three: Three, tmp_path: Path) -> None:
    bundled = CliRunner().invoke(
        app,
        ["evaluate", "mobilenetv2", "--data", str(three.data), "--classes", _CLASSES, "--out", str(tmp_path)],
    )
    assert bundled.exit_code == ExitCode.FAILED
    assert "has the classes NORMAL, PNEUMONIA" in bundled.stderr and "Traceback" not in bundled.stderr


def test_the_service_answers_with_every_class(three: Three) -> None:
    pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
    command = [sys.executable, "-m", "pneumo_edge", "serve", "--port", "0", "--model", str(three.model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout
            found = re.match(r"Listening on (http://\S+/)", process.stdout.readline())
            assert found
            connection = http.client.HTTPConnection(urlsplit(found[1]).netloc, timeout=60)
            connection.request(
                "POST", "/predict?explain=true", three.image.read_bytes(), {"Content-Type": "image/jpeg"}
            )
            answer = json.loads(connection.getresponse().read())
            connection.request("GET", "/")
            page = connection.getresponse().read().decode()
            connection.request("GET", "/metrics")
            metrics = connection.getresponse().read().decode()
            connection.close()
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    expected = Classifier(three.model).predict(three.image)
    assert answer["label"] == expected.label and answer["probabilities"] == dict(expected.probabilities)
    assert answer["threshold"] is None and answer["explanation"]["heatmap"]
    assert 'data-positive=""' in page  # its script then explains the class that is shown
    assert 'label="=virus"' in metrics


def test_the_positive_class_may_be_the_first(three: Three, tmp_path: Path) -> None:
    """Threshold, prediction sets and metrics are those of the positive class, wherever it stands."""
    run, models, out = tmp_path / "run", tmp_path / "models", tmp_path / "evaluation"
    _run(
        "train", "--data", str(three.data), "--classes", "PNEUMONIA,NORMAL", "--positive", "PNEUMONIA",
        "--backbone", tiny_backbone.NAME, "--image-size", str(tiny_backbone.ROW.side), "--recipe", "quick",
        "--out", str(run),
    )  # fmt: skip
    record = json.loads((run / "run.json").read_text())
    assert record["class_names"] == ["PNEUMONIA", "NORMAL"] and record["decision"]["positive_class"] == "PNEUMONIA"
    with (run / "validation.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    # The labels are places among the classes; the probability is that of the positive one.
    ill, shares = [row["label"] == "0" for row in rows], [float(row["probability"]) for row in rows]
    assert record["training"]["validation"]["auc"] == pytest.approx(roc_auc_score(ill, shares))
    _run("export", str(run), "--format", "tflite-fp32", "--out", str(models))
    _run("verify", str(models / "tiny-fp32.tflite"))
    _run("evaluate", str(models), "--data", str(three.data), "--split", "test", "--out", str(out))
    scores, metrics = (json.loads((out / f"{name}.json").read_text()) for name in ("scores", "metrics"))
    (file,), (measured,) = scores["files"], metrics["models"]
    shows = np.array([image["label"] == 0 for image in scores["data"]["images"]])
    called = np.array(file["probabilities"]) >= file["model"]["threshold"]
    assert measured["metrics"]["auc"]["value"] == pytest.approx(roc_auc_score(shows, file["probabilities"]))
    assert measured["confusion"]["true_positives"] == np.sum(shows & called)
    assert measured["confusion"]["true_negatives"] == np.sum(~shows & ~called)
    assert list(metrics["data"]["classes"]) == ["NORMAL", "PNEUMONIA"]
    spec = Classifier(models / "tiny-fp32.tflite").spec
    assert spec.conformal and spec.conformal.least_positive is not None
    # With so few patients the sets hold every validation image of their class.
    assert (
        min(share for share, is_ill in zip(shares, ill, strict=True) if is_ill) >= spec.conformal.least_positive - 1e-5
    )


def _run(*words: str) -> Result:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, f"pneumo-edge {' '.join(words)}\n{done.output}"
    return done
