"""The report as Markdown, for a README or a pull request."""

from __future__ import annotations

from benchmarks.report.content import Report, Section, Table


def render(report: Report) -> str:
    """Write the report as GitHub-flavoured Markdown; its figures are in the HTML page only."""
    parts = [f"# {report.title}", report.lead]
    for title, text in report.warnings:
        parts.append(f"> [!WARNING]\n> **{title}** {text}")
    parts.append("\n".join(f"- **{name}:** {value}" for name, value in report.facts))
    for section in report.sections:
        parts += _section(section)
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> list[str]:
    parts = [f"## {section.title}", *section.paragraphs]
    if section.table:
        parts.append(table(section.table))
    parts += section.notes
    if section.bullets:
        parts.append("\n".join(f"- {bullet}" for bullet in section.bullets))
    if section.code:
        parts.append(f"```sh\n{section.code}\n```")
    return parts


def table(content: Table) -> str:
    """Write a table; a bar in a cell is escaped."""
    rules = [":--" if index < content.labels else "--:" for index in range(len(content.columns))]
    rows = [list(content.columns), rules, *([str(cell) for cell in row] for row in content.rows)]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows)
