"""The clock that the benchmark itself uses."""

from __future__ import annotations

import numpy as np

from pneumo_edge.benchmarks.measures import latency
from pneumo_edge.benchmarks.supplement.records import Reading
from pneumo_edge.benchmarks.supplement.task import Task


def measure(task: Task) -> Reading:
    """Time consecutive calls with the clock of the benchmark.

    Raises:
        PneumoEdgeError: The unit cannot be loaded or called.
    """
    classifier, pixels = task.load()
    wall_ms = np.array(latency.time_inference(classifier, pixels, task.warmups, task.calls)) / 1e6
    told = {"mean_ms": float(wall_ms.mean()), "p90_ms": float(np.percentile(wall_ms, 90))}
    return Reading("pneumo-edge", 0, task.calls, float(np.median(wall_ms)), told)
