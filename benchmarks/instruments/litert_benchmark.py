"""``litert-benchmark``, which comes with ai-edge-litert."""

from __future__ import annotations

import json

from pneumo_edge._util import children
from pneumo_edge.benchmarks.supplement.records import Reading
from pneumo_edge.benchmarks.supplement.task import Task
from pneumo_edge.errors import ResultsError

#: What the console script ``litert-benchmark`` runs.
_MODULE = "ai_edge_litert.tools.benchmark_litert_model"


def measure(task: Task) -> Reading:
    """Time the file with the command, on the CPU.

    Raises:
        ResultsError: The command failed.
    """
    report = task.out / "litert-benchmark.json"
    options = ["--model", task.path, "--num_threads", str(task.unit.threads), "--num_runs", str(task.calls)]
    options += ["--warmup_runs", str(task.warmups), "--result_json", str(report)]
    with children.start("-m", _MODULE, *options) as child:
        child.process.communicate()
        code, last = child.process.returncode, child.last_words() or "it printed no message"
    if code or not report.exists():
        raise ResultsError(
            f"litert-benchmark ended with exit code {code} ({last})",
            "a command that times the file",
            "Compare with another instrument",
        )
    found = json.loads(report.read_bytes())
    told = {name: float(value) for name, value in found["latency"].items()}
    return Reading("litert-benchmark", 0, int(told["num_runs"]), told["median_ms"], told)
