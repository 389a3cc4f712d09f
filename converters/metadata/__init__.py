"""Writes into a model file what it says of itself: its ModelSpec, and the ecosystem's own metadata.

Each kind of file (:mod:`pneumo_edge.spec.containers`) is a module here, because writing takes libraries that a device
does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pneumo_edge.converters.metadata import onnx, tflite
from pneumo_edge.spec import ONNX, TFLITE, ModelSpec

#: How each kind of model file is written, by suffix.
WRITERS: dict[str, Callable[[Path, Path, ModelSpec], ModelSpec]] = {
    TFLITE.suffix: tflite.write,
    ONNX.suffix: onnx.write,
}


def write_spec(model: Path, target: Path, spec: ModelSpec) -> ModelSpec:
    """Copy a model file with its ModelSpec inside, and with the metadata that other people's clients read.

    The same model and spec give the same bytes, and a file that was written before gives the same as the
    file it was made from. The graph stays as it is.

    Args:
        model: A ``.tflite`` or ``.onnx`` file with one input, and with the outputs of the spec, ``probability``
            first. What it says of itself is replaced.
        target: Where to write the copy; it may not be ``model``.
        spec: What to write; its ``model_sha256`` is found here.

    Returns:
        The spec that was written.

    Raises:
        OSError: The target cannot be written.
        MissingExtraError: The extra ``convert`` is not installed.
    """
    return WRITERS[model.suffix](model, target, spec)
