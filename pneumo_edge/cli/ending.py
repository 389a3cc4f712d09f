"""Ends every command with one line on standard error and a documented exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import typer

from pneumo_edge._util import links
from pneumo_edge.errors import ExitCode, PneumoEdgeError, printable

#: Signals that end a command, with their default handlers. A handler that was changed is left alone.
_DEFAULTS = {
    getattr(signal, name): default
    for name, default in (
        ("SIGINT", signal.default_int_handler), ("SIGTERM", signal.SIG_DFL), ("SIGHUP", signal.SIG_DFL),
    )
    if hasattr(signal, name)
}  # fmt: skip
#: A closing terminal and its shell each send a signal. The second must not interrupt the cleanup.
_SECONDS = 5.0


class _Interrupted(KeyboardInterrupt):
    """Raised by a signal.

    A subclass, because Python remembers a plain KeyboardInterrupt from code given as text (while a dataclass is made)
    and then ends by SIGINT instead of with the exit code.
    """


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """Turn errors that a user can act on into one line on standard error and a documented exit code."""
    with _signals_interrupt():
        try:
            with links.explained():
                yield
            if sys.stdout:
                sys.stdout.flush()
        except PneumoEdgeError as error:
            _fail(str(error), error.exit_code)
        except KeyboardInterrupt as error:
            how_to_continue = getattr(error, "__notes__", [])[-1:]
            _fail(". ".join(["interrupted; finished work is saved", *how_to_continue]), ExitCode.INTERRUPTED)
        except BrokenPipeError:
            raise
        except OSError as error:
            what = f"use {error.filename}" if error.filename else "continue"
            if not error.filename:
                # Errors of files carry a name (`files.naming`), so one without is most likely about standard output.
                what = "write to standard output" if _is_of_printing(error) else what
                _give_up_stdout()
            reason = error.strerror or error
            _fail(f"cannot {what}: {reason}. Check path, permissions and free space", ExitCode.FAILED)


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise the same exception as Ctrl-C, unless ``nohup`` or a verb changed them."""
    interrupted = 0.0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        before, interrupted = interrupted, time.monotonic()
        if number == signal.SIGINT or not before or interrupted - before > _SECONDS:
            raise _Interrupted

    is_main = threading.current_thread() is threading.main_thread()
    taken = {number: was for number, was in _DEFAULTS.items() if is_main and signal.getsignal(number) == was}
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, was in taken.items():
            if signal.getsignal(number) == interrupt:
                signal.signal(number, was)


@contextlib.contextmanager
def broken_pipe_ends() -> Iterator[None]:
    """End silently by SIGPIPE when the reader of a pipe is gone (``| head -1``), as other programs do.

    This is the outermost block, because Typer and Rich turn a broken pipe into a SystemExit.
    """
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):
            if hasattr(signal, "SIGPIPE"):
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                os.kill(os.getpid(), signal.SIGPIPE)
            _give_up_stdout()
        raise


def _is_of_printing(error: OSError) -> bool:
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_code.co_name == "orderly" or not {"rich", "typer", "click"}.isdisjoint(
        Path(frame.f_code.co_filename).parts
    )


def _give_up_stdout() -> None:
    """Keep Python from writing the rest of the output again when it exits."""
    sys.stdout = None


def _fail(message: str, code: ExitCode) -> NoReturn:
    # Writing to a closed terminal fails.
    with contextlib.suppress(OSError):
        typer.echo(f"error: {printable(message)}", err=True)
    raise typer.Exit(code) from None
