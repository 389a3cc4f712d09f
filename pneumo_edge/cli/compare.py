"""``pneumo-edge compare``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from pneumo_edge.cli.benchmark import print_table
from pneumo_edge.errors import ExitCode


def _share(text: str) -> float:
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+) ?%", text)
    if not match:
        raise typer.BadParameter(f"{text!r} is not a percentage such as 5%")
    return float(match[1]) / 100


def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="Raw results that `benchmark` wrote.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="Others: of another machine, version or date.")],
    fail_on_regression: Annotated[
        float | None,
        typer.Option(
            parser=_share,
            metavar="PERCENT",
            help="End with exit code 5 where time or memory is worse by more than this beyond doubt, such as 5%.",
        ),
    ] = None,
) -> None:
    """Compare two benchmarks of the same files: how many times the first the second takes.

    CPU time and peak memory, with 95 % intervals over processes. A regression
    is one only above the noise that either run's A/A unit showed; over all
    files, two runs that are alike raise an alarm in at most 5 % of comparisons.
    """
    from benchmarks import comparison
    from benchmarks import results as raw
    from benchmarks.report.sections.side_by_side import comparison_table
    from benchmarks.summary import summarise

    first, second = (summarise(raw.read(path)) for path in (before, after))
    compared = comparison.compare(first, second, fail_on_regression or 0.0)
    for name, summary in (("A", first), ("B", second)):
        machine = summary.results.machine
        typer.echo(f"{name}: {machine.cpu}, {machine.system}, {summary.results.started}")
    print_table(comparison_table(compared))
    if fail_on_regression is not None and any(each.regressions for each in compared):
        typer.echo(f"error: worse by more than {fail_on_regression:.1%}; see the column Found", err=True)
        raise typer.Exit(ExitCode.GATE_MISSED)
