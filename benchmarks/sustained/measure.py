"""Runs one unit alone, one inference after the other."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable

import numpy as np

from pneumo_edge.benchmarks.sustained.records import MOST_INFERENCES, TICK_NS, SustainedSamples, pack
from pneumo_edge.benchmarks.sustained.sensors import Reading, columns


def measure(
    infer: Callable[[int], tuple[int, int]],
    seconds: float,
    read: Callable[[], Reading],
    done: Callable[[int], None],
    clock: Callable[[], int] = time.perf_counter_ns,
) -> SustainedSamples:
    """Make inferences until so many seconds have passed.

    Sensors are read between two inferences, so that no timed one waits for them.

    Args:
        infer: Makes an inference on the image of this number, and gives its wall and its CPU time in nanoseconds.
        seconds: How long.
        read: Reads the sensors, once a second.
        done: Called with the number of seconds that have passed since the last call.
        clock: Gives the time in nanoseconds.
    """
    ticks, counts, cpu_ns = array("q"), [0], [0]
    readings, at_s = [read()], [0.0]
    began, passed = clock(), 0
    while passed < 1e9 * seconds and len(ticks) < MOST_INFERENCES:
        wall, cpu = infer(len(ticks))
        passed = clock() - began
        # Of seconds in which no inference ended, too.
        new_seconds = passed // 1_000_000_000 - len(counts) + 1
        counts += [0] * new_seconds
        cpu_ns += [0] * new_seconds
        ticks.append(max(1, round(wall / TICK_NS)))
        counts[-1] += 1
        cpu_ns[-1] += cpu
        if new_seconds:
            readings.append(read())
            at_s.append(passed / 1e9)
            done(new_seconds)
    return SustainedSamples(
        seconds=seconds,
        counts=tuple(counts),
        cpu_ms=tuple(each / 1e6 for each in cpu_ns),
        wall_ticks=pack(np.frombuffer(ticks, np.int64)),
        readings=columns(at_s, readings),
    )
