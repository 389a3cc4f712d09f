"""The protocol of a benchmark: what is run, how often, and in which order."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pneumo_edge._util.records import AtLeastOne, Within
from pneumo_edge.runtime.engines.tensors import Given

#: The kinds of call that are timed: the engine on a ready tensor, and end to end from an image file to a prediction.
CallKind = Literal["inference", "file_to_verdict"]
CALL_KINDS: tuple[CallKind, ...] = ("inference", "file_to_verdict")
Measure = Literal["accuracy", "memory", "latency", "sustained"]

#: Minimum number of turns of a slow call in every process.
MIN_TURNS = 5
#: The warm-up of a unit ends after this many seconds.
WARMUP_SECONDS = 0.5
#: Fresh processes that a claim needs; each counts as one observation.
MIN_PROCESSES = 10
#: Upper limit for any time of a benchmark, in seconds (30 years).
MOST_SECONDS = 1e9
#: The shortest and the longest sustained measurement of a unit, in seconds.
MIN_SUSTAINED_SECONDS, MOST_SUSTAINED_SECONDS = 10, 86_400
#: Seconds of rest before a sustained measurement where no temperature is known; and the longest wait for one.
REST_SECONDS, MOST_REST_SECONDS = 60.0, 1800.0
#: The highest temperature that can be waited for.
MOST_COOL_C = 150
#: Degrees above the temperature of the start that count as cool.
COOL_MARGIN_C = 3.0
#: Turns are planned from the time of warm-up calls; timed calls may be faster by this factor.
_MARGIN = 1.1


@dataclass(frozen=True)
class Preset:
    """How much a unit must be timed, over all processes, for its result to count; after the modes of MLPerf Mobile.

    Attributes:
        queries: Minimum number of calls of each kind.
        seconds: Minimum time in inference calls.
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
    """A model file on an engine with a number of threads, one image at a time."""

    model: str
    engine: str
    threads: AtLeastOne

    @property
    def name(self) -> str:
        """The unit in words, for messages and tables."""
        threads = f", {self.threads} threads" if self.threads > 1 else ""
        return f"{self.model} on {self.engine}{threads}"


@dataclass(frozen=True)
class SustainedSettings:
    """How long each unit runs alone, and how the machine cools before each.

    Attributes:
        seconds: Seconds for which a unit makes one inference after another.
        cool_c: The temperature to wait for, in degrees Celsius. Without it and ``rest_s``, that of the start and
            :data:`COOL_MARGIN_C` degrees; where no temperature is known, :data:`REST_SECONDS` seconds of rest.
        rest_s: Seconds of rest at any temperature.
    """

    seconds: Annotated[float, Within(MIN_SUSTAINED_SECONDS, MOST_SUSTAINED_SECONDS)]
    cool_c: Annotated[float, Within(0, MOST_COOL_C)] | None = None
    rest_s: Annotated[float, Within(0, MOST_SUSTAINED_SECONDS)] | None = None

    def __post_init__(self) -> None:
        if self.cool_c is not None and self.rest_s is not None:
            raise ValueError("cool_c and rest_s are both given")

    @property
    def options(self) -> list[str]:
        """The options of the command line that ask for this."""
        given = (("--sustained", self.seconds, "s"), ("--cool", self.cool_c, "C"), ("--cool", self.rest_s, "s"))
        return [word for name, value, unit in given if value is not None for word in (name, f"{value:.12g}{unit}")]


@dataclass(frozen=True)
class BenchmarkSettings:
    """The settings of a benchmark.

    Attributes:
        preset: Name of the preset that decides whether a result counts, independent of the other settings.
        processes: Fresh processes, each of which times every unit of a comparison.
        queries: Minimum number of calls of each kind, for each unit, over all processes.
        seconds: Minimum time in inference calls, for each unit, over all processes.
        most_seconds: Maximum time of a unit's calls of one kind over all processes; a slow call still gets
            :data:`MIN_TURNS` in each process.
        warmups: Untimed calls of each kind, for each unit, before the first round; fewer, but at least two, where they
            take longer than :data:`WARMUP_SECONDS`.
        images: Number of test images that the timed calls cycle through.
        seed: Seed of the order inside the rounds and of the choice of images.
        sustained: The sustained measurement of each unit; None for none.
    """

    preset: str = "quick"
    processes: int = MIN_PROCESSES
    queries: int = PRESETS["quick"].queries
    seconds: Annotated[float, Within(0, MOST_SECONDS)] = PRESETS["quick"].seconds
    most_seconds: Annotated[float, Within(0, MOST_SECONDS)] = PRESETS["quick"].most_seconds
    warmups: int = 10
    images: int = 64
    seed: int = 0
    sustained: SustainedSettings | None = None

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
        sustained: SustainedSettings | None = None,
    ) -> BenchmarkSettings:
        """The settings of a preset with some replaced. A result with less than the preset requires does not count."""
        row = PRESETS[preset]
        seconds = row.seconds if seconds is None else seconds
        return cls(
            preset=preset,
            processes=processes,
            queries=queries or row.queries,
            seconds=seconds,
            most_seconds=max(seconds, row.most_seconds),
            seed=seed,
            sustained=sustained,
        )

    @property
    def least_ns(self) -> int:
        """Minimum time in inference calls, for each unit, in one process, in nanoseconds."""
        return math.ceil(1e9 * self.seconds / self.processes)

    @property
    def most_ns(self) -> int:
        """Maximum time of a unit's calls of one kind in one process, in nanoseconds."""
        return math.ceil(1e9 * self.most_seconds / self.processes)


@dataclass(frozen=True)
class Job:
    """A unit, the path of its model file, and the ``.npy`` file with the test images at its input size.

    Several jobs of a plan may have the same unit; its file is then loaded several times. ``given`` is what the inputs
    of a file without a ModelSpec are given; such a file is only timed, on random values, and has no pixels.
    """

    unit: Unit
    path: str
    pixels: str
    given: Given | None = None


@dataclass(frozen=True)
class TimedImage:
    """A test image that timed calls use: its index in the pixels, and its file."""

    index: int
    file: str


@dataclass(frozen=True)
class Plan:
    """The work of one fresh process; ``process`` is its number from 0 where several do the same.

    ``twin`` means that it times an A/A unit in its own process.
    """

    measure: Measure
    jobs: tuple[Job, ...]
    images: tuple[TimedImage, ...]
    settings: BenchmarkSettings
    process: int = 0
    twin: bool = False


def plan_turns(settings: BenchmarkSettings, kind: CallKind, call_ns: float) -> int:
    """Number of turns of a call in one process, from the duration of one call in nanoseconds."""
    call_ns = max(call_ns, 1.0)
    wanted = math.ceil(settings.queries / settings.processes)
    if kind == "inference":
        wanted = max(wanted, math.ceil(_MARGIN * settings.least_ns / call_ns))
    return min(wanted, max(MIN_TURNS, int(settings.most_ns / call_ns)))


def schedule(turns: Sequence[int], order: random.Random) -> list[list[int]]:
    """Draw a random order of turns.

    Args:
        turns: For each call, the number of rounds that it takes part in.
        order: The random generator.

    Returns:
        For each round, the indices of the calls that have a turn in it, in random order. There are as many rounds as
        the largest number of turns. The rounds of a call are spread evenly.
    """
    rounds = max(turns)
    drawn = []
    for number in range(rounds):
        taking_part = [i for i, n in enumerate(turns) if (number + 1) * n // rounds > number * n // rounds]
        order.shuffle(taking_part)
        drawn.append(taking_part)
    return drawn
