"""Measures the energy of inference from the counters of the processor's packages (RAPL), where available.

See https://docs.kernel.org/power/powercap/powercap.html: each zone has a counter of microjoules, which wraps around to
zero after ``max_energy_range_uj``. A package includes its cores, so the zones inside it are not added.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pneumo_edge.benchmarks.supplement.records import EnergySample
from pneumo_edge.benchmarks.supplement.task import Task

POWERCAP = Path("/sys/class/powercap")
#: Seconds of idle time before inference.
_IDLE_SECONDS = 2.0
#: Seconds between two readings, short enough that a counter wraps around at most once.
_SECONDS_BETWEEN = 5.0


class EnergyUnavailableError(Exception):
    """The system reports no energy; the message says why."""


@dataclass(frozen=True)
class _Zone:
    folder: Path
    most_uj: int

    def read_uj(self) -> int:
        return int((self.folder / "energy_uj").read_text())


class Meter:
    """Reads the energy of all packages of the processor.

    Args:
        root: The folder of powercap zones.

    Raises:
        EnergyUnavailableError: The folder or a package in it is missing, or the counters cannot be read.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise EnergyUnavailableError(f"the system has no {root}")
        folders = [folder for folder in sorted(root.iterdir()) if (folder / "energy_uj").exists()]
        packages = [folder for folder in folders if _name(folder).startswith("package")]
        if not packages:
            raise EnergyUnavailableError(f"{root} has no zone of a processor package")
        try:
            self._zones = [_Zone(each, int((each / "max_energy_range_uj").read_text())) for each in packages]
            self._last = [zone.read_uj() for zone in self._zones]
        except PermissionError as error:
            raise EnergyUnavailableError(f"{error.filename} cannot be read without special rights") from error
        except (OSError, ValueError) as error:
            raise EnergyUnavailableError(f"the counters in {root} cannot be read ({error})") from error

    def joules(self) -> float:
        """Energy since the last reading, in joules."""
        now = [zone.read_uj() for zone in self._zones]
        drawn = 0
        for zone, before, after in zip(self._zones, self._last, now, strict=True):
            drawn += after - before if after >= before else after - before + zone.most_uj
        self._last = now
        return drawn / 1e6


def _name(zone: Path) -> str:
    name = zone / "name"
    return name.read_text().strip() if name.exists() else ""


def measure(task: Task) -> EnergySample:
    """Measure the energy while idle, then during inference.

    Energy of all other work of the machine is included.

    Raises:
        PneumoEdgeError: The unit cannot be loaded or called.
        EnergyUnavailableError: The system reports no energy.
    """
    classifier, pixels = task.load()
    tensors = [classifier.as_input(image) for image in pixels]
    for call in range(task.warmups):
        classifier.engine.run(tensors[call % len(tensors)])
    return draw(task, Meter(POWERCAP), lambda call: classifier.engine.run(tensors[call % len(tensors)]))


def draw(task: Task, meter: Meter, infer: Callable[[int], object]) -> EnergySample:
    """Read the meter while idle, and during the calls of a task.

    Args:
        task: The unit and its number of calls.
        meter: The meter.
        infer: Makes a call, given its number.
    """
    meter.joules()
    started = time.perf_counter()
    time.sleep(_IDLE_SECONDS)
    idle_joules, idle_seconds = meter.joules(), time.perf_counter() - started
    joules, started = 0.0, time.perf_counter()
    read = started
    for call in range(task.calls):
        infer(call)
        if time.perf_counter() - read > _SECONDS_BETWEEN:
            joules += meter.joules()
            read = time.perf_counter()
    joules += meter.joules()
    return EnergySample(task.unit, task.calls, time.perf_counter() - started, joules, idle_seconds, idle_joules)
