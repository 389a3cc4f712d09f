"""Runs TFLite files with tflite-runtime, for devices that already have it; its last release is 2.14.0."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tflite_runtime import __version__
from tflite_runtime.interpreter import Interpreter

from pneumo_edge.runtime.engines.interpreter import InterpreterEngine, InterpreterModel
from pneumo_edge.runtime.engines.tensors import Given

if TYPE_CHECKING:
    from pneumo_edge.runtime.engines.elsewhere import EngineElsewhere

if int(np.__version__.partition(".")[0]) >= 2:
    # tflite-runtime imports with numpy 2, but then refuses every model with a misleading error.
    raise ImportError(f"tflite-runtime {__version__} was built for numpy 1, and this is numpy {np.__version__}")


def load(path: Path, threads: int, given: Given) -> InterpreterEngine | EngineElsewhere:
    """Load a TFLite file; see :func:`pneumo_edge.runtime.engines.load`."""
    if "tensorflow" in sys.modules:
        # Beside TensorFlow it fails with "vector::reserve", because symbols of the two libraries clash.
        from pneumo_edge.runtime.engines import elsewhere

        return elsewhere.load_elsewhere(path, "tflite-runtime", threads, given)
    return InterpreterEngine("tflite-runtime", __version__, Interpreter, path, threads, given)


def load_any(path: Path, threads: int, given: Given) -> InterpreterModel:
    """Load any TFLite file; see :func:`pneumo_edge.runtime.engines.load_any`."""
    return InterpreterModel("tflite-runtime", __version__, Interpreter, path, threads, given)
