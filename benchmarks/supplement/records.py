"""The schema of the supplement, an optional part of the raw results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.protocol import Unit
from pneumo_edge.runtime.engines.graph import Graph

Arithmetic = Literal["float32", "int8"]


@dataclass(frozen=True)
class Limit:
    """The most multiply-adds a second that this machine was seen to do, and what did them."""

    by: str
    arithmetic: Arithmetic
    threads: int
    multiply_adds_per_s: float


@dataclass(frozen=True)
class ModelGraph:
    """What a model file holds, and how many of its operators each engine hands to its kernel library."""

    model: str
    graph: Graph
    delegated: dict[str, int]


@dataclass(frozen=True)
class OperatorProfile:
    """Milliseconds of one inference by operator, the mean over calls, as the engine's own profiler tells them.

    The names are those of the operators that the engine ran, after it had fused what it could.
    """

    unit: Unit
    calls: int
    milliseconds: dict[str, float]


@dataclass(frozen=True)
class EnergySample:
    """What the processor's packages drew, in joules: in a time of nothing but inference, and in one of sleep."""

    unit: Unit
    inferences: int
    seconds: float
    joules: float
    idle_seconds: float
    idle_joules: float


@dataclass(frozen=True)
class ThroughputSample:
    """Inferences that some processes finished side by side, each with the unit's number of threads.

    ``per_s`` is the sum over processes of each one's inferences a second.
    """

    unit: Unit
    processes: int
    inferences: int
    per_s: float


@dataclass(frozen=True)
class Installation:
    """What installing an engine takes, in bytes: its own distribution, and by name those that it needs."""

    engine: str
    distribution: str
    version: str
    size_bytes: int
    needs: dict[str, int]


@dataclass(frozen=True)
class Reading:
    """What one instrument read in one round, in a process of its own.

    ``told`` holds other numbers, by the instrument's own names for them; ``summary`` is what it says to people.
    """

    instrument: str
    round: int
    calls: int
    median_ms: float
    told: dict[str, float]
    summary: str = ""


@dataclass(frozen=True)
class CrossCheck:
    """A unit's inference, timed by this benchmark's clock and by instruments of others, in turns."""

    unit: Unit
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class Unavailable:
    """What could not be measured, of what, and why."""

    measure: str
    subject: str
    reason: str


@dataclass(frozen=True)
class Supplement:
    """Everything that was measured beyond the protocol; what was not asked for is empty."""

    installations: tuple[Installation, ...] = ()
    limits: tuple[Limit, ...] = ()
    graphs: tuple[ModelGraph, ...] = ()
    profiles: tuple[OperatorProfile, ...] = ()
    energy: tuple[EnergySample, ...] = ()
    throughput: tuple[ThroughputSample, ...] = ()
    cross_checks: tuple[CrossCheck, ...] = ()
    unavailable: tuple[Unavailable, ...] = ()
