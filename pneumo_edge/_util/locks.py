"""Locks on files, which the system gives back when their process ends, however it ends: none is ever stale."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def take(descriptor: int) -> bool | None:
    """Lock an open file or folder for this process until it is closed.

    The lock belongs to the opened file, so a renamed one keeps it, and containers of one machine share it, as hosts
    do that mount one NFS.

    Returns:
        True where it is taken, False where another has it, None where the system or the file system has no locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one of that path: another process may have removed it, or made a new one."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    return False
