"""Reads what the system tells about the processor: temperature, clock frequency, throttling."""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumo_edge._util import cores, extras
from pneumo_edge.benchmarks.sustained.records import Readings

#: Names of the sensors that are in or at the processor; of those of another name all count.
_OF_PROCESSOR = re.compile("core|cpu|k10|zen|soc|pkg", re.IGNORECASE)
#: Sensors that are not connected tell numbers beyond these.
_PLAUSIBLE_C = (-40.0, 150.0)
#: Where a Raspberry Pi's kernel has its flags, and the longest that its program for them may take, in seconds.
_PI_FLAGS, _PI_SECONDS = "devices/platform/soc/soc:firmware/get_throttled", 1.0


@dataclass(frozen=True)
class Reading:
    """One reading, see :class:`~pneumo_edge.benchmarks.sustained.records.Readings`; None where nothing is told.

    Counters are since the start of the system or the control group.
    """

    temperature_c: float | None = None
    frequency_mhz: float | None = None
    throttled_s: float | None = None
    thermal_events: int | None = None
    pi_flags: int | None = None


class Sensors:
    """The sensors of this machine.

    Args:
        system: Where Linux shows its devices.
        temperatures: What :func:`psutil.sensors_temperatures` gives.

    Raises:
        MissingExtraError: psutil is not installed.
    """

    def __init__(self, system: Path = Path("/sys"), temperatures: Callable[[], dict[str, Any]] | None = None) -> None:
        self._psutil = extras.need("psutil", "bench")
        self._cores = system / "devices/system/cpu"
        self._counters = sorted(self._cores.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
        self._pi_file = system / _PI_FLAGS
        self._pi_program = None if self._pi_file.exists() else shutil.which("vcgencmd")
        self._temperatures: Any = temperatures or getattr(self._psutil, "sensors_temperatures", dict)
        self._process = self._psutil.Process()

    def read(self) -> Reading:
        """Read all sensors; takes about a millisecond."""
        counts = [count for path in self._counters if (count := _whole(path)) is not None]
        return Reading(
            temperature_c=self.temperature(),
            frequency_mhz=self._frequency(),
            throttled_s=cores.throttled_seconds(),
            thermal_events=sum(counts) if counts else None,
            pi_flags=self._flags(),
        )

    def temperature(self) -> float | None:
        """The highest temperature of the processor's sensors, in degrees Celsius; None where it has none."""
        try:
            told = self._temperatures()
        except (OSError, ValueError):
            return None
        of_processor = {name: each for name, each in told.items() if _OF_PROCESSOR.search(name)}
        found = [each.current for same in (of_processor or told).values() for each in same]
        low, high = _PLAUSIBLE_C
        return max((float(each) for each in found if each is not None and low < each < high), default=None)

    def _frequency(self) -> float | None:
        try:
            core = self._process.cpu_num()
        except (AttributeError, self._psutil.Error):  # not on every system
            return None
        found = _whole(self._cores / f"cpu{core}/cpufreq/scaling_cur_freq")
        return None if found is None else found / 1e3

    def _flags(self) -> int | None:
        if not self._pi_program:
            return _whole(self._pi_file, 16)
        try:
            done = subprocess.run(
                [self._pi_program, "get_throttled"], capture_output=True, text=True, timeout=_PI_SECONDS, check=True
            )
            return int(done.stdout.strip().removeprefix("throttled="), 16)
        except (OSError, subprocess.SubprocessError, ValueError):
            self._pi_program = None  # It is not asked again.
            return None


def columns(at_s: list[float], readings: list[Reading]) -> Readings:
    """The record of readings at these times; a sensor that did not tell every time is left out.

    Counters begin with 0 at the first reading.
    """

    def column(name: str) -> list[Any]:
        values = [getattr(each, name) for each in readings]
        return [] if None in values else values

    def since(name: str) -> list[Any]:
        values = column(name)
        return [max(0, value - values[0]) for value in values]

    return Readings(
        tuple(at_s),
        tuple(column("temperature_c")),
        tuple(column("frequency_mhz")),
        tuple(since("throttled_s")),
        tuple(since("thermal_events")),
        tuple(column("pi_flags")),
    )


def _whole(path: Path, base: int = 10) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        found = int(path.read_text().strip(), base)
        return found if found >= 0 and math.isfinite(found) else None
    return None
