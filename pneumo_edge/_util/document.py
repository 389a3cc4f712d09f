"""What a report is made of, before it is Markdown or HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

#: Narrow figures put their panels below each other, for a phone.
Layout = Literal["wide", "narrow"]
LAYOUTS: tuple[Layout, ...] = ("wide", "narrow")
#: How a cell looks: as good news, bad news, or neither.
Tone = Literal["", "good", "bad", "open"]


@dataclass(frozen=True)
class Cell:
    """A table cell: its text, and a lesser remark such as its interval.

    A column is sorted by ``value``, in full precision, or by the text where that is None.
    """

    text: str
    detail: str = ""
    value: float | None = None
    tone: Tone = ""

    def __str__(self) -> str:
        return f"{self.text} {self.detail}".strip()


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; what stands between backticks is code. A minor one explains what stands before it."""

    kind: ClassVar[str] = "paragraph"
    text: str
    minor: bool = False


@dataclass(frozen=True)
class Points:
    """A list of sentences; what stands between backticks is code."""

    kind: ClassVar[str] = "points"
    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table; the first ``labels`` columns are words, the others numbers.

    Rows that have the same in column ``group`` belong together.
    """

    kind: ClassVar[str] = "table"
    columns: tuple[str, ...]
    labels: int
    rows: tuple[tuple[Cell, ...], ...]
    group: int | None = None


@dataclass(frozen=True)
class Figure:
    """A figure, which is in the HTML page only: what draws it as SVG, and what it shows."""

    kind: ClassVar[str] = "figure"
    draw: Callable[[Layout], str]
    caption: str


@dataclass(frozen=True)
class Code:
    """A command, or several."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Folded:
    """What is shown when a reader asks for it."""

    kind: ClassVar[str] = "folded"
    title: str
    blocks: tuple[Block, ...]


Block = Paragraph | Points | Table | Figure | Code | Folded


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """The whole report.

    Attributes:
        title: What it is about.
        lead: The first sentences.
        facts: Names and values, to be shown in brief.
        warnings: Titles and texts, to be shown before anything else.
        sections: The parts.
        top: What is shown at once, before the sections.
    """

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    top: tuple[Block, ...] = ()


def count(number: int, noun: str, plural: str = "s") -> str:
    """A number with its noun, in the plural where it is one."""
    return f"{number} {noun}{plural * (number != 1)}"
