"""The schema of sustained measurements, an optional part of the raw results."""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from pneumo_edge._util.records import Count, Within
from pneumo_edge.benchmarks.protocol import MOST_SUSTAINED_SECONDS, Unit

#: Nanoseconds of a tick, the unit of the packed times.
TICK_NS = 100
#: A unit makes no more inferences, so that its times can be held in memory.
MOST_INFERENCES = 10**8

Ticks = npt.NDArray[np.int64]
_Celsius = Annotated[float, Within(-100, 300)]
_Amount = Annotated[float, Within(0, 1e12)]


@dataclass(frozen=True)
class Readings:
    """What the system told about the processor, in columns of one value for each reading; empty where it does not.

    Attributes:
        at_s: Seconds from the first inference; the first reading is before it, at 0.
        temperature_c: The highest temperature of the processor's sensors, in degrees Celsius.
        frequency_mhz: Clock frequency of the core that the measuring thread was on.
        throttled_s: Seconds for which control groups had stopped the process since the first reading.
        thermal_events: Times that the processor had throttled itself since the first reading, over its cores.
        pi_flags: What ``vcgencmd get_throttled`` tells on a Raspberry Pi: bit 0 is under-voltage, 1 a capped frequency,
            2 throttling, 3 the soft limit of temperature; 16 to 19 the same since the system started.
    """

    at_s: tuple[_Amount, ...]
    temperature_c: tuple[_Celsius, ...] = ()
    frequency_mhz: tuple[_Amount, ...] = ()
    throttled_s: tuple[_Amount, ...] = ()
    thermal_events: tuple[Count, ...] = ()
    pi_flags: tuple[Count, ...] = ()

    def __post_init__(self) -> None:
        columns = (self.temperature_c, self.frequency_mhz, self.throttled_s, self.thermal_events, self.pi_flags)
        if any(column and len(column) != len(self.at_s) for column in columns):
            raise ValueError("the columns of the readings differ in length")


@dataclass(frozen=True)
class SustainedSamples:
    """Every inference of a unit that ran alone.

    Attributes:
        seconds: Seconds that were asked for.
        counts: The number of inferences that ended in each second. The last one may have ended later than asked.
        cpu_ms: CPU time of these inferences together, as :class:`~pneumo_edge.benchmarks.results.Calls` counts it.
        wall_ticks: The wall time of every inference in its order, see :func:`pack`.
        readings: What the system told meanwhile.
    """

    seconds: Annotated[float, Within(0, MOST_SUSTAINED_SECONDS)]
    counts: tuple[Count, ...]
    cpu_ms: tuple[_Amount, ...]
    wall_ticks: str
    readings: Readings

    def __post_init__(self) -> None:
        if not any(self.counts) or len(self.cpu_ms) != len(self.counts):
            raise ValueError("counts has no inference, or another length than cpu_ms")
        unpack(self.wall_ticks, sum(self.counts))

    @property
    def wall_ms(self) -> npt.NDArray[np.float64]:
        """Wall time of every inference in milliseconds, shape (inferences,)."""
        return unpack(self.wall_ticks, sum(self.counts)) * (TICK_NS / 1e6)


@dataclass(frozen=True)
class SustainedUnit:
    """A unit that ran alone, one inference after the other."""

    unit: Unit
    samples: SustainedSamples


def pack(ticks: Ticks) -> str:
    """Write times of inferences compactly, because there may be millions.

    Args:
        ticks: Times in ticks of 100 ns, shape (inferences,).

    Returns:
        64-bit little-endian whole numbers, first the lowest byte of all of them, then the next one, and so on;
        compressed by zlib; in base64.
    """
    planes = np.ascontiguousarray(ticks, "<i8").view(np.uint8).reshape(-1, 8).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()


def unpack(text: str, count: int) -> Ticks:
    """Read what :func:`pack` wrote.

    Args:
        text: The packed times.
        count: How many there are.

    Raises:
        ValueError: These are not so many positive times.
    """
    if count > MOST_INFERENCES:
        raise ValueError(f"counts has {count} inferences, more than {MOST_INFERENCES}")
    size = 8 * count
    try:
        # No more is unpacked than there can be.
        planes = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), size + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"wall_ticks is not packed times ({error})") from error
    if len(planes) != size:
        raise ValueError(f"wall_ticks has {len(planes)} bytes, not 8 for each of {count} inferences")
    ticks = np.ascontiguousarray(np.frombuffer(planes, np.uint8).reshape(8, count).T).view("<i8")[:, 0]
    if ticks.min() < 1:
        raise ValueError("wall_ticks has a time that is not positive")
    return ticks.astype(np.int64)
