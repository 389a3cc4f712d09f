"""onnxruntime's own profiler: the time of each run, and of each operator in it."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_edge.benchmarks.supplement.records import OperatorProfile, Reading
from pneumo_edge.benchmarks.supplement.task import Task
from pneumo_edge.runtime import engines

#: onnxruntime's name for one run of a session, and the suffix of an operator's node.
_RUN, _KERNEL = "model_run", "_kernel_time"


def measure(task: Task) -> Reading:
    """Time runs with onnxruntime's profiler.

    ``told`` has ``outside_ms``, the median of the same runs by this process's clock.

    Raises:
        PneumoEdgeError: The file cannot be loaded.
    """
    events, outside_ms = _profile(task)
    runs = [event["dur"] / 1e3 for event in events if event["name"] == _RUN]
    median = float(np.median(runs[task.warmups :]))
    return Reading("onnxruntime profiler", 0, task.calls, median, {"outside_ms": float(np.median(outside_ms))})


def operators(task: Task) -> OperatorProfile:
    """Time by operator; the warm-ups count in the mean.

    Raises:
        PneumoEdgeError: The file cannot be loaded.
    """
    events, _ = _profile(task)
    microseconds: Counter[str] = Counter()
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(_KERNEL):
            microseconds[event["args"]["op_name"]] += event["dur"]
    calls = task.warmups + task.calls
    return OperatorProfile(task.unit, calls, {name: us / calls / 1e3 for name, us in microseconds.most_common()})


def _profile(task: Task) -> tuple[list[dict[str, Any]], list[float]]:
    """The events of the profiler, and the wall time of the calls that count, in milliseconds."""
    classifier, pixels = task.load()
    library = engines.import_engine(engines.choose(classifier.path, "onnxruntime"))
    session = library.open_session(classifier.path, task.unit.threads, profile=task.out / "profile")
    name, probability = session.get_inputs()[0].name, session.get_outputs()[0].name
    outside_ms = []
    for call in range(task.warmups + task.calls):
        tensor = classifier.as_input(pixels[call % len(pixels)])
        started = time.perf_counter_ns()
        session.run([probability], {name: tensor})
        outside_ms.append((time.perf_counter_ns() - started) / 1e6)
    events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_bytes())
    return events, outside_ms[task.warmups :]
