"""Writes the ModelSpec and the ecosystem's own metadata into a model file.

Each kind of file (:mod:`pneumo_edge.spec.containers`) has a module here, because writing needs libraries that a device
does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pneumo_edge.converters.metadata import onnx, tflite
from pneumo_edge.spec import ONNX, TFLITE, ModelSpec

#: The writer of each kind of model file, by suffix.
WRITERS: dict[str, Callable[[Path, Path, ModelSpec], ModelSpec]] = {
    TFLITE.suffix: tflite.write,
    ONNX.suffix: onnx.write,
}


def write_spec(model: Path, target: Path, spec: ModelSpec) -> ModelSpec:
    """Copy a model file with its ModelSpec and with the metadata that other clients read.

    The same model and spec give the same bytes, also for a file that already has a ModelSpec. The graph is not changed.

    Args:
        model: A ``.tflite`` or ``.onnx`` file with one input, and with the outputs of the spec, ``probability``
            first. Its own description is replaced.
        target: Where to write the copy; it may not be ``model``.
        spec: What to write; its ``model_sha256`` is found here.

    Returns:
        The spec that was written.

    Raises:
        OSError: The target cannot be written.
        MissingExtraError: The extra ``convert`` is not installed.
    """
    return WRITERS[model.suffix](model, target, spec)
