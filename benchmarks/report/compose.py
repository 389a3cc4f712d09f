"""What the benchmark's report says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pneumo_edge._util.document import Report, count
from pneumo_edge.benchmarks import validity
from pneumo_edge.benchmarks.report.runs import Run, Runs
from pneumo_edge.benchmarks.report.sections import SECTIONS


def compose(runs: Runs) -> Report:
    """Write the report."""
    sections = [section(runs) for section in SECTIONS]
    machine = runs[0].summary.results.machine
    units = sum(len(run.summary.rows) for run in runs)
    models = len({model.sha256 + model.file for run in runs for model in run.summary.results.models})
    several = f" in {len(runs)} runs" if len(runs) > 1 else ""
    return Report(
        title=f"Chest X-ray classifiers, {len(runs)} runs side by side"
        if several
        else f"Chest X-ray classifiers on {machine.cpu}",
        lead=f"{count(models, 'model file')} measured as {count(units, 'unit')} (a file on an engine){several}: "
        "accuracy, latency, memory and size, one image at a time.",
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
        ("Test images", f"{sum(summary.class_counts.values())} ({counts}) of {summary.results.test_set.title}"),
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
                    f"{where}Phantom images: not real X-rays. The accuracies below mean nothing.",
                    "This run shows that the road works, and how long it takes on this machine; of pneumonia it says "
                    f"nothing: {'; '.join(run.summary.phantom)}.",
                )
            )
        unverified = [model.unverified for model in run.summary.results.models if model.unverified]
        if unverified:
            warnings.append((f"{where}Not verified on a processor such as this one.", " ".join(unverified)))
        if run.summary.random_weights:
            warnings.append(
                (
                    f"{where}Random initial weights. The accuracies below say nothing about the backbones.",
                    f"{len(run.summary.random_weights)} of {count(len(run.summary.results.models), 'model file')} had "
                    "no pretrained weights to start from.",
                )
            )
        if run.summary.shortage:
            warnings.append(
                (
                    f"{where}Too few test images to tell accuracies apart.",
                    f"{run.summary.shortage[0].upper()}{run.summary.shortage[1:]}. Nothing is claimed of accuracy, and "
                    "a file that passes its accuracy gate here may miss it on more images.",
                )
            )
    return tuple(warnings)
