"""The schema of the supplement, an optional part of the raw results."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pneumo_edge._util.records import AtLeastOne, Count, Within
from pneumo_edge.benchmarks.protocol import MOST_SECONDS, Unit
from pneumo_edge.runtime.engines.graph import Graph

#: Positive numbers, and numbers that may be 0: seconds, joules, or counts per second.
_Positive = Annotated[float, Within(1e-12, 1e18)]
_Amount = Annotated[float, Within(0, 1e18)]
_PositiveSeconds = Annotated[float, Within(1e-9, MOST_SECONDS)]

#: The instrument that the others are compared with: the clock of the benchmark.
OWN_NAME = "pneumo-edge"

Arithmetic = Literal["float32", "int8"]
#: A field of :class:`Supplement` that a measure fills.
Part = Literal["installations", "limits", "graphs", "profiles", "energy", "throughput", "cross_checks"]


@dataclass(frozen=True)
class Limit:
    """The highest rate of multiply-adds that was measured on this machine, and the method."""

    by: str
    arithmetic: Arithmetic
    threads: AtLeastOne
    multiply_adds_per_s: _Positive


@dataclass(frozen=True)
class ModelGraph:
    """The operators of a model file, and how many of them each engine delegates to its kernel library."""

    model: str
    graph: Graph
    delegated: dict[str, Count]


@dataclass(frozen=True)
class OperatorProfile:
    """Milliseconds of one inference by operator, as a mean over calls, from the engine's own profiler.

    The names are those of the operators that the engine ran after fusion.
    """

    unit: Unit
    calls: AtLeastOne
    milliseconds: dict[str, _Amount]

    def __post_init__(self) -> None:
        if not any(self.milliseconds.values()):
            raise ValueError("milliseconds has no operator with a time above 0")


@dataclass(frozen=True)
class EnergySample:
    """Energy of the processor's packages, in joules: during inference, and while idle."""

    unit: Unit
    inferences: AtLeastOne
    seconds: _PositiveSeconds
    joules: _Amount
    idle_seconds: _PositiveSeconds
    idle_joules: _Amount


@dataclass(frozen=True)
class ThroughputSample:
    """Inferences of several processes in parallel, each with the unit's number of threads.

    ``per_s`` is the sum over processes of their inferences per second.
    """

    unit: Unit
    processes: AtLeastOne
    inferences: Count
    per_s: _Positive


@dataclass(frozen=True)
class Installation:
    """Disk space of an engine, in bytes: its own distribution, and its requirements by name."""

    engine: str
    distribution: str
    version: str
    size_bytes: Count
    needs: dict[str, Count]


@dataclass(frozen=True)
class Reading:
    """The reading of one instrument in one round, in a fresh process.

    ``told`` has further numbers under the instrument's own names; ``summary`` is its report as text.
    """

    instrument: str
    round: Count
    calls: AtLeastOne
    median_ms: _Positive
    told: dict[str, float]
    summary: str = ""


@dataclass(frozen=True)
class CrossCheck:
    """A unit's inference, timed in turn by this benchmark's clock and by other instruments."""

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
    """A measure that was not available, its subject, and the reason."""

    measure: str
    subject: str
    reason: str


@dataclass(frozen=True)
class Supplement:
    """All further measurements; measures that were not requested are empty."""

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
        """Names of the model files that it has measurements of."""
        entries = (*self.graphs, *self.profiles, *self.energy, *self.throughput, *self.cross_checks)
        return {name for each in entries if (name := _model_of(each)) is not None}

    def with_parts(self, parts: Iterable[Part], found: Supplement, models: Collection[str]) -> Supplement:
        """A copy in which ``found`` replaces the entries of some parts that concern ``models`` or the machine."""
        others: dict[Part, tuple[Any, ...]] = {
            part: tuple(each for each in getattr(self, part) if _model_of(each) not in {None, *models})
            for part in parts
        }
        return replace(self, **{part: (*kept, *getattr(found, part)) for part, kept in others.items()})


def _model_of(entry: object) -> str | None:
    """The model file of an entry; None for an entry about the machine."""
    match entry:
        case ModelGraph():
            return entry.model
        case OperatorProfile() | EnergySample() | ThroughputSample() | CrossCheck():
            return entry.unit.model
        case _:
            return None
