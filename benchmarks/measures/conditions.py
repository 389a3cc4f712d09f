"""Records the conditions while calls are timed, as far as the system reports them; None where it does not."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pneumo_edge._util import cores
from pneumo_edge.benchmarks.protocol import Unit
from pneumo_edge.benchmarks.results import Conditions

_STAT = Path("/proc/stat")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
#: Fields of a cpu line in /proc/stat that make up all time; those after steal are counted in the first ones.
_STEAL, _FIELDS = 7, 8


class Watch:
    """Records conditions from its creation on."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._times = _processor_times()
        self._switches = _involuntary_switches()
        self._throttled_s = cores.throttled_seconds()

    def conditions(self, process: int, unit: Unit) -> Conditions:
        """The conditions since the creation.

        Args:
            process: Number of this process.
            unit: Any of the units that it times.
        """
        switches, throttled_s = _involuntary_switches(), cores.throttled_seconds()
        return Conditions(
            process=process,
            engine=unit.engine,
            threads=unit.threads,
            seconds=time.monotonic() - self._started,
            steal_share=steal_share(self._times, _processor_times()),
            involuntary_switches=None if switches is None or self._switches is None else switches - self._switches,
            load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            governor=_GOVERNOR.read_text().strip() if _GOVERNOR.exists() else "",
            throttled_s=(None if throttled_s is None or self._throttled_s is None else throttled_s - self._throttled_s),
        )


def together(conditions: Sequence[Conditions]) -> Conditions:
    """Combine the conditions of consecutive processes of one number, engine and number of threads."""
    seconds = sum(each.seconds for each in conditions)
    stolen = [each.steal_share * each.seconds for each in conditions if each.steal_share is not None]
    switches = [each.involuntary_switches for each in conditions if each.involuntary_switches is not None]
    throttled = [each.throttled_s for each in conditions if each.throttled_s is not None]
    loads = [each.load_average for each in conditions if each.load_average is not None]
    return replace(
        conditions[0],
        seconds=seconds,
        steal_share=sum(stolen) / seconds if stolen and seconds else None,
        involuntary_switches=sum(switches) if switches else None,
        load_average=max(loads, default=None),
        throttled_s=sum(throttled) if throttled else None,
    )


def steal_share(before: list[int], after: list[int]) -> float | None:
    """Share of steal time between two readings of the first line of /proc/stat; None without a reading."""
    passed = [late - early for early, late in zip(before, after, strict=True)]
    return passed[_STEAL] / sum(passed) if sum(passed) > 0 else None


def _processor_times() -> list[int]:
    """Ticks of all cores since the start, by kind; empty where the system does not report them."""
    if not _STAT.exists():
        return []
    name, *ticks = _STAT.read_text().split("\n", 1)[0].split()
    return [int(tick) for tick in ticks[:_FIELDS]] if name == "cpu" and len(ticks) >= _FIELDS else []


def _involuntary_switches() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
