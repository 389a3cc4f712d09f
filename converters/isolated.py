"""Runs TensorFlow in a child process, so that its crash or its chatter does not reach the user."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from pneumo_edge.errors import ConversionError, PneumoEdgeError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Call(Protocol):
    """Calls a function of this package in the child process."""

    def __call__(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Return what the function returns; raise ConversionError where it fails."""
        ...


@contextlib.contextmanager
def child_process(log: Path) -> Iterator[Call]:
    """Give a caller into one child process, which lives until the block ends.

    Args:
        log: File for everything that the child prints.

    Raises:
        ConversionError: From the caller, where a function raised or the process died.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_redirect, initargs=(str(log),)) as pool:

        def call(function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            try:
                return pool.submit(function, *args, **kwargs).result()
            except PneumoEdgeError:
                raise
            except BrokenProcessPool as error:
                raise _failed("the converter's process died (out of memory, or a crash in native code)", log) from error
            except Exception as error:  # whatever TensorFlow, tf2onnx or onnx raise
                raise _failed(f"the converter failed ({type(error).__name__}: {str(error)[:200]})", log) from error

        yield call


def _failed(what: str, log: Path) -> ConversionError:
    return ConversionError(what, "a model it can convert", f"The converter's own messages are in {log}")


def _redirect(log: str) -> None:
    # Keras reads its backend when it is imported; the converters take TensorFlow graphs.
    os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="2", CUDA_VISIBLE_DEVICES="-1")
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
