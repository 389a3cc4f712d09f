"""Deals with native libraries: keeps their chatter away from the user, and spells paths for them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

_lock = threading.Lock()
#: A copy of file descriptor 2 while what is written to it is discarded.
_kept: int | None = None


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discard what is written to file descriptor 2, past Python, while the block runs.

    TensorFlow and the TFLite delegates announce themselves there and offer no switch for it.
    """
    # The descriptor belongs to the whole process: two threads must not both put "the old one" back.
    global _kept
    with _lock:
        kept = _copy_of_stderr()
        if kept is None:
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            _kept = kept
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            _kept = None
            os.close(kept)
            os.close(nowhere)


@contextlib.contextmanager
def spelled(path: Path) -> Iterator[str]:
    """Spell a path with any bytes, in any locale, for a library that only takes UTF-8.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        name = os.fsencode(path).decode()
    except UnicodeDecodeError:
        with path.open("rb") as stream:
            yield f"/proc/self/fd/{stream.fileno()}"
    else:
        yield name


@contextlib.contextmanager
def stderr_is_heard() -> Iterator[None]:
    """Keep other threads from discarding, by :func:`quiet_stderr`, what this one writes while the block runs."""
    with _lock:
        yield


def _copy_of_stderr() -> int | None:
    try:
        return os.dup(2)
    except OSError:  # it is closed, as in a service without a console
        return None


def _in_forked_child() -> None:
    """The thread that holds the lock, and that would put the descriptor back, is not in this process."""
    global _lock
    _lock = threading.Lock()
    if _kept is not None:
        os.dup2(_kept, 2)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)
