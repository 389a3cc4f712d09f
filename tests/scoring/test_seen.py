"""Images that a model was trained on are not scored as test images, nor as another population."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pneumo_edge.cli import app
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.data.run_records import data_spec
from pneumo_edge.data.sources import DataSource, open_source
from pneumo_edge.data.splits import make_manifest
from pneumo_edge.errors import ExitCode
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import DataSpec

_SHARES = "60/20/20"


def _add(folder: Path, first: int, count: int) -> None:
    noise = np.random.default_rng(first)
    for class_name, grey in (("NORMAL", 80), ("PNEUMONIA", 170)):
        (folder / class_name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            pixels = np.clip(noise.normal(grey, 12, (32, 32)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / class_name / f"image{number}.png")


@pytest.fixture
def xrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty images of each class without splits, beside a table with their patients, of two images each."""
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(tmp_path / "cache"))
    _add(tmp_path / "xrays", 0, 30)
    rows = [
        f"{name}/image{number}.png,{name},{name[0]}{number // 2}"
        for name in ("NORMAL", "PNEUMONIA")
        for number in range(30)
    ]
    (tmp_path / "patients.csv").write_text("\n".join(["image,label,patient", *rows]))
    return tmp_path / "xrays"


@pytest.fixture
def trained_on(xrays: Path) -> DataSpec:
    source = open_source(DataSource(str(xrays), split=_SHARES, labels=str(xrays.parent / "patients.csv")))
    digests = {sample.name: hashlib.sha256(source.read(sample)).hexdigest() for sample in source.samples}
    manifest = make_manifest(source, digests, {})
    return data_spec(replace(manifest, options=dict(source.options)))


@pytest.fixture
def model(tiny_models: Path, tmp_path: Path, trained_on: DataSpec) -> Path:
    return _model(tiny_models, tmp_path, trained_on)


def _model(tiny_models: Path, folder: Path, data: DataSpec) -> Path:
    spec = read_spec(tiny_models / "tiny-fp32.tflite")
    write_spec(tiny_models / "bare" / "tiny-fp32.tflite", folder / "own.tflite", replace(spec, data=data))
    return folder / "own.tflite"


def _run(verb: str, model: Path, data: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [verb, str(model), "--data", str(data), "--out", str(data.parent / "out"), *words])
    return result.exit_code, result.output


def test_a_split_that_is_drawn_in_another_way_is_refused(model: Path, xrays: Path) -> None:
    status, told = _run("evaluate", model, xrays, "--split", "test")
    assert status == ExitCode.FAILED
    assert "own.tflite was trained on" in told
    assert "of these 12 test images" in told
    assert "give --labels patients.csv" in told
    status, again = _run("benchmark", model, xrays, "--preset", "rapid")
    assert status == ExitCode.FAILED
    assert "of these 12 test images" in again
    status, told = _run("evaluate", model, xrays, "--split", "test", "--labels", str(xrays.parent / "patients.csv"))
    assert status == 0, told


def test_data_that_have_grown_are_refused(model: Path, xrays: Path) -> None:
    _add(xrays, 30, 20)
    rows = [f"{name}/image{n}.png,{name},{name[0]}{n // 2}" for name in ("NORMAL", "PNEUMONIA") for n in range(30, 50)]
    table = xrays.parent / "patients.csv"
    table.write_text("\n".join([table.read_text(), *rows]))
    status, told = _run("evaluate", model, xrays, "--split", "test", "--labels", str(table))
    assert status == ExitCode.FAILED
    assert "own.tflite was trained on" in told
    assert "score these alone, in a folder of their own" in told


def test_training_images_are_no_other_population(model: Path, xrays: Path, tmp_path: Path) -> None:
    status, told = _run("evaluate", model, xrays, "--external")
    assert status == ExitCode.FAILED
    assert "own.tflite was trained on 48 of these 60 images" in told
    status, told = _run("evaluate", model, xrays, "--split", "test", "--split-shares", "0/0/100")
    assert status == ExitCode.FAILED
    assert "own.tflite was trained on 48 of these 60 test images" in told
    _add(tmp_path / "elsewhere", 100, 10)
    status, told = _run("evaluate", model, tmp_path / "elsewhere", "--external")
    assert status == 0, told


def test_a_file_that_names_no_images_is_warned_of_where_its_split_was_drawn(
    tiny_models: Path, trained_on: DataSpec, xrays: Path
) -> None:
    warning = "did not record its training images"
    earlier = _model(tiny_models, xrays.parent, replace(trained_on, used_images=()))
    status, told = _run("evaluate", earlier, xrays, "--split", "test")
    assert (status, warning in told) == (0, True)
    (xrays.parent / "out" / "scores.json").unlink()
    # The split of its training, which its fingerprint tells.
    status, told = _run("evaluate", earlier, xrays, "--split", "test", "--labels", str(xrays.parent / "patients.csv"))
    assert (status, warning in told) == (0, False)
