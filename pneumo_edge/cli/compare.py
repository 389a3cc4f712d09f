"""``pneumo-edge compare``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge.cli.benchmark import print_table
from pneumo_edge.errors import ExitCode

if TYPE_CHECKING:
    from pneumo_edge.benchmarks.comparison import RunComparison


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
            help="End with exit code 5 where time or memory is worse by more than this beyond doubt, such as 5%, "
            "where AUC, accuracy, sensitivity or specificity fell, where a unit is missing, or where the runs do not "
            "tell.",
        ),
    ] = None,
) -> None:
    """Compare two benchmarks of the same files: how many times the first the second takes.

    Time and peak memory, with 95 % intervals over processes, and AUC, accuracy, sensitivity
    and specificity on the same images, with intervals by patient. Time or memory is worse only above the
    noise that either run's A/A unit showed; over all files, two runs that are
    alike raise an alarm in at most 5 % of comparisons.

    With --fail-on-regression, exit code 5 where anything is worse, where the
    second run lacks a unit of the first, and where the runs cannot tell: with
    one process, on few or on other test images. What is not known does not pass.
    """
    from pneumo_edge.benchmarks import comparison
    from pneumo_edge.benchmarks import results as raw
    from pneumo_edge.benchmarks.report.sections import side_by_side
    from pneumo_edge.benchmarks.summary import summarise

    first, second = (summarise(raw.read(path)) for path in (before, after))
    compared = comparison.compare(first, second, fail_on_regression or 0.0)
    for name, summary in (("A", first), ("B", second)):
        machine = summary.results.machine
        typer.echo(f"{name}: {machine.cpu}, {machine.system}, {summary.results.started}")
    print_table(side_by_side.comparison_table(compared.units))
    for remark in side_by_side.remarks(compared, "A", "B"):
        typer.echo(remark)
    if fail_on_regression is not None and not compared.passes:
        typer.echo(f"error: {_failure(compared, fail_on_regression)}", err=True)
        raise typer.Exit(ExitCode.GATE_MISSED)


def _failure(compared: RunComparison, allowed: float) -> str:
    """Why a comparison does not pass, in one line."""
    parts = []
    if worse := dict.fromkeys(name for each in compared.units for name in each.regressions):
        parts.append(
            f"worse in {', '.join(worse)} (time and memory by more than {allowed:.1%}, AUC and decisions at all)"
        )
    if compared.only_before:
        parts.append(f"B lacks {', '.join(unit.name for unit in compared.only_before)}")
    if untold := dict.fromkeys(name for each in compared.units for name in each.untold):
        parts.append(f"cannot tell of {', '.join(untold)}")
    remedy = " Measure again, on the same images and with more processes." if untold else ""
    return f"{'; '.join(parts)}; see the column Found.{remedy}"
