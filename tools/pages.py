"""Writes generated tables into pages of the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pneumo_edge._util import files
from pneumo_edge.errors import ResultsError


def rows(lines: Iterable[Sequence[str]]) -> str:
    """The lines of a Markdown table, heading and rule among them, from cells that are Markdown."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def put_table(page: Path, target: str, text: str) -> None:
    """Replace the text between a page's markers by a table.

    Args:
        page: A Markdown file.
        target: The target of the Makefile that makes the table; the first marker names it.
        text: The table, Markdown.

    Raises:
        ResultsError: The page has no such markers.
        OSError: The page cannot be read or written.
    """
    begin, end = f"<!-- table: made by make {target} -->", "<!-- end of table -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ResultsError(f"{page} has no place for the table", f"the lines {begin} and {end}", "Put them back")
    files.write_text(page, f"{before}{begin}\n\n{text}\n{end}{after}")
