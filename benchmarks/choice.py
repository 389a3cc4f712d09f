"""Chooses the measured file that fits a device's budget, and says which limit excludes each of the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pneumo_edge.benchmarks import sentences
from pneumo_edge.benchmarks.summary import Row, Summary
from pneumo_edge.benchmarks.verdict import missed_gate
from pneumo_edge.evaluation.comparison import paired_auc
from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN, Outcome, settle


@dataclass(frozen=True)
class Limits:
    """A device's budget; None is no limit.

    Attributes:
        latency_ms: Maximum 90th percentile of the end-to-end wall time, in milliseconds.
        size_bytes: Maximum size of the file in bytes.
        memory_bytes: Maximum peak memory above the imports, in bytes.
        sensitivity: Minimum sensitivity on the test images, at the file's own threshold, 0 to 1.
        specificity: Minimum specificity, in the same way.
    """

    latency_ms: float | None = None
    size_bytes: float | None = None
    memory_bytes: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None


@dataclass(frozen=True)
class Choice:
    """The unit to use, the other units that fit, and why the rest do not.

    Attributes:
        best: The fastest of the fitting units whose accuracy is not separable from that of the most accurate one; where
            the accuracy of none is known, the fastest; None where no unit fits.
        others: The other units that fit: first those of equal accuracy in the same sense, by time; then the less
            accurate ones, by AUC; then those of unknown accuracy, by time.
        less_accurate: The units among ``others`` that are less accurate by more than the margin.
        ruled_out: The units that do not fit, each with the limits that it exceeds.
    """

    best: Row | None
    others: tuple[Row, ...]
    less_accurate: tuple[Row, ...]
    ruled_out: tuple[tuple[Row, tuple[str, ...]], ...]


def choose(summary: Summary, limits: Limits) -> Choice:
    """Check every measured unit against the limits. The measured values count, not the ends of their intervals.

    Two units differ in accuracy by the rule of the claim "as accurate": the whole paired interval of their difference
    in AUC, by patient, lies beyond the margin (:data:`~pneumo_edge.evaluation.outcomes.ACCURACY_MARGIN`). So the same
    file with the same answers on two engines never differs.
    """
    reasons = [(row, tuple(_reasons(row, summary, limits))) for row in summary.rows]
    fitting = [row for row, why in reasons if not why]
    known = [row for row in fitting if row.accuracy]
    most_accurate = max(known, key=_auc, default=None)
    less = [row for row in known if most_accurate and _is_less_accurate(row, most_accurate, summary)]
    alike = _by_time([row for row in known if not any(row is each for each in less)])
    less.sort(key=lambda row: (-_auc(row), waiting_ms(row)))
    best, *others = (*alike, *less, *_by_time([row for row in fitting if not row.accuracy])) or (None,)
    return Choice(
        best,
        tuple(row for row in others if row),
        tuple(less),
        tuple((row, why) for row, why in reasons if why),
    )


def _by_time(rows: Sequence[Row]) -> list[Row]:
    """The fastest first: by what a user waits for, or by inference where only that is known of one of them."""
    whole = all(row.file_to_verdict for row in rows)
    return sorted(rows, key=waiting_ms if whole else lambda row: row.inference.median_ms)


def waiting_ms(row: Row) -> float:
    """The median of the end-to-end wall time, which is what a user waits for; of inference where only that is known."""
    return (row.file_to_verdict or row.inference).median_ms


def _auc(row: Row) -> float:
    return row.accuracy.auc.value if row.accuracy else np.nan


def as_accurate(row: Row, other: Row, summary: Summary) -> Outcome:
    """Whether a unit is as accurate as another, by the rule of the claim of this name, for any number of images."""
    difference = paired_auc(summary.labels, summary.scores(row), summary.scores(other), summary.patients)
    return settle(difference, -ACCURACY_MARGIN)


def _is_less_accurate(row: Row, other: Row, summary: Summary) -> bool:
    return as_accurate(row, other, summary) == "refuted"


def _reasons(row: Row, summary: Summary, limits: Limits) -> Iterator[str]:
    if limits.latency_ms is not None:
        timed = row.file_to_verdict or row.inference
        if timed.p90_ms > limits.latency_ms:
            what = "end to end it takes" if row.file_to_verdict else "inference alone takes"
            yield f"{what} {timed.p90_ms:.2f} ms (p90), over {limits.latency_ms:g} ms"
        if row.shortfalls:
            yield f"its time was not measured well enough ({', '.join(row.shortfalls)})"
    for what, value, most in (
        ("size", row.model.size_bytes, limits.size_bytes),
        ("peak memory", row.peak_bytes, limits.memory_bytes),
    ):
        if most is not None and value is None:
            yield f"its {what} was not measured, and at most {most / 1e6:.2f} MB are required"
        elif most is not None and value is not None and value > most:
            yield f"its {what} is {value / 1e6:.2f} MB, over {most / 1e6:.2f} MB"
    # Of more than two classes it is the mean over them.
    mean = "mean " if row.model.threshold is None else ""
    confusion = row.accuracy.confusion if row.accuracy else None
    for what, share, least in (
        ("sensitivity", confusion.sensitivity if confusion else None, limits.sensitivity),
        ("specificity", confusion.specificity if confusion else None, limits.specificity),
    ):
        if least is not None and share is None:
            yield f"its {what} was not measured, and {least:g} is required"
        elif least is not None and share is not None and share.value < least:
            yield f"its {mean}{what} is {share}, under {least:g}"
    if missed := missed_gate(row, summary):
        yield f"it {sentences.missed_gate(missed)}"
    if row.accuracy and row.accuracy.auc.value <= 0.5:
        yield f"its AUC is {row.accuracy.auc}, not better than chance"
