"""Runs TensorFlow in a child process, so that its crash or its chatter does not reach the user."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import ParamSpec, TypeVar

from pneumo_edge.errors import ConversionError, PneumoEdgeError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Child:
    """A child process that carries out one function after the other; one that dies is followed by another."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._pool = self._new_pool()

    def start(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Callable[[], Result]:
        """Have a function carried out while this process goes on.

        Returns:
            A function that waits for the result and returns it; it raises ConversionError where the
            function raised or the process died of it.
        """
        future = self._submit(function, *args, **kwargs)

        def wait() -> Result:
            try:
                try:
                    return future.result()
                except BrokenProcessPool:
                    # It may have been another function that the process died of: that one dies again.
                    return self._submit(function, *args, **kwargs).result()
            except PneumoEdgeError:
                raise
            except BrokenProcessPool as error:
                died = "the converter's process died (out of memory, or a crash in native code)"
                raise _failed(died, self._log) from error
            except Exception as error:  # whatever TensorFlow, tf2onnx or onnx raise
                what = f"the converter failed ({type(error).__name__}: {str(error)[:200]})"
                raise _failed(what, self._log) from error

        return wait

    def close(self) -> None:
        """End the child process; what was started and not waited for is dropped."""
        self._pool.shutdown(cancel_futures=True)

    def _submit(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Future[Result]:
        try:
            return self._pool.submit(function, *args, **kwargs)
        except BrokenProcessPool:
            self._pool = self._new_pool()
            return self._pool.submit(function, *args, **kwargs)

    def _new_pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, mp_context=context, initializer=_set_up, initargs=(str(self._log),))

    def call(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Have a function carried out, and wait for its result; raises as :meth:`start`."""
        return self.start(function, *args, **kwargs)()


@contextlib.contextmanager
def child_process(log: Path) -> Iterator[Child]:
    """Give a child process, which lives until the block ends.

    Args:
        log: File for everything that the child prints.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    child = Child(log)
    try:
        yield child
    finally:
        child.close()


def _failed(what: str, log: Path) -> ConversionError:
    return ConversionError(what, "a model it can convert", f"The converter's own messages are in {log}")


def _end_with_parent() -> None:
    # A parent that was killed could not say so, and its orders would be carried out for nobody.
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _set_up(log: str) -> None:
    # Keras reads its backend when it is imported; the converters take TensorFlow graphs.
    os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="2", CUDA_VISIBLE_DEVICES="-1")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
