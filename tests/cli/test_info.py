from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pneumo_edge import bundled
from pneumo_edge._util import records
from pneumo_edge.cli import app
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.runtime.engines.inspection import Inspection, inspect
from pneumo_edge.spec import OWN_MODEL, ModelSpec


def _info(model: Path, *options: str) -> Result:
    result = CliRunner().invoke(app, ["info", str(model), *options])
    assert result.exit_code == 0
    assert result.stderr == ""
    return result


def _fields(text: str) -> dict[str, str]:
    """The two columns of the text, by name."""
    lines = [line.strip().split("  ", 1) for line in text.splitlines()]
    return {name: value.strip() for name, value in lines}


@pytest.mark.parametrize("file", ["tiny-fp32.tflite", "tiny-int8.tflite", "tiny-fp32.onnx"])
def test_json_holds_the_spec(tiny_models: Path, file: str) -> None:
    text = _info(tiny_models / file, "--json").stdout
    assert records.loads(ModelSpec, text) == read_spec(tiny_models / file)
    assert json.loads(text)["class_names"] == ["NORMAL", "PNEUMONIA"]


@pytest.mark.parametrize("file", ["tiny-int8.tflite", "tiny-fp32.onnx"])
def test_json_holds_the_graph_and_the_engines(tiny_models: Path, file: str) -> None:
    text = _info(tiny_models / file, "--json").stdout
    assert records.loads(Inspection, text) == inspect(tiny_models / file)
    assert json.loads(text)["graph"]["multiply_adds"] == 301_452


def test_the_text_says_what_is_inside_the_graph(tiny_models: Path) -> None:
    model = tiny_models / "tiny-int8.tflite"
    inspection = inspect(model)
    graph = inspection.graph
    assert graph
    fields = _fields(_info(model).stdout)
    assert {name: int(count) for name, count in map(str.split, fields["operators"].split(", "))} == graph.operators
    assert fields["parameters"] == f"{graph.parameters:,}, weights and biases"
    assert fields["multiply-adds"] == "301,452 for one image"
    for name, report in inspection.engines.items():
        delegation = report.delegation
        assert delegation
        if name == "openvino":
            assert fields[f"on {name}"] == f"{report.version}, no operators delegated"
            continue
        summary, _, each = fields[f"on {name}"].partition(": ")
        taken = sum(delegation.operators.values())
        whole = sum(graph.operators.values())
        assert summary == f"{report.version}, {taken} of {whole} operators delegated to XNNPACK in 1 partition"
        assert f"CONV_2D {delegation.operators.get('CONV_2D', 0)} of 2" in each.split(", ")


def test_an_engine_that_delegates_nothing_says_so(tiny_models: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    fields = _fields(_info(tiny_models / "tiny-fp32.onnx").stdout)
    assert fields["on onnxruntime"] == f"{onnxruntime.__version__}, no operators delegated"


def test_a_file_that_no_engine_runs_still_tells_its_spec(tiny_models: Path, inert_tflite: Path, tmp_path: Path) -> None:
    model = tmp_path / "inert.tflite"
    write_spec(inert_tflite, model, read_spec(tiny_models / "tiny-fp32.tflite"))
    fields = _fields(_info(model).stdout)
    assert fields["name"] == "tiny-fp32"
    assert fields["graph"] == "not read: no engine here loads the file"
    assert "operators" not in fields
    for row in (row for row in engines.engines_for(model) if row.is_installed):
        assert fields[f"on {row.name}"].startswith(f"{row.name} cannot load {model} (")
    document = json.loads(_info(model, "--json").stdout)
    assert document["graph"] is None
    assert all("cannot load" in report["error"] for report in document["engines"].values())


def test_without_an_engine_a_tflite_file_still_tells_its_spec(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pneumo_edge._util.extras.is_installed", lambda module: False)
    fields = _fields(_info(tiny_models / "tiny-fp32.tflite").stdout)
    assert fields["name"] == "tiny-fp32"
    assert fields["graph"].endswith("runs the file: ai_edge_litert or tflite_runtime")
    assert not any(name.startswith("on ") for name in fields)


def test_the_text_says_what_a_user_asks(tiny_models: Path) -> None:
    model = tiny_models / "tiny-int8.tflite"
    fields = _fields(_info(model).stdout)
    assert fields["name"] == "tiny-int8"
    assert fields["file"] == f"{model.stat().st_size / 1e6:.2f} MB"
    assert fields["classes"] == "NORMAL, PNEUMONIA"
    assert fields["input"] == "uint8 pixels 0 to 255, 1x224x224x3"
    assert fields["decision"] == "PNEUMONIA if its probability is at least 0.5000"
    assert fields["trained on"] == "no data, 3 images (split 000000000000)"
    assert fields["verified on"] == "litert 2"
    assert fields["litert"] == "images 3"
    assert "NOTE" not in fields


def test_a_model_of_phantoms_and_one_that_was_not_verified_say_so(tiny_models: Path, tmp_path: Path) -> None:
    spec = read_spec(tiny_models / "tiny-fp32.tflite")
    model = tmp_path / "phantom.tflite"
    phantom = replace(spec, data=replace(spec.data, real=False, counts={}), verification=None)
    write_spec(tiny_models / "bare" / "tiny-fp32.tflite", model, phantom)
    fields = _fields(_info(model).stdout)
    assert "PHANTOM" in fields["NOTE"]
    assert fields["trained on"].startswith("no data, 0 images")
    assert "verified on" not in fields


def test_a_model_that_was_trained_elsewhere_is_not_said_to_be_trained_on_its_data(
    tiny_models: Path, tmp_path: Path
) -> None:
    spec = read_spec(tiny_models / "tiny-fp32.tflite")
    model = tmp_path / "own.tflite"
    own = replace(spec, training=replace(spec.training, recipe=OWN_MODEL, initial_weights="those of own.keras"))
    write_spec(tiny_models / "bare" / "tiny-fp32.tflite", model, own)
    fields = _fields(_info(model).stdout)
    assert fields["measured on"].startswith("no data, ")
    assert fields["weights"] == "those of own.keras"
    assert not {"trained on", "training", "initial weights"} & fields.keys()


def test_a_spec_cannot_draw_on_the_terminal(tiny_models: Path, tmp_path: Path) -> None:
    spec = read_spec(tiny_models / "tiny-fp32.tflite")
    model = tmp_path / "odd.tflite"
    odd = replace(spec, notice="\x1b[2Jline\nline", data=replace(spec.data, name="\udcff"))
    write_spec(tiny_models / "bare" / "tiny-fp32.tflite", model, odd)
    fields = _fields(_info(model).stdout)
    assert fields["notice"] == r"\x1b[2Jline\nline"
    assert fields["trained on"].startswith(r"\udcff, 3 images")
    assert json.loads(_info(model, "--json").stdout)["data"]["name"] == "\udcff"


def test_the_text_says_what_a_file_was_calibrated_on(tiny_models: Path) -> None:
    assert "calibrated on" not in _fields(_info(tiny_models / "tiny-fp32.tflite").stdout)
    assert _fields(_info(tiny_models / "tiny-int8.tflite").stdout)["calibrated on"].startswith("16 training images")
    for name in bundled.NAMES:
        said = _fields(_info(bundled.path(name)).stdout)["calibrated on"]
        assert said.startswith("200 training images") and "calibrated on other images: same decision on " in said
        assert ("ranges that cover 99.99% of a feature map's values" in said) == (name == "efficientnetb0")
