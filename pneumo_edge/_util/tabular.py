"""Rows of CSV files that people open in a spreadsheet: text stays text there.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, and a file name may begin so.
Such a cell gets an apostrophe in front, and so does one that begins with an apostrophe: to have the text back, take one
apostrophe off every text cell that begins with one (:func:`recover`). Numbers are left alone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from pneumo_edge._util.records import encodable

_GUARD = "'"
#: What begins a formula, some only after an import that trims; the last are the first four in full width.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
#: Elsewhere these separate cells or lines, so text that holds one is quoted.
_OTHER_SEPARATORS = (";", "\t", "\r", "\n")


def cell(value: object) -> object:
    """A value as a cell: text that is no formula and that every reader of UTF-8 takes, all else as it is."""
    if not isinstance(value, str):
        return value
    text = encodable(value)
    return f"{_GUARD}{text}" if text.startswith((*_FORMULA, _GUARD)) else text


def recover(text: str) -> str:
    """The text of a cell as it was before :func:`cell`, but for bytes that are not UTF-8."""
    return text.removeprefix(_GUARD)


def row(values: Iterable[object], end: str = "\n") -> str:
    """A line of CSV (RFC 4180).

    Args:
        values: Its cells; None is an empty one.
        end: What ends the line.
    """
    cells = [cell(value) for value in values]
    elsewhere = any(isinstance(each, str) and any(mark in each for mark in _OTHER_SEPARATORS) for each in cells)
    line = io.StringIO()
    csv.writer(line, lineterminator=end, quoting=csv.QUOTE_NONNUMERIC if elsewhere else csv.QUOTE_MINIMAL).writerow(
        cells
    )
    return line.getvalue()
