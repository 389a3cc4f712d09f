"""Names of processes that are no other's, later or elsewhere: so what a dead one left is told from a live one's."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path


def name(process: int) -> str:
    """A process of this machine, boot and container as ``SPACE-NUMBER-BEGIN``; "" where it is not there or not told."""
    began = _began(process)
    return f"{_space()}-{process}-{began}" if _space() and began else ""


def is_dead(named: str) -> bool:
    """Whether a process is known to have ended; of those of other machines and containers that is not known."""
    space, _, rest = named.partition("-")
    number = rest.partition("-")[0]
    return bool(named) and space == _space() and number.isdecimal() and name(int(number)) != named


@functools.cache
def _space() -> str:
    """What tells the processes of one machine, boot and container from others of the same number."""
    try:
        boot, container = Path("/proc/sys/kernel/random/boot_id").read_text(), Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return hashlib.sha256(f"{boot} {container}".encode()).hexdigest()[:8]


def _began(process: int) -> str:
    """When a process began, in ticks since the boot."""
    try:
        # The name of the program, in brackets, may hold anything.
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
