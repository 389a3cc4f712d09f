"""Models that want another layout, scaling or type than pixels of 0 to 255, and scores other than probabilities."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumo_edge import Classifier
from pneumo_edge._util import records
from pneumo_edge.runtime import pixels
from pneumo_edge.runtime.engines.inspection import inspect
from pneumo_edge.spec import InputSpec, ModelSpec, ScalingSpec, Scores, read, read_metadata
from pneumo_edge.spec.attaching import attach
from tests.specs import make_spec

_IMAGENET = ScalingSpec(
    tuple(1 / 255 / std for std in (0.229, 0.224, 0.225)), (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225)
)


def _input(layout: Literal["nhwc", "nchw"], scaling: ScalingSpec | None, dtype: Any = "float32") -> InputSpec:
    return InputSpec(6, 5, 3, dtype, "bilinear", layout=layout, scaling=scaling)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("scaling", [None, _IMAGENET])
@given(seed=st.integers(0, 1000))
def test_the_tensor_is_what_numpy_computes(
    layout: Literal["nhwc", "nchw"], scaling: ScalingSpec | None, seed: int
) -> None:
    spec = _input(layout, scaling)
    grey = np.random.default_rng(seed).integers(0, 256, (6, 5), np.uint8)
    tensor = np.full(pixels.shape(spec), np.nan, np.float32)
    pixels.filler(spec)(tensor, grey)
    rgb = np.stack([grey] * 3, axis=-1)
    expected = rgb.astype(np.float64)
    if scaling:
        expected = expected * scaling.scale + scaling.offset
    expected = expected.transpose(2, 0, 1) if layout == "nchw" else expected
    np.testing.assert_allclose(tensor[0], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(pixels.convert(spec, rgb), tensor)


@given(st.floats(1e-4, 1), st.integers(-128, 127))
def test_an_integer_input_is_quantized_as_the_format_defines_it(step: float, zero_point: int) -> None:
    spec = _input("nhwc", ScalingSpec((1 / 127.5,) * 3, (-1.0,) * 3, step, zero_point), "int8")
    grey = (np.arange(30).reshape(6, 5) * 8).astype(np.uint8)
    tensor = np.empty(pixels.shape(spec), np.int8)
    pixels.filler(spec)(tensor, grey)
    expected = np.clip(np.round((grey.astype(np.float64) / 127.5 - 1.0) / step) + zero_point, -128, 127)
    assert np.abs(tensor[0, ..., 1] - expected).max() <= 1  # 1/127.5 is no number of float64
    assert np.mean(tensor[0, ..., 1] == expected) > 0.9


@pytest.mark.parametrize(
    ("scaling", "dtype", "message"),
    [
        (ScalingSpec((1.0,), (0.0,)), "float32", "not of 3 channels"),
        (ScalingSpec((1.0,) * 3, (0.0,) * 3, 0.5), "float32", "does not go with the type float32"),
        (ScalingSpec((1.0,) * 3, (0.0,) * 3), "uint8", "does not go with the type uint8"),
        (None, "int8", "there is no scaling"),
    ],
)
def test_an_input_that_contradicts_itself_is_refused(scaling: ScalingSpec | None, dtype: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _input("nhwc", scaling, dtype)


def _network(path: Path, batch: int | str, scores: int) -> Path:
    """Scores from the mean of each channel of an image of any size in NCHW; channel 0 speaks for the second class."""
    onnx = pytest.importorskip("onnx")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.array([[-1.0, 1.0], [0.2, 0.3], [0.0, -0.1]], np.float32)[:, -scores:]
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["means"]),
            helper.make_node("Flatten", ["means"], ["vector"]),
            helper.make_node("MatMul", ["vector", "weights"], ["scores"]),
        ],
        "graph",
        [helper.make_tensor_value_info("image", number, [batch, 3, "height", "width"])],
        [helper.make_tensor_value_info("scores", number, [batch, scores])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def _spec(scores: Scores) -> ModelSpec:
    size = InputSpec(40, 50, 3, "float32", "bilinear", name="image", layout="nchw", scaling=_IMAGENET)
    return replace(make_spec("other", "fp32"), input=size, scores=scores)


@pytest.mark.parametrize("batch", [1, "batch"])
@pytest.mark.parametrize("scores", ["logits", "logit"])
def test_a_file_of_another_tool_classifies_as_numpy_computes(
    tmp_path: Path, batch: int | str, scores: Literal["logits", "logit"]
) -> None:
    pytest.importorskip("onnxruntime")
    bare = _network(tmp_path / "bare.onnx", batch, 2 if scores == "logits" else 1)
    path = tmp_path / "other.onnx"
    attach(bare, path, _spec(scores))
    classifier = Classifier(path)
    grey = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    found = classifier.predict(grey).probabilities
    means = (grey.mean() / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    both = means @ np.array([[-1.0, 1.0], [0.2, 0.3], [0.0, -0.1]])
    logit = both[1] - both[0] if scores == "logits" else both[1]
    assert found["PNEUMONIA"] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_a_file_that_gets_a_spec_keeps_its_bytes(tiny_models: Path, tmp_path: Path, suffix: str) -> None:
    bare = tiny_models / "bare" / f"tiny-fp32{suffix}"
    path = tmp_path / f"adopted{suffix}"
    written = attach(bare, path, replace(read(tiny_models / f"tiny-fp32{suffix}"), name="adopted"))
    assert path.read_bytes().startswith(bare.read_bytes())
    assert read(path) == written
    assert inspect(path).graph == inspect(bare).graph
    grey = np.full((224, 224), 200, np.uint8)
    assert (
        Classifier(path).predict(grey).probabilities
        == Classifier(tiny_models / f"tiny-fp32{suffix}").predict(grey).probabilities
    )


def test_what_others_wrote_into_a_file_stays(tiny_models: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "labelled.tflite"
    shutil.copy(tiny_models / "bare" / "tiny-fp32.tflite", labelled)
    with zipfile.ZipFile(labelled, "a") as archive:
        archive.writestr("labels.txt", "no\nyes\n")
    path = tmp_path / "adopted.tflite"
    written = attach(labelled, path, read(tiny_models / "tiny-fp32.tflite"))
    assert read(path) == written
    assert read_metadata(path) == read_metadata(labelled)
    assert read_metadata(path)["labels.txt"] == "no\nyes"


def test_a_spec_of_before_reads_as_it_did() -> None:
    text = records.dumps(make_spec("mobilenetv2", "fp32"))
    for field in ("layout", "scaling", "scores"):
        assert f'"{field}"' in text
    old = {name: value for name, value in json.loads(text).items() if name != "scores"}
    for field in ("layout", "scaling"):
        del old["input"][field]
    assert records.loads(ModelSpec, json.dumps(old)) == make_spec("mobilenetv2", "fp32")
