"""Writes the report of a benchmark as Markdown, as a self-contained HTML page, or as CSV (numbers only)."""

from __future__ import annotations

from pathlib import Path

from pneumo_edge._util import files, markdown
from pneumo_edge.benchmarks.report import html, spreadsheet
from pneumo_edge.benchmarks.report.compose import compose
from pneumo_edge.benchmarks.report.runs import Runs

#: Suffixes of the files that a report can be written to.
SUFFIXES = (".html", ".md", ".csv")


def write(runs: Runs, path: Path) -> None:
    """Write the report atomically, in the format that the suffix of the path selects.

    Raises:
        ValueError: The suffix is not in :data:`SUFFIXES`.
        MissingExtraError: For HTML: jinja2 or matplotlib is not installed.
        OSError: The file cannot be written.
    """
    if path.suffix == ".html":
        text = html.render(compose(runs))
    elif path.suffix == ".md":
        text = markdown.render(compose(runs))
    elif path.suffix == ".csv":
        text = spreadsheet.render(runs)
    else:
        raise ValueError(f"{path} does not end in {' or '.join(SUFFIXES)}")
    files.write_text(path, text)
