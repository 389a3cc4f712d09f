"""One function, carried out in a fresh process: a record in, a record out.

Whatever becomes of that process, this one goes on and can say so: the native code of an engine crashes on many a
hostile model file, tflite-runtime's more often than not. :func:`call` runs it as
``python -m pneumo_edge._util.subprocesses MODULE FUNCTION MEMORY LIFELINE``.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pneumo_edge import errors
from pneumo_edge._util import parent_watch, records
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
    # -P, because a folder of the user's that is called as a package of ours is not that package.
    command = [sys.executable, "-P", "-m", __name__, function.__module__, function.__name__, str(memory)]
    # What nobody sees is kept, for the last words of a crash.
    stderr = None if progress and sys.stderr.isatty() else subprocess.PIPE
    try:
        with parent_watch.held() as held:
            done = subprocess.run(
                [*command, held.word],
                input=records.dumps(argument, indent=None),
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
                pass_fds=held.pass_fds,
                env={**os.environ, **(environment or {})},
            )
    except subprocess.TimeoutExpired as error:
        raise crashed(f"no answer within {seconds:.0f} s") from error
    with contextlib.suppress(records.RecordError):
        if done.returncode == ExitCode.OK:
            answer: Answer = records.loads(typing.get_type_hints(function)["return"], done.stdout)
            return answer
        if done.returncode == ExitCode.FAILED:
            told = records.loads(_Told, done.stdout)
            raise _known_errors().get(told.kind, PneumoEdgeError)(told.given, told.expected, told.remedy)
    last_words = (done.stderr or "").strip().splitlines()[-1:] if done.returncode > 0 else []
    raise crashed(": ".join([how_it_ended(done.returncode), *last_words]))


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
            "a whole model file that does no harm",
            "Do not use it; get it again from its source",
        )

    return call(function, argument, crashed, seconds=seconds, memory=MAX_MEMORY, progress=True)


def how_it_ended(code: int) -> str:
    """In words, how a process ended, from its exit code as :mod:`subprocess` gives it."""
    if code >= 0:
        return f"exit code {code}"
    # Not every signal has a name.
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"


def _known_errors() -> dict[str, type[PneumoEdgeError]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, PneumoEdgeError)
    }


def main(module: str, name: str, memory: str, word: str) -> int:
    """Carry out a function with the record on standard input; its answer is all that standard output gets."""
    parent_watch.watch(word)
    if int(memory):
        _limit_memory(int(memory))
    # Native libraries print to standard output as they please.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stream:
        os.dup2(2, 1)
        function = getattr(importlib.import_module(module), name)
        (kind,) = (hint for name, hint in typing.get_type_hints(function).items() if name != "return")
        try:
            stream.write(records.dumps(function(records.loads(kind, sys.stdin.buffer.read())), indent=None))
        except PneumoEdgeError as error:
            stream.write(records.dumps(_Told(type(error).__name__, error.given, error.expected, error.remedy)))
            return ExitCode.FAILED
        except KeyboardInterrupt:
            return ExitCode.INTERRUPTED
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
