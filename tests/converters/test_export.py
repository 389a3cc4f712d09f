"""Conversion and its gate, with the real converters and engines on a tiny network."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from converters import formats, verify
from converters.export import export
from converters.formats import FORMATS, Format
from pneumo_edge import Classifier, runs
from pneumo_edge.cli import app
from pneumo_edge.data.sources import SplitName
from pneumo_edge.data.tensors import Dataset
from pneumo_edge.errors import ConversionError, GateError, MissingExtraError
from pneumo_edge.evaluation.operating_point import ThresholdRule
from pneumo_edge.runtime import engines

pytestmark = pytest.mark.slow

KerasSays = dict[SplitName, npt.NDArray[np.float32]]
_ROWS = list(FORMATS.values())
_IMPOSSIBLE = replace(FORMATS["tflite-fp32"].bounds, max_difference=-1.0)


@pytest.fixture(scope="module")
def exported(tiny_run: Path, phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models")
    outcomes = list(export(tiny_run, _ROWS, out, phantom / "cache"))
    assert not [outcome.missed for outcome in outcomes if outcome.missed]
    assert [outcome.path.name for outcome in outcomes] == [row.file_name("tiny") for row in _ROWS]
    return out


@pytest.mark.parametrize("row", _ROWS, ids=list(FORMATS))
def test_each_file_agrees_with_keras_on_each_of_its_engines(
    row: Format, exported: Path, dataset: Dataset, keras_says: KerasSays
) -> None:
    pixels, expected = dataset.rgb(dataset.indices("test")), keras_says["test"]
    path = exported / row.file_name("tiny")
    for info in engines.installed_engines_for(path):
        classifier = Classifier(path, engine=info.name)
        found = np.stack([classifier.engine.run(classifier.as_input(image)) for image in pixels])
        np.testing.assert_allclose(found, expected, atol=0.1 if row.calibrated else row.bounds.max_difference)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("row", _ROWS, ids=list(FORMATS))
def test_each_file_carries_its_spec(row: Format, exported: Path, tiny_run: Path) -> None:
    classifier = Classifier(exported / row.file_name("tiny"))
    spec, run = classifier.spec, runs.load(tiny_run)
    assert (spec.format, spec.backbone, spec.input.dtype) == (row.name, "tiny", row.input_dtype)
    assert spec.data.fingerprint == run.data.fingerprint
    assert spec.verification is not None
    assert set(spec.verification.engines) == {info.name for info in engines.installed_engines_for(classifier.path)}
    assert all(set(measured) >= {"max_difference", "agreement"} for measured in spec.verification.measured.values())
    assert (spec.calibration is not None) == row.calibrated
    assert row.calibrated or spec.decision.threshold == run.decision.threshold


def test_a_quantized_file_takes_bytes_as_they_are(exported: Path) -> None:
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    (image,) = litert.Interpreter(str(exported / "tiny-int8.tflite")).get_input_details()
    assert image["dtype"] is np.uint8 and image["quantization"] == (1.0, 0)


def test_a_file_that_misses_its_gate_is_not_left_behind(
    tiny_run: Path, phantom: Path, exported: Path, tmp_path: Path
) -> None:
    row = replace(FORMATS["tflite-fp32"], bounds=_IMPOSSIBLE)
    stale = tmp_path / row.file_name("tiny")
    shutil.copy(exported / stale.name, stale)
    (outcome,) = export(tiny_run, [row], tmp_path, phantom / "cache")
    assert outcome.missed is not None
    assert "largest difference of probability" in str(outcome.missed)
    assert not stale.exists()
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tflite"]


def test_a_missed_gate_ends_the_command_with_its_exit_code(
    tiny_run: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(phantom / "cache"))
    monkeypatch.setitem(formats.FORMATS, "tflite-fp32", replace(FORMATS["tflite-fp32"], bounds=_IMPOSSIBLE))
    result = CliRunner().invoke(app, ["export", str(tiny_run), "--format", "fp32", "--out", str(tmp_path)])
    assert result.exit_code == 5
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert "tiny-fp32.tflite on litert" in line and "at most -1" in line
    assert "tiny-fp32.onnx" in result.stdout, "the other format is made all the same"
    assert (tmp_path / "tiny-fp32.onnx").exists()


@pytest.fixture
def reference(dataset: Dataset, keras_says: KerasSays) -> verify.Reference:
    indices, scores = dataset.indices("val"), keras_says["val"][:, 1].astype(np.float64)
    return verify.Reference(dataset.rgb(indices), dataset.labels(indices), scores, 1, 0.5, ThresholdRule.YOUDEN, "test")


def test_the_gate_passes_a_right_file(exported: Path, reference: verify.Reference) -> None:
    verified = verify.verify(exported / "tiny-fp32.tflite", FORMATS["tflite-fp32"], reference)
    assert verified.threshold == reference.threshold
    assert verified.verification.measured["litert"]["agreement"] == 1


@pytest.mark.parametrize("fault", ["classes swapped", "scaled twice", "another model"])
def test_the_gate_catches(fault: str, exported: Path, reference: verify.Reference) -> None:
    broken = {
        "classes swapped": replace(reference, positive=0),
        "scaled twice": replace(reference, pixels=(reference.pixels / 255).astype(np.uint8)),
        "another model": replace(reference, scores=np.roll(reference.scores, 1) * 0.5),
    }[fault]
    for row in _ROWS:
        with pytest.raises(GateError, match=rf"tiny-{row.name}\.{row.target} on "):
            verify.verify(exported / row.file_name("tiny"), row, broken)


def test_the_gate_takes_an_engine(exported: Path, reference: verify.Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumo_edge.extras.is_installed", lambda module: False)
    with pytest.raises(MissingExtraError, match=r"pneumo-edge\[onnx\]"):
        verify.verify(exported / "tiny-fp32.onnx", FORMATS["onnx-fp32"], reference)


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="holds no finished training run"):
        list(export(tmp_path, _ROWS, tmp_path / "models", tmp_path / "cache"))


def test_other_data_than_it_was_trained_on_is_refused(tiny_run: Path, phantom: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantom / "data", data)
    next((data / "train" / "NORMAL").iterdir()).unlink()
    with pytest.raises(ConversionError, match="fingerprint"):
        list(export(tiny_run, _ROWS, tmp_path / "models", tmp_path / "cache", data))
