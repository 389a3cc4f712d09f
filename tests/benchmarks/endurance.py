"""Sustained measurements with known courses, for tests of what reads them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pneumo_edge.benchmarks.protocol import Unit
from pneumo_edge.benchmarks.sustained.records import Readings, SustainedSamples, SustainedUnit, pack


def noise(count: int, seed: int, *, rho: float = 0.5, deviation: float = 0.02) -> npt.NDArray[np.float64]:
    """Autocorrelated noise of logarithms, with a stall in every thirtieth second or so."""
    random = np.random.default_rng(seed)
    found = random.standard_normal(count)
    for place in range(1, count):
        found[place] = rho * found[place - 1] + np.sqrt(1 - rho**2) * found[place]
    return np.asarray(deviation * found + (random.random(count) < 1 / 30) * random.exponential(0.5, count))


def alone(
    unit: Unit, ms: npt.NDArray[np.float64], *, temperatures: tuple[float, ...] = (), cpu_share: float = 1.0
) -> SustainedUnit:
    """A unit whose inferences take so many milliseconds in each second."""
    counts = np.maximum(1, (1000 / ms).astype(int))
    ticks = np.repeat(10_000 * ms, counts).astype(np.int64)
    return SustainedUnit(
        unit,
        SustainedSamples(
            float(len(ms)),
            tuple(map(int, counts)),
            tuple(map(float, cpu_share * ms * counts)),
            pack(ticks),
            Readings(tuple(map(float, range(len(ms) + 1))), temperatures),
        ),
    )
