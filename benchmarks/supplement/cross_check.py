"""Whether instruments of others, on the same file and in the same minutes, read what this benchmark reads."""

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

#: Rounds in which every instrument has a turn.
ROUNDS = 5
#: Instruments agree where the ratio of their medians is this near to 1.
TOLERANCE = 0.10

AgreementOutcome = Literal["agrees", "differs", "not separable"]


@dataclass(frozen=True)
class Agreement:
    """How another instrument's median stands to ours: ``ratio`` is theirs over ours, paired by round."""

    check: CrossCheck
    instrument: str
    ours_ms: float
    theirs_ms: float
    ratio: Interval

    @property
    def outcome(self) -> AgreementOutcome:
        """Whether the whole interval of the ratio lies within :data:`TOLERANCE` of 1, or the whole of it outside."""
        low, high = 1 - TOLERANCE, 1 + TOLERANCE
        if low <= self.ratio.low and self.ratio.high <= high:
            return "agrees"
        return "differs" if self.ratio.low > high or self.ratio.high < low else "not separable"


def measure(
    task: Task, instruments: Sequence[Instrument], seed: int, logs: Path, done: Callable[[], None]
) -> CrossCheck:
    """Let our clock and other instruments time a unit in turns, in an order that is drawn for each round.

    Every turn is a fresh process with as many calls as any other.

    Args:
        task: The unit, and how many calls a turn has.
        instruments: Those that fit the unit's engine.
        seed: Seed of the order.
        logs: Folder for LoadGen's files, those of the last round.
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
    """Hold each instrument against ours, round by round."""
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
