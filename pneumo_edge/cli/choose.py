"""``pneumo-edge choose``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from pneumo_edge.errors import ExitCode

_TIMES = {"ms": 1.0, "s": 1000.0}
_SIZES = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}


def _quantity(units: Mapping[str, float]) -> Callable[[str], float]:
    """Reads a number with its unit."""

    def parse(text: str) -> float:
        match = re.fullmatch(rf"(\d+\.?\d*|\.\d+) ?({'|'.join(units)})", text)
        if not match:
            raise typer.BadParameter(f"{text!r} is not a number with one of the units {', '.join(units)}")
        return float(match[1]) * units[match[2]]

    return parse


def choose(
    results: Annotated[Path, typer.Argument(metavar="RESULTS.json", help="Raw results that `benchmark` wrote.")],
    max_latency: Annotated[
        float | None,
        typer.Option(
            parser=_quantity(_TIMES), metavar="TIME", help="Most time from file to verdict (p90), such as 10ms."
        ),
    ] = None,
    max_size: Annotated[
        float | None, typer.Option(parser=_quantity(_SIZES), metavar="SIZE", help="Largest file, such as 3MB or 3MiB.")
    ] = None,
    max_memory: Annotated[
        float | None,
        typer.Option(
            parser=_quantity(_SIZES), metavar="SIZE", help="Most peak memory over the process's imports, such as 20MB."
        ),
    ] = None,
    min_sensitivity: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least sensitivity on the test images, such as 0.95.")
    ] = None,
    min_specificity: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least specificity on the test images.")
    ] = None,
) -> None:
    """Name the file that fits a device's budget.

    Of those that fit, the one with the highest AUC. Exit code 3 where none
    fits; then, as always, each file is named with the limits that rule it out.
    """
    from benchmarks import choice
    from benchmarks import results as raw
    from benchmarks.summary import summarise

    limits = choice.Limits(max_latency, max_size, max_memory, min_sensitivity, min_specificity)
    summary = summarise(raw.read(results))
    chosen = choice.choose(summary, limits)
    if summary.phantom:
        typer.secho("These are PHANTOM images, not X-rays: of pneumonia the numbers say nothing.", fg="red", err=True)
    if chosen.best:
        row = chosen.best
        typer.echo(
            f"{row.result.unit.name}: AUC {row.accuracy.auc}, sensitivity {row.accuracy.confusion.sensitivity}, "
            f"file to verdict {row.file_to_verdict.p90_ms:.2f} ms (p90), file {row.model.size_bytes / 1e6:.2f} MB, "
            f"memory {row.peak_bytes / 1e6:.1f} MB"
        )
    for row in chosen.others:
        typer.echo(f"fits too: {row.result.unit.name}: AUC {row.accuracy.auc}")
    for row, reasons in chosen.ruled_out:
        typer.echo(f"ruled out: {row.result.unit.name}: {'; '.join(reasons)}")
    if not chosen.best:
        typer.echo("error: no file fits; loosen a limit, or measure other files", err=True)
        raise typer.Exit(ExitCode.FAILED)
