"""Work on untrusted files in a process of its own: whatever becomes of that, this one goes on and can say so.

The native code of an engine crashes on many a hostile model file, tflite-runtime's more often than not.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from pneumo_edge import errors, records
from pneumo_edge.errors import ExitCode, ModelFileError, PneumoEdgeError

Record = TypeVar("Record")

#: What a file may make the process take, in bytes; every file of ours takes less than a quarter of it.
MAX_MEMORY = 4 * 2**30


@dataclass(frozen=True)
class _Told:
    """A PneumoEdgeError on its way between processes."""

    kind: str
    given: str
    expected: str
    remedy: str


def run(module: str, arguments: Sequence[str], kind: type[Record], blamed: str, seconds: float) -> Record:
    """Run ``python -m MODULE ARGUMENTS``, which ends in :func:`answer`, and give the record that it answers with.

    Args:
        module: Name of the module.
        arguments: Its arguments.
        kind: The record's class.
        blamed: Who crashed on what, where it crashes; for example ``"litert on x.tflite"``.
        seconds: How long it may take.

    Raises:
        PneumoEdgeError: Of the class that the work raised, with the same words.
        ModelFileError: The process crashed, or took too long.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    # A person sees its progress bar; else what it says there is kept, for the last words of a crash.
    stderr = None if sys.stderr.isatty() else subprocess.PIPE
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, errors="replace", timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _crashed(blamed, f"no answer within {seconds:.0f} s") from error
    with contextlib.suppress(records.RecordError):
        if done.returncode == ExitCode.OK:
            return records.loads(kind, done.stdout)
        if done.returncode == ExitCode.FAILED:
            told = records.loads(_Told, done.stdout)
            raise _known_errors().get(told.kind, PneumoEdgeError)(told.given, told.expected, told.remedy)
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    last_words = (done.stderr or "").strip().splitlines()[-1:] if done.returncode > 0 else []
    raise _crashed(blamed, ": ".join([how, *last_words]))


def answer(work: Callable[[], Any]) -> NoReturn:
    """In the process of its own: do ``work`` within :data:`MAX_MEMORY`, answer with its record or error, and end."""
    _limit_memory()
    # A library may print; what it prints is no part of the answer.
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    code = ExitCode.OK
    try:
        text = records.dumps(work(), indent=None)
    except PneumoEdgeError as error:
        code = ExitCode.FAILED
        text = records.dumps(_Told(type(error).__name__, error.given, error.expected, error.remedy), indent=None)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    with stream:
        stream.write(text)
    sys.exit(code)


def _known_errors() -> dict[str, type[PneumoEdgeError]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, PneumoEdgeError)
    }


def _crashed(blamed: str, how: str) -> ModelFileError:
    return ModelFileError(
        f"{blamed} crashed ({how})",
        "a whole model file that does no harm",
        "Do not use it; get it again from its source",
    )


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    # Not the address space: of that, C libraries reserve gigabytes for threads on machines of many cores.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
