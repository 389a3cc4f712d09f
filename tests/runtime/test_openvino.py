"""OpenVINO: what it answers, and that it reports nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_edge import Classifier, bundled
from pneumo_edge._util import extras
from pneumo_edge.errors import ModelFileError
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.engines.tensors import Given

if not extras.is_installed("openvino"):
    pytest.skip("the extra 'openvino' is not installed", allow_module_level=True)

_OPENVINO = engines.ENGINES["openvino"]


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    random = np.random.default_rng(3)
    coarse = [random.integers(low, low + 60, (7, 7), np.uint8) for low in (0, 60, 120, 190)]
    return [Image.fromarray(pixels).resize((250, 230)) for pixels in coarse]


@pytest.mark.parametrize("file", ["tiny-fp32.tflite", "tiny-int8.tflite", "tiny-fp32.onnx"])
def test_it_answers_as_the_other_engines_do(tiny_models: Path, pictures: list[Image.Image], file: str) -> None:
    here, there = Classifier(tiny_models / file, engine="openvino", threads=2), Classifier(tiny_models / file)
    for picture in pictures:
        one, other = here.predict(picture, explain=True), there.predict(picture, explain=True)
        assert one.label == other.label
        assert one.probabilities["PNEUMONIA"] == pytest.approx(other.probabilities["PNEUMONIA"], abs=0.02)
        assert one.heatmap is not None
        assert other.heatmap is not None
        assert np.corrcoef(one.heatmap.ravel(), other.heatmap.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("file", ["tiny-fp32.tflite", "tiny-fp32.onnx"])
def test_any_file_runs_with_its_own_inputs(tiny_models: Path, file: str) -> None:
    path = tiny_models / "bare" / file
    loaded = engines.load_any(path, _OPENVINO, given=Given())
    (image,) = loaded.inputs
    assert loaded.shapes == {image.name: (1, 224, 224, 3)}
    first, *_ = loaded.call([np.full((1, 224, 224, 3), 200, np.float32)])
    assert first.shape == (1, 2)
    assert not loaded.is_quantized
    with pytest.raises(ModelFileError, match="does not tell the operators"):
        loaded.read_graph()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    for suffix in (".tflite", ".onnx"):
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(b"no model" * 100)
        with pytest.raises(ModelFileError, match="openvino cannot load"):
            engines.load_any(path, _OPENVINO)


def test_a_file_is_loaded_under_any_name(tiny_models: Path, tmp_path: Path, pictures: list[Image.Image]) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.tflite"))
    path.write_bytes((tiny_models / "tiny-fp32.tflite").read_bytes())
    assert Classifier(path, engine="openvino").predict(pictures[0]).label == "NORMAL"


def test_it_is_used_where_nothing_else_is_installed(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = extras.is_installed
    monkeypatch.setattr(extras, "is_installed", lambda module: module == "openvino" and installed(module))
    for file in ("tiny-fp32.tflite", "tiny-fp32.onnx"):
        assert engines.choose(tiny_models / file).name == "openvino"
    monkeypatch.undo()
    assert engines.choose(tiny_models / "tiny-fp32.tflite").name != "openvino"


def test_it_reports_nothing_to_its_makers(tiny_models: Path, tmp_path: Path) -> None:
    home, image = tmp_path / "home", tmp_path / "phantom.png"
    home.mkdir()
    Image.new("L", (300, 300), 90).save(image)
    model = tiny_models / "tiny-fp32.onnx"
    script = (
        "import json, sys\nfrom pneumo_edge import Classifier\n"
        f"Classifier({str(model)!r}, engine='openvino').predict({str(image)!r})\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('openvino_telemetry')]))"
    )
    # It does not report from CI.
    names = {"CI", "TF_BUILD", "JENKINS_URL", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in names} | {"HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == []
    assert list(home.rglob("*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", bundled.NAMES)
def test_the_bundled_models_pass_their_acceptance_checks(name: str) -> None:
    command = [sys.executable, "-m", "pneumo_edge", "verify", name, "--engine", "openvino"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0].strip() for line in done.stdout.splitlines()[1:]] == ["openvino", "openvino, 2 threads"]
