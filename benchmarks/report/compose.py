"""Composes the report of a benchmark."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pneumo_edge._util.document import Report, count
from pneumo_edge.benchmarks import validity
from pneumo_edge.benchmarks.report.runs import Run, Runs
from pneumo_edge.benchmarks.report.sections import SECTIONS


def compose(runs: Runs) -> Report:
    """Compose the report from its sections."""
    sections = [section(runs) for section in SECTIONS]
    machine = runs[0].summary.results.machine
    units = sum(len(run.summary.rows) for run in runs)
    models = len({model.sha256 + model.file for run in runs for model in run.summary.results.models})
    several = f" in {len(runs)} runs" if len(runs) > 1 else ""
    return Report(
        title=f"Chest X-ray classifiers, {len(runs)} runs compared"
        if several
        else f"Chest X-ray classifiers on {machine.cpu}",
        lead=f"Accuracy, latency, memory and size of {count(models, 'model file')}{several}, one image at a time. Each "
        f"file was measured on each engine and number of threads: {count(units, 'unit')}.",
        facts=tuple((f"Run {run.letter}", _in_one_line(run)) for run in runs) if several else _facts(runs[0]),
        warnings=_warnings(runs),
        sections=tuple(section for section in sections if section),
    )


def _facts(run: Run) -> tuple[tuple[str, str], ...]:
    summary, machine = run.summary, run.summary.results.machine
    counts = ", ".join(f"{number} {name}" for name, number in summary.class_counts.items())
    return (
        ("Processor", f"{machine.cpu}, {validity.describe_cores(machine)}, {machine.architecture}"),
        ("Memory", f"{machine.memory_bytes / 2**30:.1f} GiB"),
        ("System", f"{machine.system}, {machine.python}"),
        (
            "Test images",
            f"{sum(summary.class_counts.values())} ({counts}) of {summary.results.test_set.title}"
            if summary.results.test_set
            else "none: no data set was given, and accuracy was not measured",
        ),
        ("Threads", _threads(run)),
        ("Measured", _measured(run)),
    )


def _in_one_line(run: Run) -> str:
    (_, processor), (_, memory), (_, system), (_, images), (_, threads), (_, measured) = _facts(run)
    return f"{processor}, {memory}; {system}; {images}; threads: {threads}; {measured}"


def _threads(run: Run) -> str:
    return ", ".join(map(str, sorted({row.result.unit.threads for row in run.summary.rows})))


def _measured(run: Run) -> str:
    started = datetime.fromisoformat(run.summary.results.started).astimezone(UTC)
    return f"{started:%Y-%m-%d %H:%M} UTC, in {timedelta(seconds=round(run.summary.results.duration_s))}"


def _warnings(runs: Runs) -> tuple[tuple[str, str], ...]:
    warnings = []
    for run in runs:
        where = f"Run {run.letter}: " if run.letter else ""
        if run.summary.phantom:
            warnings.append(
                (
                    f"{where}Phantom images, not real X-rays: the accuracies below mean nothing.",
                    "This run shows that the pipeline works and how fast it is on this machine. It says nothing about "
                    f"pneumonia: {'; '.join(run.summary.phantom)}.",
                )
            )
        unverified = [model.unverified for model in run.summary.results.models if model.unverified]
        if unverified:
            warnings.append((f"{where}Not verified on a processor like this one.", " ".join(unverified)))
        if run.summary.random_weights:
            warnings.append(
                (
                    f"{where}Random initial weights: the accuracies below say nothing about the backbones.",
                    f"{len(run.summary.random_weights)} of {count(len(run.summary.results.models), 'model file')} were "
                    "trained without pretrained weights.",
                )
            )
        if run.summary.shortage:
            warnings.append(
                (
                    f"{where}Too few test images to compare accuracies.",
                    f"{run.summary.shortage[0].upper()}{run.summary.shortage[1:]}. No claim on accuracy is decided. A "
                    "file that meets its accuracy target here may miss it on more images.",
                )
            )
    return tuple(warnings)
