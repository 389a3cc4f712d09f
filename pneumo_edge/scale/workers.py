"""Workers: processes that each hold a function, and apply it to what they are given. If one ends, another is started.

A worker of this machine is ``python -m pneumo_edge.scale.workers``: it reads pickles from its standard input, first the
search path of modules, the function's class and its argument, then the arguments of calls. It writes what each call
returned or raised.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
from collections.abc import Callable
from functools import partial
from typing import IO, Any, Generic, Protocol, TypeVar

from pneumo_edge._util import children
from pneumo_edge.errors import WorkerError

Argument = TypeVar("Argument", contravariant=True)
Answer = TypeVar("Answer", covariant=True)


class EndedError(Exception):
    """A worker ended before it answered; the message says how."""


class Worker(Protocol[Argument, Answer]):
    """A function in a process of its own, for one thread at a time."""

    def __call__(self, argument: Argument) -> Answer:
        """Apply the function.

        Raises:
            EndedError: The process ended; the next call starts another.
            WorkerError: No process can be started.
            Exception: What the function raised.
        """

    def stop(self) -> None:
        """End the process, from any thread; a call that waits for it raises EndedError."""

    def close(self) -> None:
        """Give back what the worker holds, after :meth:`stop`, when no call waits."""


class LocalWorker(Generic[Argument, Answer]):
    """A worker on this machine, with one interpreter.

    Args:
        function: A class at the top of a module; an instance of it is the function.
        setup: The argument of the class.
    """

    def __init__(self, function: Callable[[Any], Callable[[Argument], Answer]], setup: object) -> None:
        self._setup = function, setup
        self._child: children.Child | None = None
        self._closed = False

    def __call__(self, argument: Argument) -> Answer:
        """Apply the function; see :class:`Worker`."""
        if self._child is None:
            self._start()
        answer: Answer = self._ask(argument)
        return answer

    def _start(self) -> None:
        if self._closed:
            raise EndedError("it was closed")
        self._child = children.start("-m", __name__)
        if self._closed:  # while it was started
            self._child.process.kill()
        try:
            self._ask(sys.path, self._setup)
        except EndedError:
            raise
        except BaseException:
            self._end()
            raise

    def _ask(self, *messages: object) -> Any:
        assert self._child
        try:
            for message in messages:
                pickle.dump(message, self._child.stdin)
            self._child.stdin.flush()
            returned, value = pickle.load(self._child.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            if isinstance(error, pickle.UnpicklingError):
                self._child.process.kill()
            how, words = self._child.ending(), self._child.last_words()
            self._end()
            raise EndedError(how if how.startswith("signal") or not words else f"{how}: {words}") from error
        if not returned:
            raise value
        return value

    def stop(self) -> None:
        """End the process; see :class:`Worker`."""
        self._closed = True
        if child := self._child:
            child.process.kill()

    def close(self) -> None:
        """Close its pipes; see :class:`Worker`."""
        self._end()

    def _end(self) -> None:
        if self._child:
            self._child.close()
            self._child = None


def main() -> None:
    """Apply the function until there is nothing more to read."""
    with children.answering() as stream, contextlib.suppress(EOFError):
        sys.path[:] = pickle.load(sys.stdin.buffer)
        make, setup = pickle.load(sys.stdin.buffer)
        function: Any = None

        def begin() -> None:
            nonlocal function
            function = make(setup)

        _answer(stream, begin)
        while True:
            _answer(stream, partial(function, pickle.load(sys.stdin.buffer)))


def _answer(stream: IO[bytes], call: Callable[[], object]) -> None:
    answer: tuple[bool, object]
    try:
        answer = True, call()
    except KeyboardInterrupt:
        # Ctrl-C goes to all processes of a terminal; the parent ends this one.
        raise SystemExit from None
    except Exception as error:  # it is raised where the call was made
        answer = False, error
    try:
        message = pickle.dumps(answer)
    except Exception:  # of errors of libraries
        message = pickle.dumps((False, WorkerError(repr(answer[1]), "a worker that answers", "Report this")))
    stream.write(message)
    stream.flush()


if __name__ == "__main__":
    main()
