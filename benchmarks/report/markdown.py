"""A report as Markdown, for a README or a pull request."""

from __future__ import annotations

from benchmarks.report.content import Block, Code, Figure, Folded, Paragraph, Points, Report, Table


def render(report: Report) -> str:
    """Write the report as GitHub-flavoured Markdown; its figures are in the HTML page only."""
    parts = [f"# {report.title}", report.lead]
    for title, text in report.warnings:
        parts.append(f"> [!WARNING]\n> **{title}** {text}")
    parts.append("\n".join(f"- **{name}:** {value}" for name, value in report.facts))
    for section in report.sections:
        parts += [f"## {section.title}", *_blocks(section.blocks)]
    return "\n\n".join(parts) + "\n"


def _blocks(blocks: tuple[Block, ...]) -> list[str]:
    parts: list[str] = []
    for block in blocks:
        match block:
            case Paragraph(text=text):
                parts.append(text)
            case Points(items=items) if items:
                parts.append("\n".join(f"- {item}" for item in items))
            case Table():
                parts.append(table(block))
            case Code(text=text):
                parts.append(f"```sh\n{text}\n```")
            case Folded(title=title, blocks=inside):
                parts += [f"<details>\n<summary>{title}</summary>", *_blocks(inside), "</details>"]
            case Figure() | Points():
                pass
    return parts


def table(content: Table) -> str:
    """Write a table; a bar in a cell is escaped."""
    rules = [":--" if index < content.labels else "--:" for index in range(len(content.columns))]
    rows = [list(content.columns), rules, *([str(cell) for cell in row] for row in content.rows)]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows)
