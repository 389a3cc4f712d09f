"""``pneumo-edge choose``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge.cli import options
from pneumo_edge.errors import ExitCode

if TYPE_CHECKING:
    from pneumo_edge.benchmarks.summary import Row


def choose(
    results: Annotated[Path, typer.Argument(metavar="RESULTS.json", help="Raw results that `benchmark` wrote.")],
    max_latency: Annotated[
        float | None,
        typer.Option(
            parser=options.quantity(options.TIMES),
            metavar="TIME",
            help="Longest time from file to verdict (p90), such as 10ms.",
        ),
    ] = None,
    max_size: Annotated[
        float | None,
        typer.Option(parser=options.quantity(options.SIZES), metavar="SIZE", help="Largest file, such as 3MB or 3MiB."),
    ] = None,
    max_memory: Annotated[
        float | None,
        typer.Option(
            parser=options.quantity(options.SIZES),
            metavar="SIZE",
            help="Highest peak memory above the process's imports, such as 20MB.",
        ),
    ] = None,
    min_sensitivity: Annotated[
        float | None, typer.Option(min=0, max=1, help="Lowest sensitivity on the test images, such as 0.95.")
    ] = None,
    min_specificity: Annotated[
        float | None, typer.Option(min=0, max=1, help="Lowest specificity on the test images, such as 0.9.")
    ] = None,
) -> None:
    """Choose the model file that fits a device's budget.

    Of the files that fit, it chooses the fastest whose AUC is not
    significantly below the highest. Every other file is printed with the
    limits that rule it out. The exit code is 3 if no file fits.
    """
    from pneumo_edge.benchmarks import choice, float_baseline
    from pneumo_edge.benchmarks import results as raw
    from pneumo_edge.benchmarks.summary import summarise

    limits = choice.Limits(max_latency, max_size, max_memory, min_sensitivity, min_specificity)
    summary = summarise(raw.read(results))
    chosen = choice.choose(summary, limits)
    if summary.phantom:
        typer.secho(options.PHANTOM_METRICS, fg="red", err=True)
    if summary.shortage:
        typer.echo(f"warning: {summary.shortage}", err=True)
    beside = float_baseline.compare_with_float(summary)

    def warning(row: Row) -> str:
        """Name what the delegate of a slow file did not take, for the end of its line."""
        return f"; {beside[id(row)].warning}" if id(row) in beside and beside[id(row)].slow else ""

    if chosen.best:
        row = chosen.best
        typer.echo(
            f"{row.result.unit.name}: {_accuracy(row)}, file to verdict {_time(row)}, "
            f"file {row.model.size_bytes / 1e6:.2f} MB, memory {row.peak_bytes / 1e6:.1f} MB{warning(row)}"
        )
    for row in chosen.others:
        less = ", significantly less accurate" if any(row is each for each in chosen.less_accurate) else ""
        told = f"{_accuracy(row)}{less}, file to verdict {_time(row)}{warning(row)}"
        typer.echo(f"also fits: {row.result.unit.name}: {told}")
    for row, reasons in chosen.ruled_out:
        typer.echo(f"ruled out: {row.result.unit.name}: {'; '.join(reasons)}{warning(row)}")
    if not chosen.best:
        typer.echo("error: no file fits; relax a limit, or measure other files", err=True)
        raise typer.Exit(ExitCode.FAILED)


def _accuracy(row: Row) -> str:
    confusion = row.accuracy.confusion
    return f"AUC {row.accuracy.auc}, sensitivity {confusion.sensitivity}, specificity {confusion.specificity}"


def _time(row: Row) -> str:
    latency = row.file_to_verdict
    return f"{latency.median_ms:.2f} ms (p90 {latency.p90_ms:.2f})"
