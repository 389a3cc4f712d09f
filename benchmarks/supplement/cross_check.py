"""Compares this benchmark's clock with instruments by others, on the same file at the same time."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

from pneumo_edge.benchmarks import statistics
from pneumo_edge.benchmarks.instruments import OWN, Instrument, loadgen
from pneumo_edge.benchmarks.supplement.records import CrossCheck, Reading
from pneumo_edge.benchmarks.supplement.task import Task, carry_out
from pneumo_edge.evaluation.metrics import Interval

#: Number of rounds; every instrument has a turn in each.
ROUNDS = 5
#: Instruments agree where the ratio of their medians differs from 1 by at most this.
TOLERANCE = 0.10

AgreementOutcome = Literal["agrees", "differs", "not separable"]


@dataclass(frozen=True)
class Agreement:
    """The median of another instrument compared with ours: ``ratio`` is theirs over ours, paired by round."""

    check: CrossCheck
    instrument: str
    ours_ms: float
    theirs_ms: float
    ratio: Interval

    @property
    def outcome(self) -> AgreementOutcome:
        """Whether the whole interval of the ratio lies within :data:`TOLERANCE` of 1, or wholly outside."""
        low, high = 1 - TOLERANCE, 1 + TOLERANCE
        if low <= self.ratio.low and self.ratio.high <= high:
            return "agrees"
        return "differs" if self.ratio.low > high or self.ratio.high < low else "not separable"


def measure(
    task: Task, instruments: Sequence[Instrument], seed: int, logs: Path, done: Callable[[], None]
) -> CrossCheck:
    """Time a unit with our clock and other instruments in turn, in a random order for each round.

    Every turn is a fresh process with the same number of calls.

    Args:
        task: The unit, and the number of calls in a turn.
        instruments: The instruments that support the unit's engine.
        seed: Seed of the order.
        logs: Folder for LoadGen's files of the last round.
        done: Called after each turn.

    Raises:
        ResultsError: A process crashed, or an instrument failed.
    """
    order = random.Random(f"{seed} {task.unit.name}")
    readings = []
    for number in range(ROUNDS):
        turns = [OWN, *instruments]
        order.shuffle(turns)
        for instrument in turns:
            readings.append(replace(_read(instrument, task), round=number))
            done()
    for name in (loadgen.SUMMARY, loadgen.DETAIL):
        if (task.out / name).exists():
            logs.mkdir(parents=True, exist_ok=True)
            shutil.move(task.out / name, logs / name)
    return CrossCheck(task.unit, tuple(sorted(readings, key=lambda reading: reading.round)))


def _read(instrument: Instrument, task: Task) -> Reading:
    doing = f"timing {task.unit.name} with {instrument.name}"
    return carry_out(instrument.measurer(), task, doing)


def agreements(check: CrossCheck) -> list[Agreement]:
    """Compare each instrument with ours, paired by round."""
    by_instrument: dict[str, dict[int, Reading]] = {}
    for reading in check.readings:
        by_instrument.setdefault(reading.instrument, {})[reading.round] = reading
    ours = by_instrument.pop(OWN.name)
    found = []
    for name, theirs in by_instrument.items():
        pairs = [(theirs[number].median_ms, ours[number].median_ms) for number in sorted(theirs)]
        others, own = zip(*pairs, strict=True)
        found.append(Agreement(check, name, median(own), median(others), statistics.paired_ratio(others, own)))
    return found
