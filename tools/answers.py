"""Prints the probabilities of each engine for images as JSON: ``python -m tools.answers PIXELS.npy MODEL ...``.

``{"processor": ..., "probabilities": {model: {engine: [probability of the positive class, ...]}}}``. An ONNX file is
loaded without any option of this project.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_edge._util import extras, processor
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import ONNX, PROBABILITY


def _ask(model: Path, row: engines.EngineInfo, pixels: Any) -> Iterator[float]:
    spec = read_spec(model)
    answers: Iterator[Any]
    tensors = (image[np.newaxis].astype(spec.input.dtype) for image in pixels)
    if model.suffix == ONNX.suffix:
        session = extras.need("onnxruntime", "onnx").InferenceSession(str(model), providers=["CPUExecutionProvider"])
        answers = (session.run([PROBABILITY], {spec.input.name: tensor})[0][0] for tensor in tensors)
    else:
        answers = map(engines.load(model, row).run, tensors)
    return (float(spec.task.scores(answer)) for answer in answers)


if __name__ == "__main__":
    images, *models = map(Path, sys.argv[1:])
    pixels = np.load(images)
    said = {
        str(model): {row.name: list(_ask(model, row, pixels)) for row in engines.installed_engines_for(model)}
        for model in models
    }
    print(json.dumps({"processor": processor.kind(), "probabilities": said}))
