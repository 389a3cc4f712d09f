"""What a device does not have to load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

_HEAVY = {
    "imagehash", "jinja2", "keras", "matplotlib", "onnx", "pandas", "pooch", "scipy", "sklearn",
    "tensorflow", "tf2onnx",
}  # fmt: skip


def _imported_by(program: str) -> set[str]:
    report = "; import json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program + report], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def _packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules} - sys.stdlib_module_names


def test_the_package_imports_nothing_beside_numpy_and_pillow() -> None:
    needed = _packages(_imported_by("import numpy, PIL.Image, PIL.ImageOps"))
    assert _packages(_imported_by("import pneumo_edge")) - needed == {"pneumo_edge"}


@pytest.mark.parametrize("file", ["tiny-fp32.tflite", "tiny-int8.tflite", "tiny-fp32.onnx"])
@pytest.mark.parametrize("verb", ["predict", "info"])
def test_the_verbs_of_a_device_import_no_training_library(
    tiny_models: Path, tmp_path: Path, file: str, verb: str
) -> None:
    image = tmp_path / "x-ray.png"
    Image.new("L", (64, 64), 200).save(image)
    model = str(tiny_models / file)
    arguments = ["predict", str(image), "--model", model] if verb == "predict" else ["info", model]
    imported = _imported_by(f"from pneumo_edge.cli import app; app({arguments!r}, standalone_mode=False)")
    runs_it = {"predict": "classifier", "info": "engines.inspection"}
    assert f"pneumo_edge.runtime.{runs_it[verb]}" in imported
    assert not imported & _HEAVY


def test_judging_imports_no_more_than_it_takes(tmp_path: Path) -> None:
    image = tmp_path / "x-ray.png"
    Image.new("L", (64, 64), 200).save(image)
    imported = _imported_by(f"from pneumo_edge.cli import app; app(['predict', {str(image)!r}], standalone_mode=False)")
    above = {f"pneumo_edge.{name}" for name in ("benchmarks", "converters", "data", "evaluation", "training")}
    assert not imported & (above | {"concurrent.futures", "multiprocessing", "pyarrow", "rich"})


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_what_judges_nothing_imports_no_library_of_a_verb(words: list[str]) -> None:
    imported = _imported_by(f"from pneumo_edge.cli import app; app({words}, standalone_mode=False)")
    assert not imported & (_HEAVY | {"PIL", "ai_edge_litert", "numpy", "onnxruntime", "tflite_runtime"})


@pytest.mark.parametrize(
    "name",
    ["Classifier", "ModelSpec", "PneumoEdgeError", "Prediction", "benchmark", "evaluate", "export", "train"],
)
def test_the_public_names_are_there_when_they_are_asked_for(name: str) -> None:
    imported = _imported_by(f"from pneumo_edge import {name}; assert {name}.__name__ == {name!r}")
    # Not even a function that will train waits for TensorFlow before it is called.
    assert not imported & _HEAVY
    import pneumo_edge

    assert name in pneumo_edge.__all__
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = pneumo_edge.nonsense
