"""Writes the numbers of the report as CSV, one line for each unit."""

from __future__ import annotations

from statistics import median

from pneumo_edge._util import tabular
from pneumo_edge.benchmarks import sentences
from pneumo_edge.benchmarks.measures.latency import Latency
from pneumo_edge.benchmarks.report.runs import Run, Runs, units
from pneumo_edge.benchmarks.summary import Row
from pneumo_edge.evaluation.metrics import Interval


def render(runs: Runs) -> str:
    """Write the numbers of all units as CSV (RFC 4180). Each line names its machine, so files can be concatenated.

    No name is read as a formula by a spreadsheet: see :mod:`pneumo_edge._util.tabular`.
    """
    lines = [_line(run, row) for run, row in units(runs)]
    names = list(dict.fromkeys(name for line in lines for name in line))
    rows: list[list[object]] = [[*names], *([line.get(name, "") for name in names] for line in lines)]
    return "".join(tabular.row(row, end="\r\n") for row in rows)


def _line(run: Run, row: Row) -> dict[str, object]:
    results, accuracy = run.summary.results, row.accuracy
    return {
        "run": run.letter,
        "started": results.started,
        "device": results.machine.device,
        "cpu": results.machine.cpu,
        "architecture": results.machine.architecture,
        "preset": results.settings.preset,
        "file": row.model.file,
        "sha256": row.model.sha256,
        "backbone": row.model.backbone,
        "format": row.model.format,
        "engine": row.result.unit.engine,
        "engine_version": row.result.engine_version,
        "threads": row.result.unit.threads,
        "size_bytes": row.model.size_bytes,
        "peak_memory_bytes": "" if row.peak_bytes is None else row.peak_bytes,
        "imports_memory_bytes": "" if row.result.imports_bytes is None else row.result.imports_bytes,
        **_interval("auc", accuracy.auc if accuracy else None),
        **_interval("accuracy", accuracy.confusion.accuracy if accuracy else None),
        **_interval("sensitivity", accuracy.confusion.sensitivity if accuracy else None),
        **_interval("specificity", accuracy.confusion.specificity if accuracy else None),
        **_latency("inference", row.inference),
        **(_latency("file_to_verdict", row.file_to_verdict) if row.file_to_verdict else {}),
        **{f"stage_{stage}_ms": value for stage, value in row.stages_ms.items()},
        "load_ms": row.load_ms,
        "first_inference_ms": row.first_inference_ms,
        **_sustained(run, row),
        "pareto_front": "yes" if any(row is each for each in run.verdict.pareto) else "no",
        "cannot_rank": next(
            (sentences.unranked(row.shortfalls, gate) for each, gate in run.verdict.unranked if each is row), ""
        ),
        "shortfalls": "; ".join(row.shortfalls),
    }


def _sustained(run: Run, row: Row) -> dict[str, object]:
    course = run.summary.course(row)
    if course is None:
        return {}
    return {
        "sustained_first_ms": course.first_ms,
        "sustained_last_ms": course.last_ms,
        **_interval("sustained_last_over_first", course.slower),
        "sustained_changes": "; ".join(f"{each.at_s.value:.0f} s: {each.factor.value:.3f}" for each in course.changes),
    }


def _interval(name: str, interval: Interval | None) -> dict[str, object]:
    if interval is None:
        return {name: "", f"{name}_low": "", f"{name}_high": ""}
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _latency(name: str, latency: Latency) -> dict[str, object]:
    cpu = latency.cpu_medians_ms
    return {
        f"{name}_calls": latency.calls,
        f"{name}_median_ms": latency.median_ms,
        f"{name}_p90_ms": latency.p90_ms,
        f"{name}_p90_bound_ms": "" if latency.p90_bound_ms is None else latency.p90_bound_ms,
        f"{name}_p99_ms": latency.p99_ms,
        f"{name}_outliers": latency.outliers,
        f"{name}_cpu_ms": median(cpu) if cpu else "",
        f"{name}_cpu_least_ms": min(cpu, default=""),
        f"{name}_cpu_most_ms": max(cpu, default=""),
    }
