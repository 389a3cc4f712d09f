"""Summarises the further measurements of each unit from the raw results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pneumo_edge import formats
from pneumo_edge.benchmarks.protocol import Unit
from pneumo_edge.benchmarks.summary import Ratio, Row, Summary
from pneumo_edge.benchmarks.supplement.records import Limit, ModelGraph, Supplement


@dataclass(frozen=True)
class Achieved:
    """Multiply-adds per second of a unit at its median wall time of inference, and the machine's limit.

    ``limit`` is None where no limit was measured for the unit's arithmetic and number of threads.
    """

    row: Row
    graph: ModelGraph
    multiply_adds_per_s: float
    limit: Limit | None

    @property
    def share(self) -> float | None:
        """Share of the limit."""
        return self.multiply_adds_per_s / self.limit.multiply_adds_per_s if self.limit else None


@dataclass(frozen=True)
class Reason:
    """Why one unit takes longer than another in the same format: ``time`` is ``work`` divided by ``speed``.

    Each is the ratio of the slower to the faster unit: of median wall times, of multiply-adds, and of
    multiply-adds per second.
    """

    slower: Achieved
    faster: Achieved
    time: float
    work: float
    speed: float


def achieved(summary: Summary) -> list[Achieved]:
    """Every unit whose graph is known, in the order of the summary."""
    supplement = summary.results.supplement or Supplement()
    graphs = {graph.model: graph for graph in supplement.graphs}
    found = []
    for row in summary.rows:
        if graph := graphs.get(row.result.unit.model):
            rate = graph.graph.multiply_adds / (row.inference.median_ms / 1e3)
            found.append(Achieved(row, graph, rate, _limit_of(row, supplement)))
    return found


def _limit_of(row: Row, supplement: Supplement) -> Limit | None:
    """The highest limit of the unit's arithmetic, at its number of threads."""
    file_format = formats.find(Path(row.model.file).suffix, row.model.format)
    arithmetic = file_format.arithmetic if file_format else None
    fitting = [
        limit
        for limit in supplement.limits
        if (limit.arithmetic, limit.threads) == (arithmetic, row.result.unit.threads)
    ]
    return max(fitting, key=lambda limit: limit.multiply_adds_per_s, default=None)


def reasons(summary: Summary) -> Iterator[Reason]:
    """The factors of the ratio of times, for each pair of backbones that the summary compares."""
    by_unit = {each.row.result.unit: each for each in achieved(summary)}
    for ratio in summary.ratios:
        pair = _pair(ratio, by_unit)
        if not pair:
            continue
        faster, slower = sorted(pair, key=lambda each: each.row.inference.median_ms)
        yield Reason(
            slower,
            faster,
            slower.row.inference.median_ms / faster.row.inference.median_ms,
            slower.graph.graph.multiply_adds / faster.graph.graph.multiply_adds,
            slower.multiply_adds_per_s / faster.multiply_adds_per_s,
        )


def _pair(ratio: Ratio, by_unit: dict[Unit, Achieved]) -> list[Achieved]:
    units = (ratio.numerator.result.unit, ratio.denominator.result.unit)
    return [by_unit[unit] for unit in units] if all(unit in by_unit for unit in units) else []
