"""What is run, how often, and in which order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: What is timed: the engine on a ready tensor, and the classifier on an image file.
CallKind = Literal["inference", "file_to_verdict"]
CALL_KINDS: tuple[CallKind, ...] = ("inference", "file_to_verdict")
Measure = Literal["accuracy", "memory", "latency"]

#: A slow call still gets this many turns in every process, whatever its share of the time.
MIN_TURNS = 5


@dataclass(frozen=True)
class Unit:
    """What is measured: a model file on an engine with a number of threads, one image at a time."""

    model: str
    engine: str
    threads: int

    @property
    def name(self) -> str:
        """For messages and tables."""
        threads = f", {self.threads} threads" if self.threads > 1 else ""
        return f"{self.model} on {self.engine}{threads}"


@dataclass(frozen=True)
class Settings:
    """How often everything is run.

    Attributes:
        processes: Fresh processes, each of which times every unit.
        rounds: Rounds in each process; in a round every call has at most one turn.
        warmups: Untimed calls of each kind, for each unit, before the first round.
        turn_seconds: Time that one call's turns may take in one process. A call that is too slow for a
            turn in every round gets fewer, spread evenly over the rounds, but at least :data:`MIN_TURNS`.
        images: How many different test images the timed calls go through.
        seed: Seed of the order inside the rounds and of the choice of images.
    """

    processes: int = 5
    rounds: int = 100
    warmups: int = 5
    turn_seconds: float = 0.5
    images: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("processes", "rounds", "warmups", "images"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, not at least 1")


@dataclass(frozen=True)
class Job:
    """A unit, the path of its model file, and the ``.npy`` file with the test images at its input size."""

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
    """What one fresh process does; ``process`` is its number from 0 where several do the same."""

    measure: Measure
    jobs: tuple[Job, ...]
    images: tuple[TimedImage, ...]
    settings: Settings
    process: int = 0


def turns_within(settings: Settings, call_seconds: float) -> int:
    """How many of the rounds a call takes part in, from the time that one call takes."""
    affordable = int(settings.turn_seconds / call_seconds) if call_seconds > 0 else settings.rounds
    return min(settings.rounds, max(MIN_TURNS, affordable))


def schedule(turns: Sequence[int], rounds: int, seed: str) -> list[list[int]]:
    """Draw the order of turns.

    Args:
        turns: For each call, the number of rounds it takes part in, at most ``rounds``.
        rounds: Number of rounds.
        seed: Seed of the order.

    Returns:
        For each round, the indices of the calls that have a turn in it, in the order drawn. The rounds
        that a call takes part in are spread evenly.
    """
    order = random.Random(seed)
    drawn = []
    for number in range(rounds):
        taking_part = [i for i, n in enumerate(turns) if (number + 1) * n // rounds > number * n // rounds]
        order.shuffle(taking_part)
        drawn.append(taking_part)
    return drawn
