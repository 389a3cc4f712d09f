"""The report on a benchmark: one content, as Markdown and as a self-contained HTML page with figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import content, html, markdown
from benchmarks.summary import Summary
from pneumo_edge import files


@dataclass(frozen=True)
class Paths:
    """The two files of a report."""

    html: Path
    markdown: Path


def write(summary: Summary, folder: Path) -> Paths:
    """Write ``report.html`` and ``report.md``, each whole or not at all.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
        OSError: The folder cannot be written.
    """
    report = content.compose(summary)
    paths = Paths(folder / "report.html", folder / "report.md")
    files.write_text(paths.html, html.render(report, summary))
    files.write_text(paths.markdown, markdown.render(report))
    return paths
