"""What verbs show on a terminal: tables that fit its width, and colours that say good, bad or open."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import typer

from pneumo_edge.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

    from pneumo_edge._util.document import Cell, Table, Tone

#: Colours by tone, in the words of both rich and click.
COLOURS: dict[Tone, str] = {"good": "green", "bad": "red", "open": "yellow", "": ""}
#: Wide enough for any table, where neither a terminal nor COLUMNS sets a limit.
_PIPE_WIDTH = 250
#: Headings for a narrow terminal.
_SHORT = {
    "Accuracy": "Acc.",
    "Sensitivity": "Sens.",
    "Specificity": "Spec.",
    "Inference ms": "Infer ms",
    "End to end ms": "Total ms",
    "Peak memory MiB": "Peak MiB",
}


def has_colours(*, error: bool = False) -> bool:
    """Whether standard output, or error, is a terminal whose user takes colours (NO_COLOR is not set)."""
    stream = sys.stderr if error else sys.stdout
    return bool(stream and stream.isatty() and not os.environ.get("NO_COLOR"))


def show(text: str, tone: Tone = "", *, bold: bool = False, error: bool = False) -> None:
    """Print a line; where the terminal has colours, in that of the tone.

    Names in it may be any text: control characters are escaped.
    """
    text = printable(text)
    coloured = has_colours(error=error) and (tone or bold)
    typer.echo(typer.style(text, fg=COLOURS[tone] or None, bold=bold) if coloured else text, err=error)


def show_table(table: Table, least: Sequence[str] = ()) -> None:
    """Print a table as wide as the terminal allows.

    Where it is too wide, it loses its intervals, then the columns of ``least``, then its columns of words become one.

    Args:
        table: What is shown.
        least: Headings of the columns that a narrow terminal can do without, the first first.
    """
    console = _console()
    for candidate in _candidates(table, least):
        laid_out = _lay_out(candidate)
        if console.measure(laid_out, options=console.options.update(width=_PIPE_WIDTH)).maximum <= console.width:
            break
    # Not by console.print alone, which ends every line of a table with spaces.
    with console.capture() as captured:
        console.print(laid_out)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n"), color=has_colours())


def _console() -> Console:
    from rich.console import Console

    console = Console()
    limited = console.is_terminal or os.environ.get("COLUMNS")
    return console if limited else Console(width=_PIPE_WIDTH)


def _candidates(table: Table, least: Sequence[str]) -> Iterable[Table]:
    """The table, and what is left of it on narrower terminals, the widest first."""
    from dataclasses import replace

    # Names may be any text.
    table = replace(
        table,
        columns=tuple(map(printable, table.columns)),
        rows=tuple(
            tuple(replace(cell, text=printable(cell.text), detail=printable(cell.detail)) for cell in row)
            for row in table.rows
        ),
    )
    yield table
    brief = replace(
        table,
        columns=tuple(_SHORT.get(column, column) for column in table.columns),
        rows=tuple(tuple(replace(cell, detail="") for cell in row) for row in table.rows),
    )
    yield brief
    for number in range(1, len(least) + 1):
        without = [_SHORT.get(column, column) for column in least[:number]]
        kept = [index for index, column in enumerate(brief.columns) if column not in without]
        narrower = replace(
            brief,
            columns=tuple(brief.columns[index] for index in kept),
            rows=tuple(tuple(row[index] for index in kept) for row in brief.rows),
        )
        yield narrower
    last = narrower if least else brief
    yield replace(
        last,
        columns=(last.columns[0], *last.columns[last.labels :]),
        labels=1,
        rows=tuple((_joined(row[: last.labels]), *row[last.labels :]) for row in last.rows),
    )


def _joined(cells: Sequence[Cell]) -> Cell:
    from pneumo_edge._util.document import Cell

    first, *others = cells
    return Cell(f"{first.text}\n{', '.join(cell.text for cell in others)}" if others else first.text)


def _lay_out(table: Table) -> RichTable:
    from rich.table import Table as RichTable
    from rich.text import Text

    laid_out = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, column in enumerate(table.columns):
        has_numbers = any(row[index].value is not None for row in table.rows)
        laid_out.add_column(Text(column), justify="right" if has_numbers else "left", no_wrap=index < table.labels)
    for row in table.rows:
        laid_out.add_row(*(Text(str(cell), style=COLOURS[cell.tone]) for cell in row))
    return laid_out
