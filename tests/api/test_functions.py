"""The functions of ``pneumo_edge``, as a script calls them."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pneumo_edge
from pneumo_edge import PneumoEdgeError
from pneumo_edge.benchmarks import verdict_file
from pneumo_edge.data.datasource import DataSource
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.errors import ArgumentError, ConversionError, DataError, ExitCode, ModelFileError

_FUNCTIONS: list[Callable[..., Any]] = [
    pneumo_edge.train, pneumo_edge.train_study, pneumo_edge.export, pneumo_edge.adopt, pneumo_edge.evaluate,
    pneumo_edge.benchmark,
]  # fmt: skip


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("data") / "phantom", seed=0, train_per_class=30, test_per_class=6)


@pytest.mark.parametrize("function", _FUNCTIONS, ids=lambda function: function.__name__)
def test_the_docstring_describes_every_parameter_and_shows_a_call(function: Callable[..., Any]) -> None:
    text = inspect.getdoc(function) or ""
    parts = text.split("\n\n")
    (arguments,) = (part for part in parts if part.startswith("Args:"))
    for name in inspect.signature(function).parameters:
        assert f"\n    {name}: " in arguments
    assert {"Returns:", "Raises:", "Example:"} <= {part.splitlines()[0] for part in parts}
    assert ">>> " in text and f"pneumo_edge.{function.__name__}(" in text


_PLURALS = {"engine": "engines", "input_shape": "input_shapes", "input_value": "input_values"}
#: An option says its unit with its value; one of them stands for a temperature or a time.
_UNITS, _COOL = {"sustained": "sustained_s"}, {"cool_c", "rest_s"}


@pytest.mark.parametrize(
    ("name", "of_the_command_alone"),
    [
        ("train", {"epochs", "images", "seeds", "study", "cores", "memory", "address"}),
        ("export", set()),
        ("adopt", set()),
        ("evaluate", {"scores"}),
        ("benchmark", {"cool", "device", "devices", "device_folder", "reconnect_for", "clean", "benchmark_model"}),
    ],
)
def test_a_verb_has_the_parameters_and_the_defaults_of_its_function(name: str, of_the_command_alone: set[str]) -> None:
    verb = getattr(importlib.import_module(f"pneumo_edge.cli.{name}"), name)
    ours = inspect.signature(getattr(pneumo_edge, name)).parameters
    theirs = {
        # An option that may be given again has the name of one value.
        (_PLURALS | _UNITS).get(key, key) if name == "benchmark" else key: parameter
        for key, parameter in inspect.signature(verb).parameters.items()
        if not key.startswith("read_")
    }
    assert set(theirs) - of_the_command_alone == set(ours) - {"tell", "patient_pattern"} - _COOL
    reading = {key.removeprefix("read_") for key in inspect.signature(verb).parameters if key.startswith("read_")}
    assert reading == {field.name for field in fields(DataSource)} - {"path"}
    for key in set(ours) & set(theirs):
        one, other = ours[key].default, theirs[key].default
        if None not in (one, other) and inspect.Parameter.empty not in (one, other):
            assert str(one) == str(other), key


def test_a_name_completes_to_the_public_ones() -> None:
    assert set(dir(pneumo_edge)) == set(pneumo_edge.__all__)
    assert {"train", "export", "evaluate", "benchmark", "Classifier"} <= set(dir(pneumo_edge))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: pneumo_edge.train("x", "vgg"), "backbone is 'vgg'; expected one of mobilenetv2, efficientnetb0"),
        (lambda: pneumo_edge.train("x", "mobilenetv2", recipe="slow"), "recipe is 'slow'; expected one of quick,"),
        (lambda: pneumo_edge.train("x", "mobilenetv2", seed=-1), "seed is -1; expected a whole number of 0 or more"),
        (lambda: pneumo_edge.train("x", "mobilenetv2", out=__file__), "is a file, not a folder to write into"),
        (lambda: pneumo_edge.export("x", out=__file__), "is a file, not a folder to write into"),
        (lambda: pneumo_edge.export([]), "the list of paths is empty"),
        (lambda: pneumo_edge.adopt("x.onnx", "x", layout="nhw"), "layout is 'nhw'; expected one of nhwc, nchw"),
        (lambda: pneumo_edge.adopt("x.onnx", "x", out=__file__), "is a file, not a folder to write into"),
        (
            lambda: pneumo_edge.evaluate("mobilenetv2", "x", split="train"),
            "split is 'train'; expected one of val, test",
        ),
        (lambda: pneumo_edge.evaluate("mobilenetv2", "x", engine="tvm"), "engine is 'tvm'; expected one of litert,"),
        (lambda: pneumo_edge.evaluate("mobilenetv2", "x", out=__file__), "is a file, not a folder to write into"),
        (lambda: pneumo_edge.benchmark("mobilenetv2", "x", engines="tvm"), "engines is 'tvm'; expected one of litert,"),
        (
            lambda: pneumo_edge.benchmark("mobilenetv2", "x", threads=0),
            "threads is 0; expected a whole number from 1 to 256",
        ),
        (lambda: pneumo_edge.benchmark("mobilenetv2", "x", preset="slow"), "preset is 'slow'; expected one of normal,"),
        (
            lambda: pneumo_edge.benchmark("mobilenetv2", "x", processes=0),
            "processes is 0; expected a whole number of 1 or more",
        ),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused_at_once(call: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError) as raised:
        call()
    assert isinstance(raised.value, ArgumentError)
    assert raised.value.exit_code == ExitCode.USAGE
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda folder: pneumo_edge.train(folder / "none", "mobilenetv2", out=folder / "run"), DataError),
        (lambda folder: pneumo_edge.export(folder / "none", out=folder / "models"), ConversionError),
        (lambda folder: pneumo_edge.export(folder, formats="int7"), ArgumentError),
        (lambda folder: pneumo_edge.evaluate("", folder, out=folder / "out"), ModelFileError),
        (lambda folder: pneumo_edge.benchmark("mobilenetv2", folder / "none", out=folder / "out"), DataError),
    ],
)
def test_what_a_user_can_act_on_is_an_error_of_ours(
    call: Callable[[Path], object], kind: type[PneumoEdgeError], tmp_path: Path
) -> None:
    with pytest.raises(kind):
        call(tmp_path)


def test_files_are_evaluated_and_what_could_not_be_is_told(tiny_models: Path, phantom: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes((tiny_models / "tiny-int8.tflite").read_bytes()[:-1000])
    told: list[str] = []
    found = pneumo_edge.evaluate(
        [tiny_models / "tiny-fp32.tflite", damaged], phantom, split="test", out=tmp_path / "out", tell=told.append
    )
    (scored,) = found.metrics.models
    assert scored.model.file == "tiny-fp32.tflite"
    auc = scored.metrics["auc"]
    assert auc and 0 <= auc.low <= auc.value <= 1
    assert len(found.scores.files[0].probabilities) == found.metrics.data.images == 12
    assert [skipped.model for skipped in found.skipped] == ["damaged.tflite"]
    assert any(line.startswith("error: damaged.tflite: ") for line in told)
    assert found.files.metrics == tmp_path / "out" / "metrics.json"
    assert found.files.metrics.is_file() and found.files.page.is_file()


def test_lines_are_printed_on_standard_error_by_default(
    tiny_models: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes((tiny_models / "tiny-int8.tflite").read_bytes()[:-1000])
    pneumo_edge.evaluate([str(tiny_models / "tiny-fp32.tflite"), damaged], phantom, split="test", out=tmp_path / "out")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "error: damaged.tflite: " in printed.err


@pytest.mark.slow
def test_files_are_benchmarked(tiny_models: Path, phantom: Path, tmp_path: Path) -> None:
    measured = pneumo_edge.benchmark(
        tiny_models / "tiny-fp32.tflite", phantom, engines="litert", processes=2, queries=12, seconds=0,
        out=tmp_path / "out", tell=lambda line: None,
    )  # fmt: skip
    (row,) = measured.summary.rows
    assert row.result.unit.engine == "litert"
    assert row.inference.median_ms > 0
    assert measured.verdict.claims == ()
    assert measured.results_file.is_file()
    assert verdict_file.read(measured.verdict_file).basis.images == measured.summary.class_counts
    assert all(path.is_file() for path in measured.reports)


def test_the_command_line_says_an_argument_error_as_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "pneumo_edge", "evaluate", "mobilenetv2", "--data", "x", "--out", "out"],
        cwd=tmp_path, env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == ExitCode.USAGE
    assert "Invalid value for --out: out is a file, not a folder to write into" in done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        {"threads": 1000}, {"threads": 0}, {"threads": True}, {"threads": [1.5]}, {"threads": "2"}, {"threads": []},
        {"processes": 2.5}, {"processes": "10"}, {"seconds": float("nan")}, {"seconds": -1}, {"seed": None},
        {"seed": "x"}, {"models": []}, {"models": 3}, {"models": [None]},
    ],
    ids=str,
)  # fmt: skip
def test_a_benchmark_of_wrong_arguments_leaves_nothing(wrong: dict[str, Any], phantom: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError) as caught:
        pneumo_edge.benchmark(**{"models": "mobilenetv2", "data": phantom, "out": tmp_path / "out", **wrong})
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("threads", [0, 257, "2", 1.5])
def test_threads_of_an_evaluation_are_checked_before_the_data(threads: Any, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="threads is"):
        pneumo_edge.evaluate("mobilenetv2", tmp_path / "no such data", threads=threads, out=tmp_path / "out")


def test_an_export_of_no_format_or_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="formats is empty"):
        pneumo_edge.export(tmp_path, formats=[])
    file = tmp_path / "model.tflite"
    file.write_bytes(b"")
    with pytest.raises(ConversionError, match="holds no finished training run"):
        pneumo_edge.export(file, out=tmp_path / "out")


def test_numpys_numbers_are_numbers(phantom: Path, tmp_path: Path) -> None:
    one: Any = np.int64(1)
    found = pneumo_edge.evaluate("mobilenetv2", phantom, threads=one, out=tmp_path / "out")
    assert not found.skipped
    assert pneumo_edge.Classifier(threads=one).engine.threads == 1
