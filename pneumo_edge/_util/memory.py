"""How much memory this process and its children may take, and how it is given back."""

from __future__ import annotations

import contextlib
import ctypes
import re
from pathlib import Path

_SYSTEM = Path("/proc/meminfo")
#: The control group of a container, version 2.
_GROUP = Path("/sys/fs/cgroup")
#: Parameters of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8


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
    _set(_M_MMAP_THRESHOLD, 256 * 1024)


def keep_freed() -> None:
    """Make glibc keep what is freed, and take the next block from it.

    A step of training frees blocks of up to some hundred megabytes. By default, glibc returns each to the system, which
    then clears its pages again for the next step: about 950,000 page faults and a third of the CPU time of a step of
    MobileNetV2 with 32 images.
    """
    _set(_M_MMAP_MAX, 0)
    _set(_M_TRIM_THRESHOLD, -1)  # never
    _set(_M_ARENA_MAX, 1)  # an arena of a thread cannot hold large blocks


def _set(parameter: int, value: int) -> None:
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(parameter, value)
