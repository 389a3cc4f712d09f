"""Compares the time of a quantized file with that of its float file, and says what the delegate explains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pneumo_edge.benchmarks.summary import Row, Summary
from pneumo_edge.formats import FLOAT32

#: A file that takes more than this many times as long as its float file gets a warning: users quantize for speed.
SLOW = 1.25


@dataclass(frozen=True)
class Delegated:
    """The operators that went to a delegate; ``operators`` and ``inside`` are None where they were not recorded."""

    to: str
    pieces: int
    operators: int | None
    inside: int | None

    @property
    def share(self) -> float | None:
        """Share of the file's operators that went to the delegate; None where it is not known."""
        if self.pieces == 0:
            return 0.0
        return None if not self.operators or self.inside is None else self.inside / self.operators

    @property
    def briefly(self) -> str:
        """The number of operators that went to the delegate, for a narrow column."""
        return f"{self.inside} of {self.operators} ops" if self.pieces else "no operator"

    def __str__(self) -> str:
        if self.pieces == 0:
            return "no operator"
        pieces = f" in {self.pieces} pieces" if self.pieces > 1 else ""
        return f"{self.inside} of {self.operators} operators{pieces}"


@dataclass(frozen=True)
class FloatComparison:
    """A unit compared with the float file of its backbone, on the same engine and threads.

    Attributes:
        row: The unit.
        reference: The float file's unit.
        times: How many times as long the unit takes: the ratio of the medians of wall time of inference.
        why: For a slower unit, the operators that the delegate did not take; "" for one that is not slower, or whose
            delegation is the same as that of the float file.
        briefly: The same in a few words.
    """

    row: Row
    reference: Row
    times: float
    why: str
    briefly: str

    @property
    def slow(self) -> bool:
        """Whether it is slower than a user expects of a quantized file."""
        return self.times > SLOW

    @property
    def warning(self) -> str:
        """A warning about a slow unit, to follow its name; "" for a unit that is not slow."""
        if not self.slow:
            return ""
        because = f": {self.why}" if self.why else ""
        return f"it takes {self.times:.1f} times as long as {self.reference.model.file} on this engine{because}"


def compare_with_float(summary: Summary) -> dict[int, FloatComparison]:
    """Every unit of another format whose float file was measured, too, by the ``id`` of its row."""
    return {id(each.row): each for each in _each(summary)}


def float_baseline(row: Row, summary: Summary) -> Row | None:
    """The fp32 unit of the same backbone, on the same engine and threads; None where there is none."""
    unit = row.result.unit
    wanted = (row.model.backbone, FLOAT32, unit.engine, unit.threads)
    found = (
        other
        for other in summary.rows
        if (other.model.backbone, other.model.format, other.result.unit.engine, other.result.unit.threads) == wanted
    )
    return next(found, None)


def _each(summary: Summary) -> Iterator[FloatComparison]:
    for row in summary.rows:
        reference = float_baseline(row, summary)
        if reference is None or row.model.format == FLOAT32:
            continue
        times = row.inference.median_ms / reference.inference.median_ms
        yield FloatComparison(row, reference, times, *(_why(summary, row, reference) if times > SLOW else ("", "")))


def _why(summary: Summary, row: Row, reference: Row) -> tuple[str, str]:
    """The explanation in full, and in a few words."""
    own, other = (_delegated(summary, each) for each in (row, reference))
    if other.pieces == 0:
        return "", ""
    if own.share is None or other.share is None:
        # The number of pieces does not say how much is in them.
        return (
            f"the number of its operators that {other.to} took was not recorded; measure it with `pneumo-edge "
            "supplement --measure operators`",
            "not recorded",
        )
    if own.share >= other.share and own.pieces <= other.pieces:
        return "", ""
    return f"{other.to} took {own}, against {other} of {reference.model.file}", own.briefly


def _delegated(summary: Summary, row: Row) -> Delegated:
    """As the benchmark recorded it, or else the supplement."""
    result = row.result
    operators, inside = result.operators, result.delegated
    graphs = summary.results.supplement.graphs if summary.results.supplement else ()
    graph = next((each for each in graphs if each.model == result.unit.model), None)
    if inside is None and graph is not None:
        operators, inside = sum(graph.graph.operators.values()), graph.delegated.get(result.unit.engine)
    return Delegated(result.delegate, result.partitions, operators, inside)
