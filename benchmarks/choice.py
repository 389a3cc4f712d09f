"""Which of the measured files fits a device's budget, or which limit rules each one out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.summary import Row, Summary
from benchmarks.verdict import gate_failure


@dataclass(frozen=True)
class Limits:
    """A device's budget; None is no limit.

    Attributes:
        latency_ms: Most milliseconds from file to verdict that nine of ten calls may take (wall time).
        size_bytes: Most bytes of the file.
        memory_bytes: Most bytes of peak memory over a process's imports.
        sensitivity: Least sensitivity on the test images, at the file's own threshold, 0 to 1.
        specificity: Least specificity, as ``sensitivity``.
    """

    latency_ms: float | None = None
    size_bytes: float | None = None
    memory_bytes: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None


@dataclass(frozen=True)
class Choice:
    """The unit that fits with the highest AUC, the faster of two alike; the others that fit; and why the rest do not.

    ``best`` is None where none fits.
    """

    best: Row | None
    others: tuple[Row, ...]
    ruled_out: tuple[tuple[Row, tuple[str, ...]], ...]


def choose(summary: Summary, limits: Limits) -> Choice:
    """Hold every measured unit against the limits, by what was measured rather than by the ends of intervals."""
    reasons = [(row, tuple(_reasons(row, summary, limits))) for row in summary.rows]
    fitting = sorted(
        (row for row, why in reasons if not why), key=lambda row: (-row.accuracy.auc.value, row.inference.median_ms)
    )
    return Choice(fitting[0] if fitting else None, tuple(fitting[1:]), tuple((row, why) for row, why in reasons if why))


def _reasons(row: Row, summary: Summary, limits: Limits) -> Iterator[str]:
    confusion = row.accuracy.confusion
    if limits.latency_ms is not None:
        if row.file_to_verdict.p90_ms > limits.latency_ms:
            yield f"file to verdict takes {row.file_to_verdict.p90_ms:.2f} ms (p90), over {limits.latency_ms:g} ms"
        if row.shortfalls:
            yield f"its time is not known well enough ({', '.join(row.shortfalls)})"
    for what, value, most in (
        ("the file has", row.model.size_bytes, limits.size_bytes),
        ("its peak memory is", row.peak_bytes, limits.memory_bytes),
    ):
        if most is not None and value > most:
            yield f"{what} {value / 1e6:.2f} MB, over {most / 1e6:.2f} MB"
    for what, share, least in (
        ("sensitivity", confusion.sensitivity, limits.sensitivity),
        ("specificity", confusion.specificity, limits.specificity),
    ):
        if least is not None and share.value < least:
            yield f"its {what} is {share}, under {least:g}"
    if failure := gate_failure(row, summary.rows):
        yield failure
