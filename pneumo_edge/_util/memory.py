"""How much memory this process and its children may take."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

_SYSTEM = Path("/proc/meminfo")
#: The control group of a container, version 2.
_GROUP = Path("/sys/fs/cgroup")


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
