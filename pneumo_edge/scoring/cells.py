"""Cells of tables that show intervals and claims."""

from __future__ import annotations

from pneumo_edge._util.document import Cell
from pneumo_edge.evaluation.comparison import p_value
from pneumo_edge.evaluation.metrics import Interval
from pneumo_edge.evaluation.networks import Leaning
from pneumo_edge.evaluation.seeds import OverSeeds


def interval(found: Interval | None, *, signed: bool = False) -> Cell:
    """A value with its interval, in three decimals; with a sign where it is a difference."""
    if found is None:
        return Cell("not defined")
    number = "{:+.3f}" if signed else "{:.3f}"
    value, low, high = (number.format(end) for end in (found.value, found.low, found.high))
    return Cell(value, f"[{low}, {high}]")


def spread(found: OverSeeds | None, *, signed: bool = False) -> Cell:
    """A mean over seeds ± the standard deviation of a single run, with the interval of the mean."""
    if found is None:
        return Cell("not defined")
    cell = interval(found.mean, signed=signed)
    return Cell(f"{cell.text} ± {found.sd:.3f}", cell.detail)


def claim(found: Leaning) -> Cell:
    """The outcome of a claim, with its p-value."""
    return Cell(found.outcome, p_value(found.p))
