"""Runs TensorFlow in a child process, so that its crash or its chatter does not reach the user."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import ParamSpec, TypeVar

from pneumo_edge._util import scratch
from pneumo_edge.errors import ConversionError, PneumoEdgeError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

#: What the system says where a disk, a quota or a limit on files is full.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Child:
    """A child process that carries out one function after the other; one that dies is followed by another."""

    def __init__(self, log: Path, place: Path) -> None:
        self._log, self._place = log, place
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
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise _failed(_what(error), self._log) from error
                raise OSError(error.errno, error.strerror, error.filename or str(self._place)) from error
            except BrokenProcessPool as error:
                died = "the converter's process died (out of memory, or a crash in native code)"
                raise _failed(died, self._log) from error
            except Exception as error:  # whatever TensorFlow, tf2onnx or onnx raise
                raise _failed(_what(error), self._log) from error

        return wait

    def close(self) -> None:
        """End the child process; what was started and not waited for is dropped."""
        self._end.close()
        self._pool.shutdown(cancel_futures=True)

    def _submit(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Future[Result]:
        with _program_unseen(function.__module__):
            try:
                return self._pool.submit(function, *args, **kwargs)
            except BrokenProcessPool:
                self._pool = self._new_pool()
                return self._pool.submit(function, *args, **kwargs)

    def _new_pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        # It is closed with this process, too, which so could not say that it was killed.
        ended, self._end = context.Pipe(duplex=False)
        arguments = str(self._log), str(self._place), ended
        return ProcessPoolExecutor(1, mp_context=context, initializer=_set_up, initargs=arguments)

    def call(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Have a function carried out, and wait for its result; raises as :meth:`start`."""
        return self.start(function, *args, **kwargs)()


@contextlib.contextmanager
def child_process(log: Path) -> Iterator[Child]:
    """Give a child process, which lives until the block ends, however it ends, and whatever the child is at.

    Args:
        log: File for everything that the child prints; its temporary files lie beside it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with scratch.folder(log.parent) as place:
        child = Child(log, place)
        try:
            yield child
        finally:
            child.close()


def _what(error: Exception) -> str:
    return f"the converter failed ({type(error).__name__}: {str(error)[:200]})"


@contextlib.contextmanager
def _program_unseen(module: str) -> Iterator[None]:
    """Keep a process that is started meanwhile from running the user's program once more, to find functions in it."""
    program = sys.modules["__main__"]
    if module == program.__name__:
        yield
        return
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def _failed(what: str, log: Path) -> ConversionError:
    return ConversionError(what, "a model it can convert", f"The converter's own messages are in {log}")


def _end_with_parent(ended: Connection) -> None:
    # Nothing ever comes, and a conversion that nobody waits for is not worth its minutes.
    with contextlib.suppress(EOFError, OSError):
        ended.recv()
    os._exit(1)


def _set_up(log: str, place: str, ended: Connection) -> None:
    # Keras reads its backend when it is imported; the converters take TensorFlow graphs.
    os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="2", CUDA_VISIBLE_DEVICES="-1")
    threading.Thread(target=_end_with_parent, args=(ended,), daemon=True).start()
    # What a child leaves that was ended in its work goes with this folder.
    tempfile.tempdir = place
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
