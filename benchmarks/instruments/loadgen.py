"""MLPerf's LoadGen in its SingleStream scenario: it issues the queries, times them, and writes its own log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pneumo_edge._util import extras
from pneumo_edge.benchmarks.supplement.records import Reading
from pneumo_edge.benchmarks.supplement.task import Task

#: Files that LoadGen writes, and the beginning of a line in the first.
DETAIL, SUMMARY = "mlperf_log_detail.txt", "mlperf_log_summary.txt"
_MARK = ":::MLLOG "


def measure(task: Task) -> Reading:
    """Let LoadGen query the unit, one image after the other (SingleStream, performance only).

    LoadGen's files stay in the task's folder. ``told`` has the numbers of its log under LoadGen's names.

    Raises:
        PneumoEdgeError: The unit cannot be loaded or called, or LoadGen is not installed.
    """
    loadgen: Any = extras.need("mlperf_loadgen", "loadgen")
    classifier, pixels = task.load()
    tensors = [classifier.as_input(image) for image in pixels]
    for call in range(task.warmups):
        classifier.engine.run(tensors[call % len(tensors)])

    def issue(samples: list[Any]) -> None:
        for sample in samples:
            classifier.engine.run(tensors[sample.index])
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0)])

    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.SingleStream
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_query_count = settings.max_query_count = task.calls
    settings.min_duration_ms = 0
    logs = loadgen.LogSettings()
    logs.log_output.outdir = str(task.out)
    logs.log_output.copy_summary_to_stdout = False
    system = loadgen.ConstructSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(len(tensors), len(tensors), lambda samples: None, lambda samples: None)
    try:
        loadgen.StartTestWithLogSettings(system, library, settings, logs, str(task.out / "audit.config"))
    finally:
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(system)
    told = dict(_numbers(task.out / DETAIL))
    return Reading(
        "MLPerf LoadGen",
        0,
        int(told["result_query_count"]),
        told["result_50.00_percentile_latency_ns"] / 1e6,
        told,
        (task.out / SUMMARY).read_text(encoding="utf-8"),
    )


def _numbers(detail: Path) -> Iterator[tuple[str, float]]:
    """The numbers in LoadGen's log; booleans as 1 and 0."""
    for line in detail.read_text(encoding="utf-8").splitlines():
        if line.startswith(_MARK):
            entry = json.loads(line.removeprefix(_MARK))
            key, value = entry["key"], entry["value"]
            if key.startswith(("result_", "early_stopping_")) and isinstance(value, bool | int | float):
                yield key, float(value)
