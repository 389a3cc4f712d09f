"""Composes the report of a benchmark."""

from __future__ import annotations

from pneumo_edge._util.document import Report, count
from pneumo_edge.benchmarks.report.headline import headline
from pneumo_edge.benchmarks.report.runs import Runs
from pneumo_edge.benchmarks.report.sections import SECTIONS, tradeoff


def compose(runs: Runs) -> Report:
    """Compose the report from its sections."""
    sections = [section(runs) for section in SECTIONS]
    machine = runs[0].summary.results.machine
    what = _what(runs)
    return Report(
        title=f"{what}, {len(runs)} runs compared" if len(runs) > 1 else f"{what} on {machine.title}",
        lead=headline(runs),
        facts=(),
        warnings=_warnings(runs),
        sections=tuple(section for section in sections if section),
        top=tradeoff.picture(runs),
    )


def _what(runs: Runs) -> str:
    """What was measured, for the title. Without test images, nothing says what the files classify."""
    has_specs = any(model.has_spec for run in runs for model in run.summary.results.models)
    tests = [run.summary.results.test_set for run in runs]
    if not has_specs or not all(tests):
        return "Model files"
    is_of_x_rays = all(test.task.is_of_x_rays for test in tests if test)
    return "Chest X-ray classifiers" if is_of_x_rays else "Image classifiers"


def _warnings(runs: Runs) -> tuple[tuple[str, str], ...]:
    warnings = []
    for run in runs:
        where = f"Run {run.letter}: " if run.letter else ""
        if run.summary.phantom:
            warnings.append(
                (
                    f"{where}Phantom images, not real X-rays: the accuracies mean nothing.",
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
                    f"{where}Random initial weights: the accuracies mean nothing.",
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
