"""A backbone is added by a row of the table, and nothing else: it trains, exports, and is measured and named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner

import pneumo_edge
from pneumo_edge.api.benchmark import Benchmark
from pneumo_edge.api.export import ExportedFile
from pneumo_edge.api.train import TrainedRun
from pneumo_edge.backbones import BACKBONES, Backbone
from pneumo_edge.cli import app
from pneumo_edge.converters import isolated
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.data.sources import PHANTOM_MARKER
from pneumo_edge.spec import COMPONENTS, HEATMAP, RANDOM_WEIGHTS
from pneumo_edge.task import PNEUMONIA
from tests.converting import converting_in

pytest.importorskip("psutil", reason="the extra 'bench' is not installed")
pytest.importorskip("jinja2", reason="the extra 'report' is not installed")
pytestmark = pytest.mark.slow

#: All that is written for it. It scales pixels itself, and no weights are named, so that no network is asked.
_ROW = Backbone("mobilenetv3small", "MobileNetV3Small", "keras.applications:MobileNetV3Small", decoder_scale=1.5)
#: What the run and its files are called: the images are smaller than usual.
_NAME = f"{_ROW.name}-96"
#: Of random networks, some take so little notice of colour that quantization turns it round, and the gate refuses their
#: int8 files. With this seed they answer to colour as the Keras model does, to a hundredth.
_SEED = 4
_FORMATS = ("tflite-fp32", "tflite-int8", "onnx-fp32", "onnx-int8")


@dataclass(frozen=True)
class _Made:
    run: TrainedRun
    files: tuple[ExportedFile, ...]
    benchmark: Benchmark
    evaluation: Path


@pytest.fixture(scope="module")
def made(keras: Any, converter: isolated.Child, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Made]:
    folder = tmp_path_factory.mktemp("new-backbone")
    data = make_phantom(folder / "data", seed=0, train_per_class=60, test_per_class=12)
    # A card is written of X-rays alone; for this test they pass for such.
    (data / PHANTOM_MARKER).unlink()
    # A lesson that random features can learn: without one, all answers are alike, and any file agrees with any other.
    for path in data.glob("*/PNEUMONIA/*.jpeg"):
        with Image.open(path) as image:
            ImageOps.invert(image).save(path, quality=90)
    with pytest.MonkeyPatch.context() as patch, converting_in(converter):
        patch.setitem(BACKBONES, _ROW.name, _ROW)
        patch.setenv("PNEUMO_EDGE_CACHE", str(folder / "cache"))
        run = pneumo_edge.train(data, _ROW.name, recipe="quick", image_size=96, seed=_SEED, out=folder / "run")
        files = pneumo_edge.export(run, _FORMATS, out=folder / "models")
        # Beside a bundled model, so that there are claims of one beside the other.
        tflite = [file.path for file in files if file.path.suffix == ".tflite"]
        little: dict[str, Any] = {"preset": "rapid", "processes": 2, "queries": 5, "seconds": 0.1}
        models: list[str | Path] = [*tflite, "efficientnetb0"]
        measured = pneumo_edge.benchmark(models, data, engines="litert", out=folder / "report", **little)
        pneumo_edge.evaluate(tflite, data, split="test", engine="litert", out=folder / "evaluation")
        yield _Made(run, files, measured, folder / "evaluation")


def test_it_trains(made: _Made) -> None:
    record = made.run.record
    assert (record.backbone, record.task) == (_NAME, PNEUMONIA)
    assert (record.height, record.width) == (96, 96)
    assert record.training.initial_weights == RANDOM_WEIGHTS
    assert record.training.validation["auc"] > 0.9


def test_every_format_passes_its_gate_and_carries_what_the_row_says(made: _Made) -> None:
    assert [file.path.name for file in made.files] == [
        f"{_NAME}-{each.split('-')[1]}.{each.split('-')[0]}" for each in _FORMATS
    ]
    for file in made.files:
        assert file.spec.backbone == _NAME and file.spec.input.height == 96
        assert file.spec.smallest_decoded is None, "measured of the row's own size alone"
        assert {output.name for output in file.spec.outputs if output.faithful} == {HEATMAP, COMPONENTS}
        assert file.proof.verification.measured


def test_it_classifies(made: _Made) -> None:
    x_ray = Image.linear_gradient("L").resize((224, 224))
    for file in made.files:
        found = pneumo_edge.Classifier(file.path).predict(x_ray)
        assert found.label in PNEUMONIA.class_names and sum(found.probabilities.values()) == pytest.approx(1, abs=1e-3)


def test_the_report_and_its_verdict_name_it_as_its_authors_do(made: _Made) -> None:
    assert not made.benchmark.results.skipped
    assert {row.model.backbone for row in made.benchmark.summary.rows} == {_NAME, "efficientnetb0"}
    text = (made.benchmark.results_file.parent / "report.md").read_text(encoding="utf-8")
    verdict = text[text.index("\n## Verdict") :]
    verdict = verdict[: verdict.index("\n## ", 4)]
    assert "MobileNetV3Small-96's file is smaller than EfficientNetB0's: supported" in verdict
    _never_bare(text)


def test_its_card_names_it_and_says_what_it_started_from(made: _Made) -> None:
    (int8,) = (file.path for file in made.files if file.path.name == f"{_NAME}-int8.tflite")
    done = CliRunner().invoke(app, ["card", str(int8), "--metrics", str(made.evaluation / "metrics.json")])
    assert done.exit_code == 0, done.output
    text = int8.with_suffix(".md").read_text(encoding="utf-8")
    assert text.startswith("# Model card: MobileNetV3Small-96, int8\n")
    assert "**Network:** MobileNetV3Small-96, " in text
    assert text.count(f"**Initial weights:** {RANDOM_WEIGHTS}\n") == 2 and "ImageNet" not in text
    _never_bare(text)


def test_the_page_of_the_evaluation_names_it(made: _Made) -> None:
    text = (made.evaluation / "evaluation.md").read_text(encoding="utf-8")
    assert "| MobileNetV3Small-96 |" in text
    _never_bare(text)


def _never_bare(text: str) -> None:
    """Its name in commands stands in file names and commands, and nowhere in the place of its title."""
    bare = re.findall(rf".*\b{_NAME}\b(?![-.]).*", text)
    assert all("--backbone" in line for line in bare), bare
