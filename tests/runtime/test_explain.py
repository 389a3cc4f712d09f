"""The heatmap that a classifier gives, on every engine; tests/imaging/test_heatmap.py has how it is drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pneumo_edge import Classifier
from pneumo_edge._util import extras
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.errors import ModelFileError, NoAnswerError
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.classifier import read_spec

_CELLS = 14
#: Every kind of file on every engine that runs it, and how far a cell may be from the exact one.
_PAIRS = [
    ("tiny-fp32.tflite", "litert", 1e-4),
    ("tiny-fp32.tflite", "tflite-runtime", 1e-4),
    ("tiny-int8.tflite", "litert", 0.1),
    ("tiny-int8.tflite", "tflite-runtime", 0.1),
    ("tiny-fp32.onnx", "onnxruntime", 1e-4),
]
_on_every_engine = pytest.mark.parametrize(("file", "engine", "bound"), _PAIRS)


def _classifier(folder: Path, file: str, engine: str) -> Classifier:
    if not extras.is_installed(engines.ENGINES[engine].library):
        pytest.skip(f"{engine} is not installed")
    return Classifier(folder / file, engine=engine)


@pytest.fixture
def levels() -> npt.NDArray[np.uint8]:
    """Of each cell, its brightness."""
    return np.random.default_rng(3).integers(0, 256, (_CELLS, _CELLS)).astype(np.uint8)


@pytest.fixture
def x_ray(levels: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.kron(levels, np.ones((16, 16), np.uint8)))


@_on_every_engine
def test_each_cell_is_what_it_is_by_hand(
    tiny_models: Path, levels: npt.NDArray[np.uint8], x_ray: Image.Image, file: str, engine: str, bound: float
) -> None:
    result = _classifier(tiny_models, file, engine).predict(x_ray, explain=True)
    assert result.heatmap is not None and result.heatmap.dtype == np.float32
    np.testing.assert_allclose(result.heatmap, 6 * (levels / 127.5 - 1), atol=bound)
    probabilities = result.probabilities
    logit = np.log(probabilities["PNEUMONIA"] / probabilities["NORMAL"])
    assert result.heatmap.mean() == pytest.approx(logit, abs=bound)


@_on_every_engine
def test_to_explain_changes_no_verdict(
    tiny_models: Path, x_ray: Image.Image, file: str, engine: str, bound: float
) -> None:
    classifier = _classifier(tiny_models, file, engine)
    plain, explained = classifier.predict(x_ray), classifier.predict(x_ray, explain=True)
    assert plain.heatmap is None
    assert (plain.label, plain.probabilities) == (explained.label, explained.probabilities)


@_on_every_engine
def test_a_heatmap_is_kept_when_the_next_image_is_judged(
    tiny_models: Path, x_ray: Image.Image, file: str, engine: str, bound: float
) -> None:
    classifier = _classifier(tiny_models, file, engine)
    first = classifier.predict(x_ray, explain=True).heatmap
    assert first is not None
    kept = first.copy()
    classifier.predict(Image.new("L", (300, 200), 255), explain=True)
    np.testing.assert_array_equal(first, kept)


def test_the_plain_data_of_a_prediction_has_no_heatmap(tiny_models: Path, x_ray: Image.Image) -> None:
    result = Classifier(tiny_models / "tiny-fp32.tflite").predict(x_ray, explain=True)
    assert "heatmap" not in json.loads(json.dumps(result.to_dict()))
    assert result == result


def test_a_file_without_a_heatmap_judges_and_does_not_explain(without_heatmap: Path, x_ray: Image.Image) -> None:
    classifier = Classifier(without_heatmap)
    assert classifier.predict(x_ray).label
    with pytest.raises(ModelFileError, match=r"has no heatmap; .* Export the model again"):
        classifier.predict(x_ray, explain=True)


def test_a_heatmap_that_quantization_spoilt_explains_nothing(
    tiny_models: Path, tmp_path: Path, x_ray: Image.Image
) -> None:
    file = "tiny-int8.tflite"
    spec = read_spec(tiny_models / file)
    outputs = tuple(replace(output, faithful=False) for output in spec.outputs)
    write_spec(tiny_models / "bare" / file, tmp_path / file, replace(spec, outputs=outputs))
    classifier = Classifier(tmp_path / file)
    assert classifier.predict(x_ray).label
    with pytest.raises(ModelFileError, match=r"lost too much precision in quantization; .* such as fp32"):
        classifier.predict(x_ray, explain=True)


def test_a_file_without_a_heatmap_gives_the_same_bits(
    without_heatmap: Path, tiny_models: Path, x_ray: Image.Image
) -> None:
    old, new = Classifier(without_heatmap), Classifier(tiny_models / without_heatmap.name)
    assert old.predict(x_ray).probabilities == new.predict(x_ray).probabilities


@pytest.mark.parametrize("file", ["tiny-fp32.tflite", "tiny-fp32.onnx"])
@pytest.mark.parametrize("wrong", ["none", "size", "name"])
def test_a_spec_with_other_outputs_than_its_file_is_refused(
    tiny_models: Path, tmp_path: Path, file: str, wrong: str
) -> None:
    spec = read_spec(tiny_models / file)
    (heatmap,) = spec.outputs
    outputs = {"none": (), "size": (replace(heatmap, shape=(7, 7)),), "name": (replace(heatmap, name="features"),)}
    write_spec(tiny_models / "bare" / file, tmp_path / file, replace(spec, outputs=outputs[wrong]))
    with pytest.raises(ModelFileError) as caught:
        Classifier(tmp_path / file)
    assert "gives shape (1, 2), heatmap of shape (1, 196)" in caught.value.given


def test_a_heatmap_that_is_not_finite_is_refused(
    tiny_models: Path, x_ray: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = Classifier(tiny_models / "tiny-fp32.tflite")
    outputs = {"probability": np.array([0.5, 0.5]), "heatmap": np.full(_CELLS**2, np.nan)}
    monkeypatch.setattr(classifier.engine, "run_all", lambda tensor: outputs)
    with pytest.raises(NoAnswerError, match="heatmap with values that are not finite"):
        classifier.predict(x_ray, explain=True)
