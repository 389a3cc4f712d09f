"""Starts child processes, ends them with this process, and describes how they ended.

Other modules define the communication: one answer (:mod:`pneumo_edge._util.subprocesses`), a stream of messages,
tensors, or functions to call.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from pneumo_edge._util import parent_watch

#: Where what a child says on standard error goes: it is kept for its last words, shown where this process shows its
#: own, or added to a file.
Errors = Literal["kept", "shown"] | Path


@dataclass(frozen=True)
class Child:
    """A Python program in a process of its own; as a context, it is ended with the block."""

    process: subprocess.Popen[bytes]
    _errors: IO[bytes] | None
    _resources: contextlib.ExitStack

    @property
    def stdin(self) -> IO[bytes]:
        """What the child reads."""
        assert self.process.stdin
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """What the child writes."""
        assert self.process.stdout
        return self.process.stdout

    def ending(self) -> str:
        """Wait for the end, and say in words how the child ended."""
        return how_it_ended(self.process.wait())

    def last_words(self) -> str:
        """The last line that it said on standard error, where that is kept or in a file; "" where there is none."""
        if self._errors is None:
            return ""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        """Kill the process."""
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if stream:
                    stream.close()
        self.process.wait()
        self._resources.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start(
    *program: str,
    python: str | None = None,
    errors: Errors = "kept",
    piped: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Child:
    """Start a Python program that ends with this process, if it calls :func:`answering` or ``parent_watch.watch``.

    Args:
        program: ``-m`` and a module, or a file; then its arguments.
        python: The interpreter; this process's by default.
        errors: Where its standard error goes.
        piped: Whether its standard input and output are pipes, and not those of this process.
        environment: Variables that it has beside those of this process.

    Raises:
        OSError: The interpreter cannot be started.
    """
    # -P, because Python would look for modules first where the user happens to be, or beside the program: files there
    # may be named like modules, and a json.py of the user's is not the standard library's.
    command = [python or sys.executable, "-P", *program]
    stream = subprocess.PIPE if piped else None
    with contextlib.ExitStack() as resources:
        held = resources.enter_context(parent_watch.lifeline())
        kept = resources.enter_context(_open(errors))
        process = subprocess.Popen(
            command,
            stdin=stream,
            stdout=stream,
            stderr=kept,
            pass_fds=held.pass_fds,
            env={**os.environ, **held.environment, **(environment or {})},
        )
        return Child(process, kept, resources.pop_all())


def _open(errors: Errors) -> contextlib.AbstractContextManager[IO[bytes] | None]:
    match errors:
        case "kept":
            # In memory where the system has it: these are a few lines, and there may be no disk to write to.
            if hasattr(os, "memfd_create"):
                return os.fdopen(os.memfd_create("errors"), "w+b")
            return tempfile.TemporaryFile()
        case "shown":
            return contextlib.nullcontext()
        case path:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("a+b")


@contextlib.contextmanager
def answering() -> Iterator[IO[bytes]]:
    """In a child: end with the parent, and give standard output to the answers alone.

    Native libraries print there as they please; while the block runs, what they print goes to standard error.
    """
    parent_watch.watch()
    with os.fdopen(os.dup(1), "wb") as stream:
        os.dup2(2, 1)
        yield stream


def how_it_ended(code: int) -> str:
    """In words, how a process ended, from its exit code as :mod:`subprocess` gives it."""
    if code >= 0:
        return f"exit code {code}"
    # Not every signal has a name.
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"
