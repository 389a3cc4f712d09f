"""tflite-runtime where it cannot be: in a process that has imported TensorFlow, and beside numpy 2."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pneumo_edge import Classifier
from pneumo_edge.errors import MissingExtraError, ModelFileError
from pneumo_edge.runtime import engines

pytest.importorskip("tflite_runtime", reason="tflite-runtime is not installed")


@pytest.fixture
def beside_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", ModuleType("tensorflow"))


@pytest.fixture
def elsewhere(tiny_models: Path, beside_tensorflow: None) -> Iterator[Any]:
    yield Classifier(tiny_models / "tiny-fp32.tflite", engine="tflite-runtime", threads=2)


@pytest.mark.parametrize("file", ["tiny-fp32.tflite", "tiny-int8.tflite"])
def test_it_answers_in_another_process_as_in_this_one(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    here = Classifier(tiny_models / file, engine="tflite-runtime", threads=2)
    monkeypatch.setitem(sys.modules, "tensorflow", ModuleType("tensorflow"))
    there = Classifier(tiny_models / file, engine="tflite-runtime", threads=2)
    assert type(there.engine) is not type(here.engine)
    for level in (0, 90, 160, 255):
        image = Image.new("L", (300, 200), level)
        expected, found = (each.predict(image, explain=True) for each in (here, there))
        assert found.probabilities == expected.probabilities
        assert found.heatmap is not None and expected.heatmap is not None
        np.testing.assert_array_equal(found.heatmap, expected.heatmap)
    for name in ("name", "version", "threads", "input_shape", "input_dtype", "output_shape", "other_shapes"):
        assert getattr(there.engine, name) == getattr(here.engine, name)
    assert there.engine.delegation == here.engine.delegation
    assert there.engine.read_graph() == here.engine.read_graph()


def test_a_file_that_it_refuses_is_refused_in_the_same_words(
    inert_tflite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, said = engines.ENGINES["tflite-runtime"], []
    for _ in range(2):
        with pytest.raises(ModelFileError) as caught:
            engines.load(inert_tflite, row)
        said.append(str(caught.value))
        monkeypatch.setitem(sys.modules, "tensorflow", ModuleType("tensorflow"))
    assert said[0] == said[1]


def test_where_the_process_dies_the_file_is_named(elsewhere: Classifier) -> None:
    process = elsewhere.engine._child.process  # type: ignore[attr-defined]
    process.kill()
    process.wait()
    with pytest.raises(ModelFileError, match=r"tflite-runtime crashed on .*tiny-fp32.tflite \(signal SIGKILL\)"):
        elsewhere.predict(Image.new("L", (300, 200)))


def test_its_process_ends_with_it(tiny_models: Path, beside_tensorflow: None) -> None:
    engine: Any = engines.load(tiny_models / "tiny-fp32.tflite", engines.ENGINES["tflite-runtime"])
    process = engine._child.process
    del engine
    assert process.wait(60) == 0


def test_numpy_2_is_what_is_blamed_and_not_the_model(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("pneumo_edge.runtime.engines.tflite_runtime")
    monkeypatch.setattr(np, "__version__", "2.4.6")
    monkeypatch.delitem(sys.modules, module.__name__)
    with pytest.raises(MissingExtraError) as caught:
        Classifier(tiny_models / "tiny-fp32.tflite", engine="tflite-runtime")
    assert "was built for numpy 1, and this is numpy 2.4.6" in str(caught.value)
    assert 'pip install "pneumo-edge[tflite]"' in str(caught.value)
