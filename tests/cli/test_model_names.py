"""The trained models inside the package, by their names on the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pneumo_edge import bundled
from pneumo_edge._util import records
from pneumo_edge.errors import ExitCode
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import ModelSpec

Run = Callable[..., Any]

_NAMES = " or ".join(bundled.NAMES)
_each = pytest.mark.parametrize("name", bundled.NAMES)


def _judged_by(done: Any) -> str:
    assert done.code == 0, done.err
    return str(json.loads(done.out)["model"])


def test_predict_takes_the_default_where_no_model_is_given(run: Run, x_rays: Path, tmp_path: Path) -> None:
    done = run("predict", x_rays / "dark.png", "--json", cwd=tmp_path)
    assert _judged_by(done) == f"{bundled.DEFAULT}-int8"
    # A plain picture is none of the X-rays that it was trained on.
    (line,) = done.errors
    assert line.startswith("warning: the image is out-of-distribution")


@_each
def test_predict_and_info_take_a_name(run: Run, x_rays: Path, name: str) -> None:
    assert _judged_by(run("predict", x_rays / "dark.png", "--model", name, "--json")) == f"{name}-int8"
    shown = run("info", name, "--json")
    assert records.loads(ModelSpec, shown.out) == read_spec(bundled.path(name))
    assert run("info", name).out.splitlines()[0].split() == ["name", f"{name}-int8"]


def test_info_shows_the_model_that_predict_takes(run: Run) -> None:
    assert run("info").out == run("info", bundled.DEFAULT).out


def test_a_bare_name_is_the_bundled_model_and_a_path_is_the_file(
    run: Run, tiny_models: Path, x_rays: Path, tmp_path: Path
) -> None:
    name = bundled.DEFAULT
    shutil.copy(tiny_models / "tiny-int8.tflite", tmp_path / f"{name}-int8.tflite")
    shutil.copy(tiny_models / "tiny-int8.tflite", tmp_path / name)
    words = ["predict", x_rays / "dark.png", "--json", "--model"]
    assert _judged_by(run(*words, name, cwd=tmp_path)) == f"{name}-int8"
    assert _judged_by(run(*words, f"{name}-int8.tflite", cwd=tmp_path)) == "tiny-int8"
    by_path = run(*words, f"./{name}", cwd=tmp_path)
    assert by_path.code == ExitCode.FAILED
    assert by_path.err.startswith(f"error: {name} is not a model file; expected a .tflite or .onnx file")


@pytest.mark.parametrize("verb", ["predict", "info"])
def test_a_wrong_name_gets_one_line_with_the_right_ones(run: Run, x_rays: Path, verb: str) -> None:
    done = run(*(["predict", x_rays, "--model", "mobilenet"] if verb == "predict" else ["info", "mobilenet"]))
    assert done.code == ExitCode.FAILED
    assert done.out == ""
    assert done.errors == [
        "error: mobilenet is not a model file; expected a .tflite or .onnx file, or the name of a bundled model: "
        f"{_NAMES}. Give the path of an exported model, or one of these names."
    ]


@pytest.mark.parametrize("verb", ["predict", "info", "benchmark"])
def test_the_help_names_them(run: Run, verb: str) -> None:
    words = " ".join(run(verb, "--help").out.replace("│", " ").split())
    assert all(name in words for name in bundled.NAMES)
