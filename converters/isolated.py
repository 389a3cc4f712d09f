"""Runs TensorFlow in a child process, so that its crashes and its output do not reach the user.

The child is ``python -m pneumo_edge.converters.isolated PLACE``: it reads pickled functions from its standard input,
one after the other, and writes what each returned, or how it failed, to its standard output.
"""

from __future__ import annotations

import contextlib
import errno
import pickle
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Literal, ParamSpec, TypeVar

from pneumo_edge._util import children, memory, scratch
from pneumo_edge.errors import ConversionError, PneumoEdgeError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

#: Error numbers of the system for a full disk, quota or file limit.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: Keras reads its backend when it is imported; the converters need TensorFlow graphs.
_ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}

#: How a function ended in the child: it returned, raised an error of ours, found no room, or failed.
_Ending = Literal["returned", "refused", "no room", "failed"]


class _DiedError(Exception):
    """The child process died before it answered."""


class Child:
    """A child process that runs one function after the other. If it dies, a new one is started."""

    def __init__(self, log: Path, place: Path) -> None:
        self._log, self._place = log, place
        # One thread talks to the process, so functions are queued and this process continues.
        self._turns = ThreadPoolExecutor(1)
        self._lock = threading.Lock()
        self._process: children.Child | None = None
        self._closed = False

    def start(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Callable[[], Result]:
        """Run a function in the child while this process continues.

        Args:
            function: A function at the top level of a module other than ``__main__``, so that the child can import it.
            *args: Its arguments, which must be picklable.
            **kwargs: Its keyword arguments.

        Returns:
            A function that waits for the result and returns it; it raises ConversionError if the function raised or the
            process died.
        """
        order = function, args, kwargs
        future = self._turns.submit(self._carry_out, order)

        def wait() -> Result:
            try:
                try:
                    ending, told = future.result()
                except _DiedError:
                    # Another function may have killed the process, so this one gets a second attempt.
                    ending, told = self._turns.submit(self._carry_out, order).result()
            except _DiedError as error:
                died = "the converter's process died (out of memory, or a crash in native code)"
                raise _failed(died, self._log) from error
            result: Result = self._result(ending, told)
            return result

        return wait

    def call(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Run a function in the child and wait for its result; raises as :meth:`start`."""
        return self.start(function, *args, **kwargs)()

    def close(self) -> None:
        """End the child process and drop pending functions."""
        with self._lock:
            self._closed = True
            if self._process:
                self._process.process.kill()
        self._turns.shutdown(cancel_futures=True)
        if self._process:
            self._process.close()

    def _result(self, ending: _Ending, told: Any) -> Any:
        match ending:
            case "returned":
                return told
            case "refused":
                raise told
            case "no room":
                number, text, name = told
                raise OSError(number, text, name or str(self._place))
            case "failed":
                raise _failed(told, self._log)

    def _carry_out(self, order: object) -> tuple[_Ending, Any]:
        """In the thread: run a function in the process."""
        try:
            request = pickle.dumps(order)
        except Exception as error:  # the arguments may raise anything
            return "failed", _what(error)
        process = self._running()
        try:
            _send(process.stdin, request)
            answer: tuple[_Ending, Any] = pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            with self._lock:
                self._process = None
            process.close()
            raise _DiedError from error
        return answer

    def _running(self) -> children.Child:
        with self._lock:
            if self._closed:
                raise _DiedError
            if not self._process:
                program = "-m", "pneumo_edge.converters.isolated", str(self._place)
                self._process = children.start(*program, errors=self._log, environment=_ENVIRONMENT)
                # The child imports functions by module name, so it needs the path of this process.
                with contextlib.suppress(OSError):
                    _send(self._process.stdin, sys.path)
            return self._process


@contextlib.contextmanager
def child_process(log: Path) -> Iterator[Child]:
    """Give a child process, which lives until the block ends, however it ends and busy or not.

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


def _failed(what: str, log: Path) -> ConversionError:
    return ConversionError(what, "a model it can convert", f"The converter's own messages are in {log}")


def _send(stream: IO[bytes], message: object) -> None:
    pickle.dump(message, stream)
    stream.flush()


def main(place: str) -> None:
    """Run functions until there are no more.

    Args:
        place: Folder for temporary files: what a child leaves that was ended in its work goes with it.
    """
    tempfile.tempdir = place
    memory.keep_freed()
    with children.answering() as stream:
        sys.path[:] = pickle.load(sys.stdin.buffer)
        with contextlib.suppress(EOFError):
            while True:
                stream.write(_answer(pickle.load(sys.stdin.buffer)))
                stream.flush()


def _answer(request: bytes) -> bytes:
    """Carry out a pickled function; how it ended, and its result or what there is to say of its error, pickled."""
    answer: tuple[_Ending, Any]
    try:
        function, args, kwargs = pickle.loads(request)
        return pickle.dumps(("returned", function(*args, **kwargs)))
    except PneumoEdgeError as error:
        answer = "refused", error
    except Exception as error:  # TensorFlow, tf2onnx and onnx may raise anything
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            answer = "no room", (error.errno, error.strerror, error.filename)
        else:
            traceback.print_exc()
            answer = "failed", _what(error)
    return pickle.dumps(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
