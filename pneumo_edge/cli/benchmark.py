"""``pneumo-edge benchmark``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge._util import cores
from pneumo_edge.benchmarks.protocol import MIN_PROCESSES, PRESETS
from pneumo_edge.cli import datasets, options
from pneumo_edge.errors import ExitCode
from pneumo_edge.runtime.engines import ENGINES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

    from pneumo_edge._util.document import Report, Table
    from pneumo_edge.api.benchmark import Benchmark

#: Wide enough for any table; used where no terminal sets the width.
_PIPE_WIDTH = 250
#: Headings for a narrow terminal.
_SHORT = {
    "Accuracy": "Acc.",
    "Sensitivity": "Sens.",
    "Specificity": "Spec.",
    "Inference ms": "Infer ms",
    "File to verdict ms": "Total ms",
    "Peak memory MiB": "Peak MiB",
}


def _check_engines(names: list[str] | None) -> list[str]:
    for name in names or ():
        if name not in ENGINES:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(ENGINES)}")
    return names or list(ENGINES)


def benchmark(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL|DIR",
            help=options.MODELS_HELP,
        ),
    ],
    data: options.Data,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(ENGINES),
            callback=_check_engines,
            help="Measure on this engine; repeatable. By default on every installed engine.",
        ),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=cores.MOST,
            help="Threads for one inference; repeatable, to measure with each number. By default 1.",
        ),
    ] = None,
    preset: Annotated[
        str,
        options.choice(
            PRESETS,
            "Least calls of each kind and least time of inference for each model, after MLPerf Mobile: "
            f"{', '.join(f'{p.queries} and {p.seconds:g} s' for p in PRESETS.values())}.",
        ),
    ] = "quick",
    processes: Annotated[
        int,
        typer.Option(
            min=1, help=f"Fresh processes, each of which times every model; fewer than {MIN_PROCESSES} prove no claim."
        ),
    ] = MIN_PROCESSES,
    queries: Annotated[
        int | None, typer.Option(min=1, help="Calls of each kind, instead of the preset's; fewer prove no claim.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Seconds of inference, instead of the preset's; fewer prove no claim.")
    ] = None,
    patient_pattern: datasets.ModelsPatientPattern = None,
    seed: Annotated[int, typer.Option(help="Seed of the order and of the choice of images.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for results.json, verdict.json, report.md and report.html.")] = Path(
        "reports"
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Resume the interrupted benchmark in --out.")] = False,
) -> None:
    """Measure model files: accuracy on the test split, latency, peak memory, size.

    The exit code is 0 if everything that can run here was measured, and 4
    if a file or an engine failed. Each failure is printed with its reason;
    the others are measured. The page with figures needs the extra "report";
    on another machine, `report` draws it from results.json.
    """
    from pneumo_edge.api import benchmark as api

    with options.usage():
        measured = api.benchmark(
            models,
            data,
            engines=engine,
            threads=threads or 1,
            preset=preset,
            processes=processes,
            queries=queries,
            seconds=seconds,
            patient_pattern=patient_pattern,
            seed=seed,
            out=out,
            resume=resume,
            tell=options.tell,
        )
    _print(measured)
    if any(skip.failed for skip in measured.results.skipped):
        raise typer.Exit(ExitCode.SOME_UNJUDGED)


def _print(measured: Benchmark) -> None:
    from pneumo_edge.api.benchmark import can_draw
    from pneumo_edge.benchmarks.report.compose import compose
    from pneumo_edge.benchmarks.report.runs import Run
    from pneumo_edge.benchmarks.report.sections import claims, tradeoff

    runs = (Run("", measured.summary, measured.verdict),)
    _print_warnings(compose(runs))
    print_table(tradeoff.main_table(runs))
    _print_claims(claims.evidence_table(runs))
    typer.echo(f"Raw results: {measured.results_file}")
    typer.echo(f"Verdict: {measured.verdict_file}")
    if not can_draw():
        typer.echo('The page with figures takes the extra "report": draw it elsewhere with `pneumo-edge report`.')
    for path in measured.reports:
        typer.echo(f"Report: {path}")


def _print_warnings(report: Report) -> None:
    console = _console()
    for title, text in report.warnings:
        console.print(f"WARNING: {title}", style="bold red", markup=False, highlight=False)
        console.print(text, style="red", markup=False, highlight=False)


def _print_claims(claims: Table) -> None:
    from rich.text import Text

    console = _console()
    for claim, outcome, file_format, engine, evidence in claims.rows:
        where = f"{file_format}, {engine}"
        console.print(Text(f"{str(outcome).upper()}: {claim} ({where}): {evidence}"), soft_wrap=True)


def print_table(table: Table) -> None:
    """Print a table in full, or shortened if the terminal is too narrow."""
    console = _console()
    in_full = _lay_out(table)
    has_room = console.measure(in_full, options=console.options.update(width=_PIPE_WIDTH)).maximum <= console.width
    console.print(in_full if has_room else _lay_out_narrowly(table))


def _console() -> Console:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_WIDTH)


def _lay_out(table: Table) -> RichTable:
    return _rich_table(table.columns, table.labels, ([str(cell) for cell in row] for row in table.rows))


def _lay_out_narrowly(table: Table) -> RichTable:
    """Words in one column, numbers without their intervals."""
    rows = (
        [f"{row[0]}\n{', '.join(map(str, row[1 : table.labels]))}", *(cell.text for cell in row[table.labels :])]
        for row in table.rows
    )
    headings = (_SHORT.get(column, column) for column in (table.columns[0], *table.columns[table.labels :]))
    return _rich_table(headings, 1, rows)


def _rich_table(columns: Iterable[str], labels: int, rows: Iterable[Sequence[str]]) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    laid_out = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, column in enumerate(columns):
        laid_out.add_column(column, justify="left" if index < labels else "right", no_wrap=index < labels)
    for row in rows:
        laid_out.add_row(*map(Text, row))
    return laid_out
