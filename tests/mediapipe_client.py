"""Somebody else's client: ``python mediapipe_client.py IMAGES.npy MODEL...`` prints what it makes of each file.

A program of its own, for an environment with MediaPipe and without pneumo-edge. It knows nothing of a model file
but its path. IMAGES is uint8 of shape (images, height, width, 3). For each model's path the JSON on standard output
holds ``metadata`` (the TFLite Model Metadata as MediaPipe's own generated classes read it), ``images`` (for each the
categories as pairs of name and score, best first) and ``reported`` (for each whether the positive class is
reported, with the threshold given to MediaPipe).
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import mediapipe
import numpy as np
from mediapipe.tasks.metadata import metadata_schema_py_generated, schema_py_generated
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.vision import ImageClassifier, ImageClassifierOptions


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [_plain(element) for element in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if hasattr(value, "__dict__"):
        return {name: _plain(field) for name, field in vars(value).items() if field is not None}
    return value


def _metadata(model: Path) -> Any:
    content = model.read_bytes()
    parsed = schema_py_generated.ModelT.InitFromPackedBuf(content)
    (entry,) = [entry for entry in parsed.metadata if entry.name == b"TFLITE_METADATA"]
    packed = bytes(parsed.buffers[entry.buffer].data)
    if not metadata_schema_py_generated.ModelMetadata.ModelMetadataBufferHasIdentifier(packed, 0):
        raise ValueError("the metadata buffer has no identifier M001")
    return _plain(metadata_schema_py_generated.ModelMetadataT.InitFromPackedBuf(packed))


def _classify(model: Path, images: Any, **options: Any) -> list[list[tuple[str, float]]]:
    base = BaseOptions(model_asset_path=str(model))
    with ImageClassifier.create_from_options(ImageClassifierOptions(base_options=base, **options)) as classifier:
        found = []
        for pixels in images:
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
            categories = classifier.classify(image).classifications[0].categories
            found.append([(category.category_name, category.score) for category in categories])
        return found


def _says(model: Path, images: Any) -> dict[str, Any]:
    with zipfile.ZipFile(model) as archive:
        decision = json.loads(archive.read("pneumo_edge_spec.json"))["decision"]
    options = {"category_allowlist": [decision["positive_class"]], "score_threshold": decision["threshold"]}
    return {
        "metadata": _metadata(model),
        "images": _classify(model, images),
        "reported": [bool(categories) for categories in _classify(model, images, **options)],
    }


if __name__ == "__main__":
    images = np.load(sys.argv[1])
    print(json.dumps({model: _says(Path(model), images) for model in sys.argv[2:]}))
