"""The table of kinds of model files, by suffix. Nothing else in the project tells them apart."""

from __future__ import annotations

from pathlib import Path

from pneumo_edge.spec.onnx import ONNX
from pneumo_edge.spec.tflite import TFLITE

CONTAINERS = {container.suffix: container for container in (TFLITE, ONNX)}
MODEL_SUFFIXES = frozenset(CONTAINERS)
#: For messages.
SUFFIXES_IN_WORDS = " or ".join(CONTAINERS)


def suffix_of(path: Path) -> str:
    """The ending of a file as the table has it: ``.ONNX`` is ``.onnx``."""
    return path.suffix.lower()
