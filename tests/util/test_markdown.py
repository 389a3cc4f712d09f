"""Names from files of results may be anything; in a report in Markdown they show as they are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pneumo_edge._util import markdown
from pneumo_edge._util.document import Cell, Code, Folded, Paragraph, Points, Report, Section, Table

_PIECES = [
    "|", "`", "``", "\\", "\n", "\r\n", "<b>", "</details>", "<!--", "&lt;", "&#42;", "*", "_", "~~", "![x](", "[x](",
    "](", "http://evil.example", "//evil.example", ")", "# ", "> ", "- ", "a", " ", "1", "\u2028", "<http://x.y>",
]  # fmt: skip
_SIGNS = "ab|`\\<>&*_~[]()!#\n "
_NAMES = (st.lists(st.sampled_from(_PIECES), min_size=1, max_size=8).map("".join) | st.text(_SIGNS, min_size=1)).filter(
    str.strip
)
_PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def _inline(text: str) -> list[Any]:
    return [child for token in _PARSER.parse(text) if token.type == "inline" for child in token.children or ()]


def _plain(text: str) -> str:
    """Letters and signs of a text without what Markdown takes for code, and without spaces."""
    return "".join(text.replace("`", "").split())


def _report(name: str) -> Report:
    table = Table((name, "b"), 1, ((Cell(name), Cell(name, name)),))
    blocks = (Paragraph(name), Points((name, name)), table, Code(name), Folded(name, (Paragraph(name),)))
    return Report(name, name, ((name, name),), ((name, name),), (Section(name, blocks),))


def _is_shown(tokens: list[Any], name: str) -> bool:
    # A link to a file beside the page is one.
    return "](" in name or _plain("".join(token.content for token in tokens)) == _plain(name)


@given(_NAMES)
def test_a_name_shows_as_it_is_and_leads_nowhere(name: str) -> None:
    tokens = _inline(markdown.escape(name))
    assert _is_shown(tokens, name)
    kinds = {token.type for token in tokens}
    assert kinds <= {"text", "text_special", "code_inline", "link_open", "link_close", "image"}
    for token in tokens:
        assert "evil" not in str(token.attrs.get("href", "")) + str(token.attrs.get("src", ""))


@given(_NAMES)
def test_a_name_in_a_cell_makes_no_other_cell_and_no_other_row(name: str) -> None:
    tokens = _PARSER.parse(markdown.table(Table((name, "b"), 1, ((Cell(name), Cell("c")), (Cell("d"), Cell(name))))))
    cells = [token.children or [] for token in tokens if token.type == "inline"]
    assert len(cells) == 6
    assert all(_is_shown(cell, text) for cell, text in zip(cells, (name, "b", name, "c", "d", name), strict=True))


@given(_NAMES)
def test_a_name_changes_nothing_of_a_reports_structure(name: str) -> None:
    def structure(text: str) -> list[str]:
        return [token.type for token in _PARSER.parse(markdown.render(_report(text))) if token.type != "html_block"]

    assert structure(name) == structure("name")


@pytest.mark.parametrize(
    "text", ["`pneumo-edge info` of 3 files", "![ROC curves](roc.png)", "0.99 [0.98, 1.00], p < 0.001"]
)
def test_what_the_report_itself_says_stays_as_it_is(text: str) -> None:
    assert markdown.escape(text) == text


@given(_NAMES)
def test_a_name_as_code_is_code_alone(name: str) -> None:
    (paragraph,) = [token for token in _PARSER.parse(f"a {markdown.code(name)} b") if token.type == "inline"]
    before, shown, after = paragraph.children or []
    assert (before.content, shown.type, after.content) == ("a ", "code_inline", " b")
    assert shown.content.split() == name.split()


@given(_NAMES)
def test_a_name_as_code_in_a_cell_makes_no_other_cell(name: str) -> None:
    tokens = _PARSER.parse(f"| a | b |\n| --- | --- |\n| {markdown.code(name, in_table=True)} | c |\n")
    cells = [token.children or [] for token in tokens if token.type == "inline"]
    assert [len(cell) for cell in cells] == [1, 1, 1, 1]
    assert cells[2][0].content.split() == name.split()
