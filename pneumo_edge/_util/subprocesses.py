"""Calls a function in a fresh process: a record in, a record out.

If that process crashes, this one continues and reports it: the native code of an engine crashes on many hostile model
files, that of tflite-runtime on most. :func:`call` runs it as
``python -m pneumo_edge._util.subprocesses MODULE FUNCTION MEMORY``. :func:`begin` does not wait for the answer.
"""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pneumo_edge import errors
from pneumo_edge._util import children, records
from pneumo_edge.errors import ExitCode, ModelFileError, PneumoEdgeError

Argument = typing.TypeVar("Argument")
Answer = typing.TypeVar("Answer")

#: What an untrusted file may make the process take, in bytes; every file of ours takes less than a quarter of it.
MAX_MEMORY = 4 * 2**30


@dataclass(frozen=True)
class _Told:
    """A PneumoEdgeError on its way between processes."""

    kind: str
    given: str
    expected: str
    remedy: str


@dataclass(frozen=True)
class Begun(typing.Generic[Answer]):
    """A function that is carried out in a fresh process; as a context, the process is ended with the block."""

    _child: children.Child
    _answer: type[Answer]
    _crashed: Callable[[str], PneumoEdgeError]

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._child.process.poll() is not None

    def answer(self, seconds: float | None = None) -> Answer:
        """Wait for the answer.

        Args:
            seconds: How long it may take; None for as long as it likes.

        Raises:
            PneumoEdgeError: As :func:`call`.
        """
        try:
            output, _ = self._child.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise self._crashed(f"no answer within {seconds:.0f} s") from error
        code = self._child.process.returncode
        last_words = [words] if code > 0 and (words := self._child.last_words()) else []
        with contextlib.suppress(records.RecordError):
            if code == ExitCode.OK:
                return records.loads(self._answer, output)
            if code == ExitCode.FAILED:
                told = records.loads(_Told, output)
                raise _known_errors().get(told.kind, PneumoEdgeError)(told.given, told.expected, told.remedy)
        raise self._crashed(": ".join([children.how_it_ended(code), *last_words]))

    def __enter__(self) -> Begun[Answer]:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()


def begin(
    function: Callable[[Argument], Answer],
    argument: Argument,
    crashed: Callable[[str], PneumoEdgeError],
    *,
    memory: int = 0,
    errors: children.Errors = "kept",
    environment: Mapping[str, str] | None = None,
) -> Begun[Answer]:
    """Begin to carry out a function in a fresh process.

    Args:
        function: As for :func:`call`.
        argument: As for :func:`call`.
        crashed: As for :func:`call`.
        memory: As for :func:`call`.
        errors: Where its standard error goes.
        environment: As for :func:`call`.
    """
    program = "-m", __name__, function.__module__, function.__name__, str(memory)
    child = children.start(*program, errors=errors, environment=environment)
    # A process that ends at once takes nothing; how it ended is told with its answer.
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(records.dumps(argument, indent=None).encode())
        child.stdin.flush()
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()
    child.process.stdin = None
    return Begun(child, typing.get_type_hints(function)["return"], crashed)


def call(
    function: Callable[[Argument], Answer],
    argument: Argument,
    crashed: Callable[[str], PneumoEdgeError],
    *,
    seconds: float | None = None,
    memory: int = 0,
    progress: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Answer:
    """Carry out a function in a fresh process.

    Args:
        function: A function at the top of its module, from one dataclass to another, which JSON can hold.
        argument: What it gets.
        crashed: Makes the error of a process that ended without an answer, from the words for how it ended.
        seconds: How long it may take; None for as long as it likes.
        memory: How many bytes of data it may take, where the system can say so; 0 for as many as it likes.
        progress: Whether a person at a terminal sees what it says on standard error.
        environment: Variables that the process has beside those of this one.

    Raises:
        PneumoEdgeError: Of the class that the function raised, with the same words; or that of ``crashed``.
    """
    # What nobody sees is kept, for the last words of a crash.
    shown: children.Errors = "shown" if progress and sys.stderr.isatty() else "kept"
    with begin(function, argument, crashed, memory=memory, errors=shown, environment=environment) as begun:
        return begun.answer(seconds)


def call_untrusted(function: Callable[[Argument], Answer], argument: Argument, blamed: str, seconds: float) -> Answer:
    """The same for work on an untrusted model file, within bounded time and :data:`MAX_MEMORY`.

    Args:
        function: As for :func:`call`.
        argument: As for :func:`call`.
        blamed: Who crashed on what, where it crashes; for example ``"litert on x.tflite"``.
        seconds: How long it may take.

    Raises:
        PneumoEdgeError: Of the class that the function raised, with the same words.
        ModelFileError: The process crashed, or took too long.
    """

    def crashed(how: str) -> ModelFileError:
        return ModelFileError(
            f"{blamed} crashed ({how})",
            "a complete model file that does no harm",
            "Do not use it; copy it again from its source",
        )

    return call(function, argument, crashed, seconds=seconds, memory=MAX_MEMORY, progress=True)


def _known_errors() -> dict[str, type[PneumoEdgeError]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, PneumoEdgeError)
    }


def main(module: str, name: str, memory: str) -> int:
    """Carry out a function with the record on standard input; its answer is all that standard output gets."""
    with children.answering() as stream:
        if int(memory):
            _limit_memory(int(memory))
        function = getattr(importlib.import_module(module), name)
        (kind,) = (hint for name, hint in typing.get_type_hints(function).items() if name != "return")
        try:
            answer = function(records.loads(kind, sys.stdin.buffer.read()))
        except PneumoEdgeError as error:
            told = _Told(type(error).__name__, error.given, error.expected, error.remedy)
            stream.write(records.dumps(told).encode())
            return ExitCode.FAILED
        except KeyboardInterrupt:
            return ExitCode.INTERRUPTED
        stream.write(records.dumps(answer, indent=None).encode())
    return ExitCode.OK


def _limit_memory(memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    # Not the address space: of that, C libraries reserve gigabytes for threads on machines of many cores.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
