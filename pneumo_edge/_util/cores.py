"""How many processor cores this process may use, and what its control group (cgroup) does about it.

A container's limit (``docker --cpus 1.5``) is a quota of a cgroup: the cores can all be seen, and a process that takes
more time than the quota in a period is stopped until the next one. The affinity mask and ``os.cpu_count`` know nothing
of it.
"""

from __future__ import annotations

import contextlib
import math
import operator
import os
from collections.abc import Iterator
from pathlib import Path

#: Where Linux mounts the cgroup hierarchies, and the file that names those of this process.
_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
#: The most threads or workers that are taken from a user: more than any machine has a use for, and few enough to start.
MOST = 256
#: Where libraries look for the number of threads that they start: TensorFlow, and those that do linear algebra.
_VARIABLES = (
    "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
)  # fmt: skip


def available() -> int:
    """Number of cores that this process may use at once: its affinity mask, within its cgroup's quota, at least 1.

    A quota with a fraction counts as the next whole number, so that none of it lies idle.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = quota()
    return cores if limit is None else max(1, min(cores, math.ceil(limit)))


def check_count(what: str, count: int) -> int:
    """A number of threads or workers as ``int``; one that cannot be is refused.

    Args:
        what: What is counted, for the message.
        count: How many of it.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is less than 1 or more than :data:`MOST`.
    """
    try:
        found = operator.index(count)
    except TypeError as error:
        raise TypeError(f"{what} is {count!r}, not a whole number from 1 to {MOST}") from error
    if not 1 <= count <= MOST:
        raise ValueError(f"{what} is {count}, not from 1 to {MOST}")
    return found


def workers(threads: int) -> int:
    """How many images are worked on at a time by default, where each takes so many threads."""
    return min(max(1, available() // threads), MOST)


def bound_libraries() -> None:
    """Have libraries that are imported later start no more threads than a cgroup's quota has use for.

    They see the affinity mask, and not the quota. Without one nothing is set, nor where the user has set it.
    """
    if quota() is not None:
        for name in _VARIABLES:
            os.environ.setdefault(name, str(available()))


def variables(count: int) -> dict[str, str]:
    """The environment in which libraries of a child process start this many threads."""
    return dict.fromkeys(_VARIABLES, str(count))


def quota() -> float | None:
    """Cores' worth of processor time that the tightest cgroup of this process grants; None where none limits it."""
    limits = [limit for folder in folders() if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def throttled_seconds() -> float | None:
    """Seconds for which the cgroups of this process have stopped it so far, beyond their quota; None where unknown."""
    found = [seconds for folder in folders() if (seconds := _throttled(folder)) is not None]
    return max(found, default=None)


def folders() -> Iterator[Path]:
    """The cgroups of this process that govern processor time, each followed by those above it."""
    try:
        lines = _MEMBERSHIP.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, named = line.partition(":")
        controllers, _, path = named.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has no controllers here and one hierarchy; version 1 has a hierarchy for each set of them.
        root = _MOUNT / controllers
        folder = root / path.lstrip("/")
        yield from (each for each in (folder, *folder.parents) if each.is_relative_to(root))


def _limit(folder: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # version 2: "max 100000" or "150000 100000"
        granted, period = (folder / "cpu.max").read_text().split()
        return None if granted == "max" else int(granted) / int(period)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        granted_us = int((folder / "cpu.cfs_quota_us").read_text())
        return None if granted_us < 0 else granted_us / int((folder / "cpu.cfs_period_us").read_text())
    return None


def _throttled(folder: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        counters = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
        if "throttled_usec" in counters:
            return int(counters["throttled_usec"]) / 1e6
        if "throttled_time" in counters:  # version 1, in nanoseconds
            return int(counters["throttled_time"]) / 1e9
    return None
