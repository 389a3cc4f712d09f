"""``pneumo-edge compare``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge.cli import screen
from pneumo_edge.errors import ExitCode

if TYPE_CHECKING:
    from pneumo_edge._util.document import Tone
    from pneumo_edge.benchmarks.comparison import RunComparison


def _share(text: str) -> float:
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+) ?%", text)
    if not match:
        raise typer.BadParameter(f"{text!r} is not a percentage such as 5%")
    return float(match[1]) / 100


def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="Raw results that `benchmark` wrote.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="Raw results of another machine, version or date.")],
    fail_on_regression: Annotated[
        float | None,
        typer.Option(
            parser=_share,
            metavar="PERCENT",
            help="End with exit code 5 if time or memory is significantly worse by more than this, such as 5%; if "
            "AUC, accuracy, sensitivity or specificity fell; if a unit is missing; or if the runs cannot tell.",
        ),
    ] = None,
) -> None:
    """Compare two benchmarks of the same files.

    Shows the ratio B / A of times and of peak memory with 95 % intervals
    over processes, and the differences of AUC, accuracy, sensitivity and
    specificity on the same images with intervals by patient. Time or memory
    counts as worse only above the noise that the A/A unit of either run
    showed. Two equal runs raise an alarm in at most 5 % of comparisons, over
    all files.

    With --fail-on-regression, the exit code is 5 if anything is worse, if
    the second run lacks a unit of the first, or if the runs cannot tell (one
    process, few test images, or other test images). An unknown result does
    not pass.
    """
    from pneumo_edge.benchmarks import comparison
    from pneumo_edge.benchmarks import results as raw
    from pneumo_edge.benchmarks.report.sections import side_by_side
    from pneumo_edge.benchmarks.summary import summarise

    first, second = (summarise(raw.read(path)) for path in (before, after))
    compared = comparison.compare(first, second, fail_on_regression or 0.0)
    screen.show(*_result(compared), bold=True)
    for name, summary in (("A", first), ("B", second)):
        machine = summary.results.machine
        typer.echo(f"{name}: {machine.title}, {machine.system}, {summary.results.started}")
    screen.show_table(side_by_side.comparison_table(compared.units), side_by_side.LEAST)
    for remark in side_by_side.remarks(compared, "A", "B"):
        typer.echo(remark)
    if fail_on_regression is not None and not compared.passes:
        typer.echo(f"error: {_failure(compared, fail_on_regression)}", err=True)
        raise typer.Exit(ExitCode.GATE_MISSED)


def _result(compared: RunComparison) -> tuple[str, Tone]:
    """What came of the comparison, in a line, with its tone."""
    from pneumo_edge._util.document import count

    units = len(compared.units)
    worse = sum(bool(each.regressions) for each in compared.units)
    untold = sum(bool(each.untold) for each in compared.units)
    if worse:
        return f"B is worse than A in {worse} of {count(units, 'unit')}", "bad"
    if untold == units:
        measures = ", ".join(dict.fromkeys(name for each in compared.units for name in each.untold))
        return f"Cannot tell whether B is worse than A: {measures}, in {count(units, 'unit')}", "open"
    if untold:
        return f"B is not worse than A in {units - untold} of {count(units, 'unit')}; cannot tell for {untold}", "open"
    return f"No regression in {count(units, 'unit')}", "good"


def _failure(compared: RunComparison, allowed: float) -> str:
    """Say in one line why a comparison does not pass."""
    parts = []
    if worse := dict.fromkeys(name for each in compared.units for name in each.regressions):
        parts.append(
            f"worse in {', '.join(worse)} (time or memory by more than {allowed:.1%}, AUC or decisions by any amount)"
        )
    if compared.only_before:
        parts.append(f"B lacks {', '.join(unit.name for unit in compared.only_before)}")
    if untold := dict.fromkeys(name for each in compared.units for name in each.untold):
        parts.append(f"cannot tell for {', '.join(untold)}")
    remedy = " Measure again on the same images and with more processes." if untold else ""
    return f"{'; '.join(parts)}; see the column Outcome.{remedy}"
