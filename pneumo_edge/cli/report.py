"""``pneumo-edge report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS.json", help="Raw results that `benchmark` wrote.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="The file to write; its ending says what: .html (with figures), .md or .csv."),
    ] = Path("report.html"),
) -> None:
    """Draw the report on a benchmark from its raw results alone.

    So a device that measures needs no plotting library: copy its
    results.json here.
    """
    from benchmarks import report as reports
    from benchmarks import results as raw
    from benchmarks.summary import summarise

    if out.suffix not in reports.SUFFIXES:
        raise typer.BadParameter(f"{str(out)!r} does not end in {', '.join(reports.SUFFIXES)}", param_hint="--out")
    reports.write(summarise(raw.read(results)), out)
    typer.echo(f"Report: {out}")
