"""Ranks files of any tool by speed: how many times as long each takes as the fastest beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pneumo_edge.benchmarks.summary import CLOCK_TITLES, Ratio, Row, Summary, compare_units


@dataclass(frozen=True)
class Ranking:
    """The units of one engine and number of threads, beside the fastest of them.

    Attributes:
        fastest: The unit with the shortest median inference on the clock that decides.
        slower: For each other unit, how many times as long its inference takes as that of ``fastest``.
    """

    fastest: Row
    slower: tuple[Ratio, ...]


def rank(summary: Summary) -> Iterator[Ranking]:
    """Rank the units of each engine and number of threads, where at least one is of a file without a ModelSpec.

    Files with a ModelSpec alone are compared by the claims (:mod:`pneumo_edge.benchmarks.verdict`).
    """
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in summary.rows:
        groups.setdefault((row.result.unit.engine, row.result.unit.threads), []).append(row)
    for rows in groups.values():
        if len(rows) > 1 and not all(row.model.has_spec for row in rows):
            fastest, *others = sorted(rows, key=_time)
            yield Ranking(fastest, tuple(compare_units(summary.results, row, fastest) for row in others))


def sentence(ratio: Ratio) -> str:
    """A ratio in words, with its interval, its clock, and whether it can be told from none."""
    slower, fastest, found = ratio.numerator, ratio.denominator, ratio.decided
    remarks = ["inference", CLOCK_TITLES[ratio.decides]]
    if short := [*slower.shortfalls, *fastest.shortfalls]:
        remarks.append(f"not timed enough: {short[0]}")
    elif ratio.relation != "more":
        remarks.append("not separable")
    interval = f" [{found.low:.2f}, {found.high:.2f}]" if math.isfinite(found.high) else ""
    return (
        f"{slower.result.unit.name} takes {found.value:.2f}{interval} times as long as {fastest.model.file} "
        f"({', '.join(remarks)})"
    )


def _time(row: Row) -> float:
    return row.inference.median_ms
