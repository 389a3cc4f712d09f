"""TFLite files through tflite-runtime, for devices that already have it; its last release is 2.14.0."""

from __future__ import annotations

import sys
from pathlib import Path

from tflite_runtime import __version__
from tflite_runtime.interpreter import Interpreter

from pneumo_edge.errors import ModelFileError
from pneumo_edge.runtime.engines.interpreter import InterpreterEngine


def load(path: Path, threads: int) -> InterpreterEngine:
    """Load a TFLite file; see :func:`pneumo_edge.runtime.engines.load`."""
    if "tensorflow" in sys.modules:
        # It would fail with "vector::reserve": the two libraries' symbols meet in one process.
        raise ModelFileError(
            "tflite-runtime cannot load a model in a process that has imported TensorFlow",
            "a process without it",
            "Use the engine litert, or do not import TensorFlow or Keras here",
        )
    return InterpreterEngine("tflite-runtime", __version__, Interpreter, path, threads)
