"""``litert-benchmark``, which comes with ai-edge-litert."""

from __future__ import annotations

import json
import subprocess
import sys

from pneumo_edge.benchmarks.supplement.records import Reading
from pneumo_edge.benchmarks.supplement.task import Task
from pneumo_edge.errors import ResultsError

#: What the console script ``litert-benchmark`` runs.
_MODULE = "ai_edge_litert.tools.benchmark_litert_model"


def measure(task: Task) -> Reading:
    """Have the file timed by the command, on the processor.

    Raises:
        ResultsError: The command failed.
    """
    report = task.out / "litert-benchmark.json"
    command = [sys.executable, "-P", "-m", _MODULE, "--model", task.path, "--num_threads", str(task.unit.threads)]
    command += ["--num_runs", str(task.calls), "--warmup_runs", str(task.warmups), "--result_json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode or not report.exists():
        last = ([line.strip() for line in done.stderr.splitlines() if line.strip()] or ["it left no message"])[-1]
        raise ResultsError(
            f"litert-benchmark ended with exit code {done.returncode} ({last})",
            "a command that times the file",
            "Compare with another instrument",
        )
    found = json.loads(report.read_bytes())
    told = {name: float(value) for name, value in found["latency"].items()}
    return Reading("litert-benchmark", 0, int(told["num_runs"]), told["median_ms"], told)
