"""Conversion and its gate, with the real converters and engines on a tiny network."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from pneumo_edge import Classifier, formats, runs
from pneumo_edge._util import files
from pneumo_edge.cli import app
from pneumo_edge.converters import calibration, mixed, proof
from pneumo_edge.converters import reference as references
from pneumo_edge.converters.acceptance import Candidate
from pneumo_edge.converters.export import export
from pneumo_edge.converters.isolated import Child
from pneumo_edge.converters.stability import compare_calibrations
from pneumo_edge.converters.verify import verify
from pneumo_edge.data.sources import SplitName
from pneumo_edge.data.tensors import Dataset
from pneumo_edge.errors import ConversionError, GateError
from pneumo_edge.formats import FORMATS, ON_REQUEST, Format, find
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import DecodingSpec

pytestmark = pytest.mark.slow

KerasSays = dict[SplitName, npt.NDArray[np.float32]]
_ROWS = list(FORMATS.values())
_MIXED = ON_REQUEST["tflite-mixed"]
_IMPOSSIBLE = replace(FORMATS["tflite-fp32"].bounds, max_difference=-1.0)


@pytest.mark.parametrize("row", _ROWS, ids=list(FORMATS))
def test_each_file_agrees_with_keras_on_each_of_its_engines(
    row: Format, exported: Path, dataset: Dataset, keras_says: KerasSays
) -> None:
    pixels, expected = dataset.rgb(dataset.indices("test")), keras_says["test"]
    path = exported / row.file_name("tiny")
    verification = read_spec(path).verification
    assert verification is not None
    for engine in verification.engines:
        classifier = Classifier(path, engine=engine)
        found = np.stack([classifier.engine.run(classifier.as_input(image)) for image in pixels])
        np.testing.assert_allclose(found, expected, atol=0.1 if row.quantized else row.bounds.max_difference)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("row", _ROWS, ids=list(FORMATS))
def test_each_file_carries_its_spec(row: Format, rows: list[Format], exported: Path, tiny_run: Path) -> None:
    classifier = Classifier(exported / row.file_name("tiny"))
    spec, run = classifier.spec, runs.load(tiny_run)
    assert (spec.format, spec.backbone, spec.input.dtype) == (row.name, "tiny", row.input_dtype)
    assert spec.data.fingerprint == run.data.fingerprint
    assert spec.input.decoding == DecodingSpec(None), "nothing was measured of this backbone"
    assert spec.verification is not None
    installed = {info.name for info in engines.installed_engines_for(classifier.path)}
    assert set(spec.verification.engines) == installed & set(rows[_ROWS.index(row)].engines)
    assert all(set(measured) >= {"max_difference", "agreement"} for measured in spec.verification.measured.values())
    assert (spec.calibration is not None) == row.calibrated
    assert row.quantized or spec.decision.threshold == run.decision.threshold


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


def test_a_calibrated_file_is_compared_with_one_that_was_calibrated_on_other_images(
    tiny_run: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = FORMATS["tflite-int8"]
    (alone,) = export(tiny_run, [row], tmp_path / "alone", phantom / "cache")
    assert alone.spec is not None and alone.spec.calibration is not None
    assert alone.spec.calibration.stability is None, "two sets of 200 take more patients than there are"

    monkeypatch.setattr(calibration, "IMAGES", 20)
    (made,) = export(tiny_run, [row], tmp_path / "compared", phantom / "cache")
    assert made.spec is not None and made.spec.calibration is not None
    stability = made.spec.calibration.stability
    assert stability is not None and stability["agreement"] >= row.bounds.min_agreement
    assert 0 < stability["mean_difference"] <= row.bounds.mean_difference, "two sets never give the very same ranges"
    assert proof.load(made.path).calibration == made.spec.calibration

    strict = replace(row, bounds=replace(row.bounds, mean_difference=0.0))
    reference = references.load(tmp_path / "compared" / "tiny-reference.npz")
    verified = verify(Candidate(made.path, row, 1), reference, "val")
    with pytest.raises(GateError, match="calibrated on other training images agree on"):
        compare_calibrations(made.path, alone.path, strict, verified, positive=1)


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


def test_several_runs_of_a_network_get_a_folder_each(made_run: Path, tmp_path: Path) -> None:
    folders = [Path(shutil.copytree(made_run, tmp_path / f"tiny-best-{seed}")) for seed in (0, 1)]
    words = ["export", *map(str, folders), "--format", "tflite-fp32", "--out", str(tmp_path / "models")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    found = sorted(path.relative_to(tmp_path / "models") for path in (tmp_path / "models").rglob("*.tflite"))
    assert found == [Path(f"tiny-best-{seed}", "tiny-fp32.tflite") for seed in (0, 1)]
    assert "2 runs of tiny: the files of each are in a folder of its own" in " ".join(done.stderr.split())

    same_name = [Path(shutil.copytree(made_run, tmp_path / place / "run")) for place in ("a", "b")]
    refused = CliRunner().invoke(app, ["export", *map(str, same_name), "--out", str(tmp_path / "none")])
    assert refused.exit_code == 2
    assert "2 runs of tiny are in folders of the same name" in " ".join(refused.stderr.replace("│", " ").split())
    assert not (tmp_path / "none").exists()


def test_a_file_that_would_come_out_the_same_is_left_alone(
    tiny_run: Path, phantom: Path, exported: Path, tmp_path: Path
) -> None:
    out = tmp_path / "models"
    shutil.copytree(exported, out)
    rows = [FORMATS["tflite-fp32"], FORMATS["onnx-fp32"]]
    before = [(out / row.file_name("tiny")).stat().st_mtime_ns for row in rows]
    unused = [replace(row, converter=f"{__name__}:_not_to_be_called") for row in rows]
    outcomes = list(export(tiny_run, unused, out, phantom / "cache"))
    assert [(outcome.made, outcome.missed) for outcome in outcomes] == [(False, None)] * 2
    assert [(out / row.file_name("tiny")).stat().st_mtime_ns for row in rows] == before
    assert outcomes[0].spec == read_spec(out / "tiny-fp32.tflite")


@pytest.mark.parametrize("change", ["settings", "bytes", "proof lost"])
def test_a_file_that_would_come_out_otherwise_is_made_again(
    change: str, tiny_run: Path, phantom: Path, exported: Path, tmp_path: Path
) -> None:
    out = tmp_path / "models"
    shutil.copytree(exported, out)
    row, path = FORMATS["tflite-fp32"], out / "tiny-fp32.tflite"
    if change == "settings":
        row = replace(row, bounds=replace(row.bounds, max_difference=2e-3))
    elif change == "bytes":
        path.write_bytes(path.read_bytes() + b" ")
    else:
        proof.path(path).unlink()
    (outcome,) = export(tiny_run, [row], out, phantom / "cache")
    assert (outcome.made, outcome.missed) == (True, None)
    assert path.read_bytes() == (exported / path.name).read_bytes() or change == "settings"
    (again,) = export(tiny_run, [row], out, phantom / "cache")
    assert not again.made


def test_files_of_other_weights_in_the_folder_are_named(
    made_run: Path, phantom: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(phantom / "cache"))
    out = Path(shutil.copytree(exported, tmp_path / "models"))
    run = Path(shutil.copytree(made_run, tmp_path / "run"))
    command = ["export", str(run), "--format", "onnx-fp32", "--out", str(out)]
    assert "earlier export" not in CliRunner().invoke(app, command).stderr
    for name in ("tiny-int8.tflite", "tiny-fp16.onnx"):
        told = proof.load(out / name)
        replace(told, origin=replace(told.origin, checkpoint="0" * 64)).save(out / name)
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.stderr.splitlines() if "earlier export" in line]
    assert line.startswith(f"note: {out} also has tiny-int8.tflite, tiny-fp16.onnx, of an earlier export with other")
    assert (out / "tiny-int8.tflite").exists()


def _not_to_be_called(*_: object) -> None:
    raise AssertionError("nothing was to be converted")


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_converter_that_dies_costs_its_own_format_alone(tiny_run: Path, phantom: Path, tmp_path: Path) -> None:
    rows = [replace(FORMATS["tflite-fp32"], converter=f"{__name__}:_die"), FORMATS["onnx-fp32"]]
    died, made = export(tiny_run, rows, tmp_path, phantom / "cache")
    assert "process died" in str(died.missed)
    assert made.missed is None and made.path.exists()


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="holds no finished training run"):
        list(export(tmp_path, _ROWS, tmp_path / "models", tmp_path / "cache"))


def test_other_data_than_it_was_trained_on_is_refused(tiny_run: Path, phantom: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantom / "data", data)
    next((data / "train" / "NORMAL").iterdir()).unlink()
    with pytest.raises(ConversionError, match="fingerprint"):
        list(export(tiny_run, _ROWS, tmp_path / "models", tmp_path / "cache", data))


def _plant(source: Path, target: Path) -> None:
    """Put a dense layer before the last one that is exact in float32, and of which int8 leaves nothing.

    Its third output is 1000, so the step of the range that it shares with the two others is larger than these.
    """
    import keras

    trained = keras.saving.load_model(source)
    hidden = keras.layers.Dense(3, name="hidden", activation="relu")
    logits = keras.layers.Dense(2, name="logits")
    pooled = trained.layers[-3].output
    output = keras.layers.Softmax(name="probability")(logits(hidden(pooled)))
    hidden.set_weights([np.array([[1, 0, 1], [0, 1, -1]]), np.array([0, 0, 1000])])
    kernel, bias = trained.get_layer("logits").get_weights()
    logits.set_weights([np.concatenate([kernel, np.zeros((1, 2))]), bias])
    keras.Model(trained.inputs, output).save(target)


def test_the_operators_that_int8_harms_are_found_and_stay_in_float(
    tiny_run: Path, phantom: Path, converter: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = tmp_path / "run", tmp_path / "models"
    shutil.copytree(tiny_run, run)
    converter.call(_plant, tiny_run / runs.MODEL_NAME, run / runs.MODEL_NAME)
    replace(runs.load(tiny_run), model_sha256=files.sha256(run / runs.MODEL_NAME)).save(run)

    # Of two files this takes the one with fewer operators in float32, not the faster one.
    monkeypatch.setattr(mixed, "_FASTER", 0.0)
    int8, made = export(run, [FORMATS["tflite-int8"], _MIXED], out, phantom / "cache")
    assert int8.missed is not None and not int8.path.exists()
    assert made.missed is None and made.spec is not None and made.spec.calibration is not None
    assert made.path.name == "tiny-mixed.tflite"
    record = made.spec.calibration.mixed_precision
    assert record is not None
    assert len(record.in_float) == 2 < record.operators
    assert all(each.startswith("FULLY_CONNECTED ") for each in record.in_float), "both that hold the shared range"
    assert record.int8_failed is not None and "tiny-int8.tflite" in record.int8_failed
    assert record.int8["agreement"] < _MIXED.bounds.min_agreement
    assert set(record.milliseconds) == {"float32", "int8", "mixed"} and min(record.milliseconds.values()) > 0
    assert proof.load(made.path).calibration == made.spec.calibration
    assert find(".tflite", made.spec.format) == _MIXED

    black, white = (
        Classifier(made.path).predict(np.full((224, 224), value, np.uint8)).probabilities["PNEUMONIA"]
        for value in (0, 255)
    )
    assert black < 0.05 and white > 0.95
    (again,) = export(run, [_MIXED], out, phantom / "cache")
    assert not again.made and again.spec == made.spec

    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(tmp_path / "cache"))
    shown = CliRunner().invoke(app, ["info", str(made.path)])
    assert f"2 of {record.operators} operators" in shown.stdout
    assert "fails: tiny-int8.tflite on litert has" in shown.stdout
    assert CliRunner().invoke(app, ["verify", str(made.path)]).exit_code == 0
