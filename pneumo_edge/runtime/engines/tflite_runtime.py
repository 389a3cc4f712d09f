"""TFLite files through tflite-runtime, for devices that already have it; its last release is 2.14.0."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from tflite_runtime.interpreter import Interpreter

from pneumo_edge.runtime.engines.interpreter import InterpreterEngine


def load(path: Path, threads: int) -> InterpreterEngine:
    """Load a TFLite file; see :func:`pneumo_edge.runtime.engines.load`."""
    return InterpreterEngine("tflite-runtime", version("tflite-runtime"), Interpreter, path, threads)
