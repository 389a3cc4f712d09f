"""Another project's client takes our files with no word from us: MediaPipe Tasks, in an environment of its own."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pneumo_edge import Classifier, bundled
from pneumo_edge.data.tensors import Dataset
from pneumo_edge.formats import FORMATS
from pneumo_edge.runtime.classifier import read_spec

pytestmark = pytest.mark.slow

_MODELS = ("tiny-fp32.tflite", "tiny-int8.tflite", *(bundled.path(name).name for name in bundled.NAMES))
_CLIENT = Path(__file__).parents[1] / "mediapipe_client.py"
_IMAGES = 50
_NO_LIBRARY = re.compile(r"lib(GLESv2|EGL)\S*: cannot open shared object file")
_each = pytest.mark.parametrize("name", _MODELS)


@pytest.fixture(scope="module")
def models(tiny_models: Path) -> dict[str, Path]:
    paths = [tiny_models / name for name in _MODELS if name.startswith("tiny")]
    return {path.name: path for path in (*paths, *map(bundled.path, bundled.NAMES))}


@pytest.fixture(scope="module")
def images(dataset: Dataset) -> npt.NDArray[np.uint8]:
    """Of the models' own size, so that nobody resizes, and half of them in colour, so that swapped channels show."""
    indices = dataset.indices("train")
    chosen = dataset.rgb(indices[np.linspace(0, len(indices) - 1, _IMAGES).astype(int)])
    chosen[::2] = (chosen[::2] * np.array([1.0, 0.7, 0.4])).astype(np.uint8)
    return chosen


@pytest.fixture(scope="module")
def mediapipe_says(
    models: dict[str, Path],
    images: npt.NDArray[np.uint8],
    tmp_path_factory: pytest.TempPathFactory,
    fresh_environment: Callable[[Path, str], Path],
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("mediapipe")
    python = fresh_environment(folder / "venv", "mediapipe")
    np.save(folder / "images.npy", images)
    command = [python, _CLIENT, folder / "images.npy", *models.values()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if missing := _NO_LIBRARY.search(done.stderr):
        pytest.skip(f"MediaPipe takes a graphics library of the system: {missing[0]}")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return {Path(path).name: document for path, document in said.items()}


@_each
def test_it_gives_the_same_label_and_probability(
    name: str, mediapipe_says: dict[str, Any], models: dict[str, Path], images: npt.NDArray[np.uint8]
) -> None:
    classifier = Classifier(models[name])
    names, decision = classifier.spec.class_names, classifier.spec.decision
    ours = np.array([classifier.engine.run(classifier.as_input(pixels)) for pixels in images])
    said = mediapipe_says[name]
    theirs = np.array([[dict(categories)[label] for label in names] for categories in said["images"]])
    # The same file on another build of the same engine: the narrowest bound there is holds for every format.
    np.testing.assert_allclose(theirs, ours, atol=FORMATS["tflite-fp32"].bounds.max_difference)
    assert [categories[0][0] for categories in said["images"]] == [names[index] for index in ours.argmax(axis=1)]
    labels = [classifier.decide(dict(zip(names, row.tolist(), strict=True))) for row in ours]
    assert said["reported"] == [label == decision.positive_class for label in labels]
    assert len(labels) == _IMAGES


@_each
def test_it_reads_what_the_file_says_of_itself(
    name: str, mediapipe_says: dict[str, Any], models: dict[str, Path]
) -> None:
    spec, metadata = read_spec(models[name]), mediapipe_says[name]["metadata"]
    assert metadata["name"] == spec.name
    assert spec.backbone in metadata["description"] and spec.notice in metadata["description"]
    assert (
        f"PNEUMONIA is reported where its probability is at least {spec.decision.threshold:.4f}"
        in (metadata["description"])
    )
    assert metadata["version"] == spec.versions["pneumo-edge"]
    assert metadata["author"] == "pneumo-edge"
    assert metadata["license"] == f"Apache-2.0; training data: {spec.data.licence}"
    assert metadata["minParserVersion"] == "1.0.0"
    assert [file["name"] for file in metadata["associatedFiles"]] == ["pneumo_edge_spec.json"]
    (graph,) = metadata["subgraphMetadata"]
    (image,), (probability, *others) = graph["inputTensorMetadata"], graph["outputTensorMetadata"]

    image_properties, rgb, normalization = 2, 1, 1
    assert image["name"] == "image"
    assert image["content"] == {
        "contentPropertiesType": image_properties,
        "contentProperties": {"colorSpace": rgb},
    }
    assert image["processUnits"] == [{"optionsType": normalization, "options": {"mean": [0.0], "std": [1.0]}}]
    assert image["stats"] == {"min": [0.0], "max": [255.0]}

    feature_properties, tensor_axis_labels = 1, 2
    assert probability["name"] == "probability"
    assert probability["content"]["contentPropertiesType"] == feature_properties
    assert probability["stats"] == {"min": [0.0], "max": [1.0]}
    assert [(file["name"], file["type"]) for file in probability["associatedFiles"]] == [
        ("labels.txt", tensor_axis_labels)
    ]
    assert [(other["name"], other["description"]) for other in others] == [
        (output.name, output.description) for output in spec.outputs
    ]
