"""How much memory this process and its children may take, and how it is given back."""

from __future__ import annotations

import contextlib
import ctypes
import re
from pathlib import Path

_SYSTEM = Path("/proc/meminfo")
#: The control group of a container, version 2.
_GROUP = Path("/sys/fs/cgroup")
#: ``M_MMAP_THRESHOLD`` of glibc's malloc.h.
_M_MMAP_THRESHOLD = -3


def available() -> int | None:
    """Bytes that are free for use: those of the machine, within the limit of its container; None where unknown."""
    found = []
    with contextlib.suppress(OSError):
        if match := re.search(r"^MemAvailable: +(\d+) kB", _SYSTEM.read_text(), re.MULTILINE):
            found.append(1024 * int(match[1]))
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        # Not less what it has now: most of that is files, which give way.
        found.append(int((_GROUP / "memory.max").read_text()))
    return min(found, default=None)


def return_freed() -> None:
    """Make glibc map each large block separately, so that memory of files and images is returned to the system.

    By default, glibc raises its threshold up to 32 MB as such blocks are freed, and then keeps fragmented memory.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 256 * 1024)
