from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from converters.metadata import write_spec
from pneumo_edge import records
from pneumo_edge.cli import app
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import ModelSpec


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
def test_json_is_the_spec(tiny_models: Path, file: str) -> None:
    text = _info(tiny_models / file, "--json").stdout
    assert records.loads(ModelSpec, text) == read_spec(tiny_models / file)
    assert json.loads(text)["class_names"] == ["NORMAL", "PNEUMONIA"]


def test_the_text_says_what_a_user_asks(tiny_models: Path) -> None:
    model = tiny_models / "tiny-int8.tflite"
    fields = _fields(_info(model).stdout)
    assert fields["name"] == "tiny-int8"
    assert fields["file"] == f"{model.stat().st_size / 1e6:.2f} MB"
    assert fields["classes"] == "NORMAL, PNEUMONIA"
    assert fields["input"] == "uint8 pixels 0 to 255, 1x224x224x3"
    assert fields["decision"] == "PNEUMONIA where its probability is at least 0.5000"
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


def test_a_spec_cannot_draw_on_the_terminal(tiny_models: Path, tmp_path: Path) -> None:
    spec = read_spec(tiny_models / "tiny-fp32.tflite")
    model = tmp_path / "odd.tflite"
    odd = replace(spec, notice="\x1b[2Jline\nline", data=replace(spec.data, name="\udcff"))
    write_spec(tiny_models / "bare" / "tiny-fp32.tflite", model, odd)
    fields = _fields(_info(model).stdout)
    assert fields["notice"] == r"\x1b[2Jline\nline"
    assert fields["trained on"].startswith(r"\udcff, 3 images")
    assert json.loads(_info(model, "--json").stdout)["data"]["name"] == "\udcff"
