"""What is run, how often, and in which order."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pneumo_edge._util.records import AtLeastOne, Within

#: What is timed: the engine on a ready tensor, and the classifier on an image file.
CallKind = Literal["inference", "file_to_verdict"]
CALL_KINDS: tuple[CallKind, ...] = ("inference", "file_to_verdict")
Measure = Literal["accuracy", "memory", "latency"]

#: A slow call still gets this many turns in every process, whatever its share of the time.
MIN_TURNS = 5
#: A warm-up call is one of at least this many for each unit, until they have taken so many seconds.
WARMUP_SECONDS = 0.5
#: Fresh processes that a claim takes; each counts as one observation.
MIN_PROCESSES = 10
#: No time of a benchmark is longer, in seconds: 30 years.
MOST_SECONDS = 1e9
#: Turns are planned from the time that warm-up calls take, which timed calls may undercut.
_MARGIN = 1.1


@dataclass(frozen=True)
class Preset:
    """What a unit must have done over all processes for its result to count; after the modes of MLPerf Mobile.

    Attributes:
        queries: Least number of calls of each kind.
        seconds: Least time in inference calls.
        most_seconds: A unit too slow for ``queries`` calls in this time makes fewer, and its result does not count.
    """

    queries: int
    seconds: float
    most_seconds: float


PRESETS: dict[str, Preset] = {
    "normal": Preset(1024, 60, 600),
    "quick": Preset(128, 10, 60),
    "rapid": Preset(64, 6, 60),
}


@dataclass(frozen=True)
class Unit:
    """What is measured: a model file on an engine with a number of threads, one image at a time."""

    model: str
    engine: str
    threads: AtLeastOne

    @property
    def name(self) -> str:
        """For messages and tables."""
        threads = f", {self.threads} threads" if self.threads > 1 else ""
        return f"{self.model} on {self.engine}{threads}"


@dataclass(frozen=True)
class BenchmarkSettings:
    """How often everything is run.

    Attributes:
        preset: Name of the preset that a result is held to, whatever the other settings are.
        processes: Fresh processes, each of which times every unit of a comparison.
        queries: Least number of calls of each kind, for each unit, over all processes.
        seconds: Least time in inference calls, for each unit, over all processes.
        most_seconds: Time that a unit's calls of one kind may take over all processes; a slow call still
            gets :data:`MIN_TURNS` in each.
        warmups: Untimed calls of each kind, for each unit, before the first round; fewer, but at least two,
            where they take longer than :data:`WARMUP_SECONDS`.
        images: How many different test images the timed calls go through.
        seed: Seed of the order inside the rounds and of the choice of images.
    """

    preset: str = "quick"
    processes: int = MIN_PROCESSES
    queries: int = PRESETS["quick"].queries
    seconds: Annotated[float, Within(0, MOST_SECONDS)] = PRESETS["quick"].seconds
    most_seconds: Annotated[float, Within(0, MOST_SECONDS)] = PRESETS["quick"].most_seconds
    warmups: int = 10
    images: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset}, not one of {', '.join(PRESETS)}")
        for name in ("processes", "queries", "warmups", "images"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, not at least 1")
        if not 0 <= self.seconds <= self.most_seconds:
            raise ValueError(f"seconds is {self.seconds}, not from 0 to {self.most_seconds}")

    @classmethod
    def of(
        cls,
        preset: str,
        *,
        processes: int = MIN_PROCESSES,
        queries: int | None = None,
        seconds: float | None = None,
        seed: int = 0,
    ) -> BenchmarkSettings:
        """The settings of a preset, with some replaced; fewer than it asks for make a result that does not count."""
        row = PRESETS[preset]
        seconds = row.seconds if seconds is None else seconds
        return cls(
            preset=preset,
            processes=processes,
            queries=queries or row.queries,
            seconds=seconds,
            most_seconds=max(seconds, row.most_seconds),
            seed=seed,
        )

    @property
    def least_ns(self) -> int:
        """Least time in inference calls, for each unit, in one process."""
        return math.ceil(1e9 * self.seconds / self.processes)

    @property
    def most_ns(self) -> int:
        """Time that a unit's calls of one kind may take in one process."""
        return math.ceil(1e9 * self.most_seconds / self.processes)


@dataclass(frozen=True)
class Job:
    """A unit, the path of its model file, and the ``.npy`` file with the test images at its input size.

    Several jobs of a plan may have the same unit: its file is then loaded as often.
    """

    unit: Unit
    path: str
    pixels: str


@dataclass(frozen=True)
class TimedImage:
    """A test image that timed calls use: its index in the pixels, and its file."""

    index: int
    file: str


@dataclass(frozen=True)
class Plan:
    """What one fresh process does; ``process`` is its number from 0 where several do the same.

    ``twin`` says that it times an A/A unit in a process of its own.
    """

    measure: Measure
    jobs: tuple[Job, ...]
    images: tuple[TimedImage, ...]
    settings: BenchmarkSettings
    process: int = 0
    twin: bool = False


def plan_turns(settings: BenchmarkSettings, kind: CallKind, call_ns: float) -> int:
    """How many turns a call gets in one process, from the time that one call takes in nanoseconds."""
    call_ns = max(call_ns, 1.0)
    wanted = math.ceil(settings.queries / settings.processes)
    if kind == "inference":
        wanted = max(wanted, math.ceil(_MARGIN * settings.least_ns / call_ns))
    return min(wanted, max(MIN_TURNS, int(settings.most_ns / call_ns)))


def schedule(turns: Sequence[int], order: random.Random) -> list[list[int]]:
    """Draw the order of turns.

    Args:
        turns: For each call, the number of rounds it takes part in.
        order: Draws the order.

    Returns:
        For each of as many rounds as the most turns, the indices of the calls that have a turn in it, in
        the order drawn. The rounds that a call takes part in are spread evenly.
    """
    rounds = max(turns)
    drawn = []
    for number in range(rounds):
        taking_part = [i for i, n in enumerate(turns) if (number + 1) * n // rounds > number * n // rounds]
        order.shuffle(taking_part)
        drawn.append(taking_part)
    return drawn
