"""A report as Markdown, for a README or a pull request.

Texts quote names from files of results, which may be anything. Of a text, only code between backticks and links to
files beside the page are Markdown; everything else stands there as it is.
"""

from __future__ import annotations

import html
import re

from pneumo_edge._util.document import Block, Code, Figure, Folded, Paragraph, Points, Report, Table

_CODE = re.compile(r"(`[^`]+`)")
#: What would be Markdown outside of code: a link only where it leads to another machine, and a heading, a list or a
#: quotation only at the beginning of a text.
_SPECIAL = re.compile(
    r"[\\`*]|(?<!\w)_|_(?!\w)|~(?=~)|\](?=\(\s*(?:[a-z][a-z0-9+.-]*:|//))|^(?=>|[#+-]+(?:\s|$))", re.IGNORECASE
)
_NUMBERED = re.compile(r"^(\d+)(?=[.)](?:\s|$))")
#: What would be HTML: an ampersand only before the rest of a character reference.
_HTML = re.compile(r"<(?=[a-z/!?])|&(?=#?\w+;)", re.IGNORECASE)
_REFERENCES = {"<": "&lt;", "&": "&amp;"}


def render(report: Report) -> str:
    """Write the report as GitHub-flavoured Markdown; its figures are in the HTML page only."""
    parts = [f"# {escape(report.title)}", escape(report.lead)]
    for title, text in report.warnings:
        parts.append(f"> [!WARNING]\n> **{escape(title)}** {escape(text)}")
    if report.facts:
        parts.append("\n".join(f"- **{escape(name)}:** {escape(value)}" for name, value in report.facts))
    parts += _blocks(report.top)
    for section in report.sections:
        parts += [f"## {escape(section.title)}", *_blocks(section.blocks)]
    return "\n\n".join(parts) + "\n"


def _blocks(blocks: tuple[Block, ...]) -> list[str]:
    parts: list[str] = []
    for block in blocks:
        match block:
            case Paragraph(text=text):
                parts.append(escape(text))
            case Points(items=items) if items:
                parts.append("\n".join(f"- {escape(item)}" for item in items))
            case Table():
                parts.append(table(block))
            case Code(text=text):
                # A fence ends at one that is as long.
                fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
                parts.append(f"{fence}sh\n{text}\n{fence}")
            case Folded(title=title, blocks=inside):
                parts += [
                    f"<details>\n<summary>{html.escape(_one_line(title), quote=False)}</summary>",
                    *_blocks(inside),
                    "</details>",
                ]
            case Figure() | Points():
                pass
    return parts


def table(content: Table) -> str:
    """Write a table; a bar in a cell is escaped."""
    rules = [":--" if index < content.labels else "--:" for index in range(len(content.columns))]
    rows = [
        [_cell(name) for name in content.columns],
        rules,
        *([_cell(str(cell)) for cell in row] for row in content.rows),
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(text: str) -> str:
    return escape(text).replace("|", "\\|")


def escape(text: str) -> str:
    """Write a text on one line, so that it shows as it is but for code and links to files beside the page."""
    parts = _CODE.split(_one_line(text))
    return "".join(part if _CODE.fullmatch(part) else _escape(part, not before) for before, part in enumerate(parts))


def code(text: str, in_table: bool = False) -> str:
    """Write a name as code, on one line, with its signs as they are; a bar in a table is escaped."""
    shown = _one_line(text)
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    # Markdown takes a space off each end, where a sign of the fence may not stand.
    space = " " if "`" in shown else ""
    found = f"{fence}{space}{shown}{space}{fence}" if shown else ""
    return found.replace("|", "\\|") if in_table else found


def _escape(text: str, is_first: bool) -> str:
    # Only at its beginning is a text taken for a heading, a list or a quotation.
    escaped = _SPECIAL.sub(lambda found: f"\\{found[0]}" if found[0] or is_first else "", text)
    escaped = _NUMBERED.sub(r"\1\\", escaped) if is_first else escaped
    return _HTML.sub(lambda found: _REFERENCES[found[0]], escaped)


def _one_line(text: str) -> str:
    return " ".join(re.split(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+", text)).strip()
