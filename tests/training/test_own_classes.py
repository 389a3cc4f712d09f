"""Own networks of several classes are exported: a SavedModel that gives logits of images of any size, and a softmax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pneumo_edge
from pneumo_edge.errors import GateError
from pneumo_edge.spec import COMPONENTS, HEATMAP

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")]

_CLASSES, _SIDE = ("a dim", "b half", "c bright"), 96


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("shades"), np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 4)):
        for name, low in zip(_CLASSES, (10, 100, 190), strict=True):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(low, low + 55, (8, 8), dtype=np.uint8)
                picture = Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
                picture.save(folder / split / name / f"{index}.png")
    return folder


def _network(keras: Any, last: Any) -> Any:
    """Answers by brightness, of pixels of 0 to 1; with what the last layer does to logits."""
    layers, image = keras.layers, keras.Input((None, None, 3))
    patches, logits = layers.Conv2D(4, 4, strides=4), layers.Dense(3)
    tensor = logits(layers.GlobalAveragePooling2D()(patches(image)))
    # Each class begins to win where the one before ends.
    patches.set_weights([np.full((4, 4, 3, 4), 1 / 48), np.zeros(4)])
    logits.set_weights([np.array([[0.0, 5.0, 10.0]] * 4), np.array([0.0, -7.0, -20.0])])
    return keras.Model(image, last(tensor) if last else tensor)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(tmp_path_factory.getbasetemp() / "own-classes-cache"))


def test_a_saved_model_that_gives_logits(keras: Any, shades: Path, tmp_path: Path) -> None:
    model = _network(keras, None)
    model.export(tmp_path / "lamp", verbose=False)
    told: list[str] = []
    options: dict[str, Any] = {"data": shades, "image_size": _SIDE, "out": tmp_path / "models", "tell": told.append}
    with pytest.raises(GateError, match=r"with --input-range 0\.\.1 \S+lamp would be right 100% of the time"):
        pneumo_edge.export(tmp_path / "lamp", "tflite-fp32", input_range="0..255", **options)
    assert not (tmp_path / "models").exists()
    files = pneumo_edge.export(tmp_path / "lamp", ("tflite-int8", "onnx-fp32"), input_range="0..1", **options)
    assert [file.path.name for file in files] == ["lamp-int8.tflite", "lamp-fp32.onnx"]
    assert any("have no input check" in line for line in told)
    for file in files:
        assert (file.spec.class_names, file.spec.decision.threshold) == (_CLASSES, None)
        assert file.spec.output(HEATMAP) and not file.spec.output(COMPONENTS)
        assert all(found["agreement"] == 1 for found in file.proof.verification.measured.values())
        classifier = pneumo_edge.Classifier(file.path)
        for name in _CLASSES:
            with Image.open(shades / "test" / name / "0.png") as image:
                pixels = np.asarray(image.convert("RGB"), np.float32)[np.newaxis] / 255
                prediction = classifier.predict(image)
            logits = model.predict(pixels, verbose=0)[0] / file.spec.temperature
            expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
            assert prediction.label == name == _CLASSES[int(logits.argmax())]
            assert list(prediction.probabilities.values()) == pytest.approx(expected, abs=0.05)


def test_a_softmax_of_an_h5_file(keras: Any, shades: Path, tmp_path: Path) -> None:
    _network(keras, keras.layers.Softmax()).save(tmp_path / "lamp.h5")
    (file,) = pneumo_edge.export(
        tmp_path / "lamp.h5", "tflite-fp32", data=shades, input_range="0..1", image_size=_SIDE, out=tmp_path / "models",
        tell=lambda line: None,
    )  # fmt: skip
    assert file.spec.class_names == _CLASSES and file.spec.output(HEATMAP)
    assert all(found["agreement"] == 1 for found in file.proof.verification.measured.values())
