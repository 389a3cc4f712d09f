"""Runs TFLite files with ai-edge-litert, the maintained successor of tflite-runtime."""

from __future__ import annotations

from pathlib import Path

from ai_edge_litert import __version__
from ai_edge_litert.interpreter import Interpreter

from pneumo_edge.runtime.engines.interpreter import InterpreterEngine, InterpreterModel
from pneumo_edge.runtime.engines.tensors import Given


def load(path: Path, threads: int, given: Given) -> InterpreterEngine:
    """Load a TFLite file; see :func:`pneumo_edge.runtime.engines.load`."""
    return InterpreterEngine("litert", __version__, Interpreter, path, threads, given)


def load_any(path: Path, threads: int, given: Given) -> InterpreterModel:
    """Load any TFLite file; see :func:`pneumo_edge.runtime.engines.load_any`."""
    return InterpreterModel("litert", __version__, Interpreter, path, threads, given)
