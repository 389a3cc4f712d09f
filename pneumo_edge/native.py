"""Keeps the chatter of native libraries away from the user."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

_lock = threading.Lock()


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discard what is written to file descriptor 2, past Python, while the block runs.

    TensorFlow and the TFLite delegates announce themselves there and offer no switch for it.
    """
    # The descriptor belongs to the whole process: two threads must not both put "the old one" back.
    with _lock:
        kept = _copy_of_stderr()
        if kept is None:
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


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
