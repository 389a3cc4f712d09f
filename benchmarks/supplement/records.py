"""The schema of the supplement, an optional part of the raw results."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pneumo_edge._util.records import AtLeastOne, Count, Within
from pneumo_edge.benchmarks.protocol import MOST_SECONDS, Unit
from pneumo_edge.runtime.engines.graph import Graph

#: Numbers that others are divided by, and such as may be none; of seconds, joules, or things in a second.
_Positive = Annotated[float, Within(1e-12, 1e18)]
_Amount = Annotated[float, Within(0, 1e18)]
_PositiveSeconds = Annotated[float, Within(1e-9, MOST_SECONDS)]

#: The instrument that the others are held against: the clock that the benchmark times with.
OWN_NAME = "pneumo-edge"

Arithmetic = Literal["float32", "int8"]
#: A field of :class:`Supplement` that a measure fills.
Part = Literal["installations", "limits", "graphs", "profiles", "energy", "throughput", "cross_checks"]


@dataclass(frozen=True)
class Limit:
    """The most multiply-adds a second that this machine was seen to do, and what did them."""

    by: str
    arithmetic: Arithmetic
    threads: AtLeastOne
    multiply_adds_per_s: _Positive


@dataclass(frozen=True)
class ModelGraph:
    """What a model file holds, and how many of its operators each engine hands to its kernel library."""

    model: str
    graph: Graph
    delegated: dict[str, Count]


@dataclass(frozen=True)
class OperatorProfile:
    """Milliseconds of one inference by operator, the mean over calls, as the engine's own profiler tells them.

    The names are those of the operators that the engine ran, after it had fused what it could.
    """

    unit: Unit
    calls: AtLeastOne
    milliseconds: dict[str, _Amount]

    def __post_init__(self) -> None:
        if not any(self.milliseconds.values()):
            raise ValueError("milliseconds has no operator that took time")


@dataclass(frozen=True)
class EnergySample:
    """What the processor's packages drew, in joules: in a time of nothing but inference, and in one of sleep."""

    unit: Unit
    inferences: AtLeastOne
    seconds: _PositiveSeconds
    joules: _Amount
    idle_seconds: _PositiveSeconds
    idle_joules: _Amount


@dataclass(frozen=True)
class ThroughputSample:
    """Inferences that some processes finished side by side, each with the unit's number of threads.

    ``per_s`` is the sum over processes of each one's inferences a second.
    """

    unit: Unit
    processes: AtLeastOne
    inferences: Count
    per_s: _Positive


@dataclass(frozen=True)
class Installation:
    """What installing an engine takes, in bytes: its own distribution, and by name those that it needs."""

    engine: str
    distribution: str
    version: str
    size_bytes: Count
    needs: dict[str, Count]


@dataclass(frozen=True)
class Reading:
    """What one instrument read in one round, in a process of its own.

    ``told`` holds other numbers, by the instrument's own names for them; ``summary`` is what it says to people.
    """

    instrument: str
    round: Count
    calls: AtLeastOne
    median_ms: _Positive
    told: dict[str, float]
    summary: str = ""


@dataclass(frozen=True)
class CrossCheck:
    """A unit's inference, timed by this benchmark's clock and by instruments of others, in turns."""

    unit: Unit
    readings: tuple[Reading, ...]

    def __post_init__(self) -> None:
        rounds: dict[str, list[int]] = {OWN_NAME: []}
        for reading in self.readings:
            rounds.setdefault(reading.instrument, []).append(reading.round)
        for instrument, its in rounds.items():
            if not its or len(set(its)) != len(its) or set(its) != set(rounds[OWN_NAME]):
                raise ValueError(
                    f"{instrument} has readings of the rounds {sorted(its)}, and {OWN_NAME} of "
                    f"{sorted(rounds[OWN_NAME])}, not one of each in each round"
                )


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

    @property
    def models(self) -> set[str]:
        """Names of the model files that anything in it is of."""
        entries = (*self.graphs, *self.profiles, *self.energy, *self.throughput, *self.cross_checks)
        return {name for each in entries if (name := _model_of(each)) is not None}

    def with_parts(self, parts: Iterable[Part], found: Supplement, models: Collection[str]) -> Supplement:
        """The same with what was found in some parts, instead of what they held of some files or of the machine."""
        others: dict[Part, tuple[Any, ...]] = {
            part: tuple(each for each in getattr(self, part) if _model_of(each) not in {None, *models})
            for part in parts
        }
        return replace(self, **{part: (*kept, *getattr(found, part)) for part, kept in others.items()})


def _model_of(entry: object) -> str | None:
    """The name of the model file that an entry is of; None where it is of the machine."""
    match entry:
        case ModelGraph():
            return entry.model
        case OperatorProfile() | EnergySample() | ThroughputSample() | CrossCheck():
            return entry.unit.model
        case _:
            return None
