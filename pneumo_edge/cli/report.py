"""``pneumo-edge report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pneumo_edge.cli import options


def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS.json...", help="Raw results that `benchmark` wrote; several stand side by side."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="The file to write; its ending says what: .html (with figures), .md or .csv."),
    ] = Path("report.html"),
) -> None:
    """Draw the report on a benchmark from its raw results alone.

    So a device that measures needs no plotting library: copy its
    results.json here. Those of several machines, versions or dates make one
    report, in which the same units stand next to each other.
    """
    from pneumo_edge.benchmarks import report as reports
    from pneumo_edge.benchmarks import results as raw
    from pneumo_edge.benchmarks.report.runs import gather
    from pneumo_edge.benchmarks.summary import summarise

    if out.suffix not in reports.SUFFIXES:
        raise typer.BadParameter(f"{str(out)!r} does not end in {', '.join(reports.SUFFIXES)}", param_hint="--out")
    options.check_out(out, results)
    reports.write(gather([summarise(raw.read(path)) for path in results]), out)
    typer.echo(f"Report: {out}")
