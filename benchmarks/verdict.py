"""What the results settle: claims about the backbones, each with its evidence, and the files that none other beats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from pneumo_edge.benchmarks import claims as claims_asked
from pneumo_edge.benchmarks import statistics
from pneumo_edge.benchmarks.claims import AskedClaim, Property
from pneumo_edge.benchmarks.float_baseline import float_baseline
from pneumo_edge.benchmarks.summary import CLOCK_TITLES, Clock, Ratio, Row, Summary, deciding_clock
from pneumo_edge.evaluation.bootstrap import Predictions, bootstrap_difference
from pneumo_edge.evaluation.comparison import compare_auc, mcnemar
from pneumo_edge.evaluation.evidence import Outcome, settle
from pneumo_edge.evaluation.metrics import Interval
from pneumo_edge.formats import FLOAT32

#: MLPerf's closed division asks for this share of the float model's quality.
GATE_SHARE = 0.99
#: What a claim depends on: two files alone, the engine besides, or the number of threads, too.
_SCOPES: dict[Property, Literal["file", "engine", "unit"]] = {
    "faster": "unit",
    "smaller": "file",
    "lighter in memory": "unit",
    "as accurate": "engine",
    "faster and as accurate": "unit",
    "keeps more AUC when quantized": "engine",
}
_SEED = 0


@dataclass(frozen=True)
class Claim:
    """A claim that ``subject`` has a property beside ``other``; both are model files, each of one training.

    ``engine`` is "" and ``threads`` 0 where the claim does not depend on them. ``effect`` is what the claim is about:
    how many times as fast, large or heavy the subject is; or the difference in AUC, or in its loss, in favour of the
    subject where it is positive. None where the claim is made of two others. ``by_clock`` holds how many times as fast
    the subject is on each clock, where the claim is about time. ``ineligible`` names the files of the two that miss
    their accuracy gate, with the reason: whatever the outcome, those are not to be taken.
    """

    subject: Row
    other: Row
    property: Property
    engine: str
    threads: int
    outcome: Outcome
    evidence: str
    effect: float | None
    by_clock: dict[Clock, float] = field(default_factory=dict)
    ineligible: tuple[tuple[Row, str], ...] = ()


@dataclass(frozen=True)
class _Finding:
    """The outcome of a claim, with its evidence and its effect."""

    outcome: Outcome
    evidence: str
    effect: float | None
    by_clock: dict[Clock, float] = field(default_factory=dict)


@dataclass(frozen=True)
class BenchmarkVerdict:
    """What the results settle.

    Attributes:
        claims: By property, then in the order of the units.
        pareto: Units that no other beats or equals in AUC, time of inference, file size and peak memory
            together and beats in one of them.
        unranked: Units that cannot rank, with the reasons.
    """

    claims: tuple[Claim, ...]
    pareto: tuple[Row, ...]
    unranked: tuple[tuple[Row, str], ...]


def decide(summary: Summary, asked: Sequence[AskedClaim] | None = None) -> BenchmarkVerdict:
    """Decide every claim that is asked, of all files that the results hold of its two backbones.

    Args:
        summary: The results in numbers.
        asked: The claims; by default those of :data:`pneumo_edge.benchmarks.claims.CLAIMS`.
    """
    decision = _Decision(summary, claims_asked.CLAIMS if asked is None else asked)
    claims = [claim for ratio in summary.ratios for claim in decision.claims(ratio)]
    order: list[Property] = []
    for claim in claims:
        if claim.property not in order:
            order.append(claim.property)
    unranked = [(row, why) for row in summary.rows if (why := decision.why_unranked(row))]
    out = [id(row) for row, _ in unranked]
    return BenchmarkVerdict(
        tuple(_distinct(sorted(claims, key=lambda claim: order.index(claim.property)))),
        pareto([row for row in summary.rows if id(row) not in out]),
        tuple(unranked),
    )


def pareto(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows that no other dominates in AUC, time of inference, size and memory, by their point estimates."""
    costs = [(-row.accuracy.auc.value, row.inference.median_ms, row.model.size_bytes, row.peak_bytes) for row in rows]
    return tuple(rows[index] for index in non_dominated(costs))


def non_dominated(costs: Sequence[tuple[float, ...]]) -> list[int]:
    """Indices of those than which no other is at most as costly in everything, and less in something."""
    return [
        index
        for index, cost in enumerate(costs)
        if not any(other != cost and all(a <= b for a, b in zip(other, cost, strict=True)) for other in costs)
    ]


def gate_failure(row: Row, summary: Summary) -> str:
    """Why a file fails its accuracy gate; "" where it passes, or where no float file is there to hold it against.

    A file must keep :data:`GATE_SHARE` of the AUC of its backbone's fp32 file on the same images, on the same
    engine where that was measured. That is a bound on what was measured here, not a claim: it holds for few images as
    for many.
    """
    references = [
        other for other in summary.rows if (other.model.backbone, other.model.format) == (row.model.backbone, FLOAT32)
    ]
    if not references:
        return ""
    reference = min(references, key=lambda other: other.result.unit.engine != row.result.unit.engine)
    if row.accuracy.auc.value >= GATE_SHARE * reference.accuracy.auc.value:
        return ""
    share = row.accuracy.auc.value / reference.accuracy.auc.value
    few = f" ({summary.shortage})" if summary.shortage else ""
    return (
        f"it misses its accuracy gate: AUC {row.accuracy.auc.value:.3f} is {share:.1%} of the "
        f"{reference.accuracy.auc.value:.3f} of {reference.model.file}, less than {GATE_SHARE:.0%}{few}"
    )


class _Decision:
    def __init__(self, summary: Summary, asked: Sequence[AskedClaim]) -> None:
        self._summary, self._asked = summary, asked
        self._labels, self._patients = summary.labels, summary.patients
        self._shortage = summary.shortage
        self._accuracy: dict[tuple[str, str, str, float], _Finding] = {}

    def claims(self, ratio: Ratio) -> Iterator[Claim]:
        """The claims that are asked of two units that differ in their backbone alone."""
        for subject, other, inverted in (
            (ratio.numerator, ratio.denominator, True),
            (ratio.denominator, ratio.numerator, False),
        ):
            for asked in self._asked:
                if asked.is_of(subject.model.backbone, other.model.backbone) and (
                    found := self._finding(asked, subject, other, ratio, inverted=inverted)
                ):
                    yield self._claim(asked.property, subject, other, found)

    def _claim(self, name: Property, subject: Row, other: Row, found: _Finding) -> Claim:
        unit, scope = subject.result.unit, _SCOPES[name]
        # What a file lost by its format does not speak for or against how much it kept of it.
        of_accuracy = name in ("as accurate", "keeps more AUC when quantized")
        rows = () if of_accuracy else (subject, other)
        return Claim(
            subject,
            other,
            name,
            "" if scope == "file" else unit.engine,
            unit.threads if scope == "unit" else 0,
            found.outcome,
            found.evidence,
            found.effect,
            found.by_clock,
            tuple((row, why) for row in rows if (why := self._gate_failure(row))),
        )

    def _finding(self, asked: AskedClaim, subject: Row, other: Row, ratio: Ratio, *, inverted: bool) -> _Finding | None:
        """What the evidence says of a claim; None where the results cannot speak to it."""
        match asked.property:
            case "faster":
                return self._faster(subject, other, ratio, asked.margin, inverted=inverted)
            case "smaller":
                return self._smaller(subject, other, asked.margin)
            case "lighter in memory":
                return self._lighter(subject, other, asked.margin)
        if not self._summary.accuracy_counts:
            return None
        match asked.property:
            case "as accurate":
                return self._as_accurate(subject, other, asked.margin)
            case "faster and as accurate":
                speed = self._faster(subject, other, ratio, statistics.LEAST_DIFFERENCE, inverted=inverted)
                accuracy = self._as_accurate(subject, other, asked.margin)
                return _Finding(_both(speed.outcome, accuracy.outcome), "both of the claims above", None)
            case "keeps more AUC when quantized":
                return self._keeps_more(subject, other, asked.margin)

    def why_unranked(self, row: Row) -> str:
        """Why a unit cannot rank; "" where it can."""
        return "; ".join(filter(None, [_too_little(row), self._gate_failure(row)]))

    def _gate_failure(self, row: Row) -> str:
        return gate_failure(row, self._summary) if self._summary.accuracy_counts else ""

    def _faster(self, subject: Row, other: Row, ratio: Ratio, margin: float, *, inverted: bool) -> _Finding:
        threads = subject.result.unit.threads
        by_clock: dict[Clock, Interval] = {"cpu": ratio.inference, "wall": ratio.wall_inference}
        if inverted:
            by_clock = {clock: _inverted(found) for clock, found in by_clock.items()}
        decides = deciding_clock(threads)
        found, (beside,) = by_clock[decides], [clock for clock in by_clock if clock != decides]
        evidence = (
            f"{found.value:.2f} times as fast {_brackets(found)} in {CLOCK_TITLES[decides]} "
            f"({by_clock[beside].value:.2f} {_brackets(by_clock[beside])} in {CLOCK_TITLES[beside]}), "
            f"{len(subject.result.latency)} processes; {_band(ratio)}"
        )
        band = max(margin, ratio.band)
        outcome = settle(found, 1 + band, 1 / (1 + band))
        winner = {"supported": subject, "refuted": other}.get(outcome)
        if winner and (why := _too_little(winner)):
            outcome, evidence = "not separable", f"{evidence}; but {winner.model.file} cannot win: {why}"
        return _Finding(outcome, evidence, found.value, {clock: each.value for clock, each in by_clock.items()})

    def _smaller(self, subject: Row, other: Row, margin: float) -> _Finding:
        # Bytes are counted, not estimated: files of one size are settled, too.
        one, two = subject.model.size_bytes, other.model.size_bytes
        evidence = f"{one / 2**20:.2f} against {two / 2**20:.2f} MiB, {one / two:.2f} times"
        return _Finding("supported" if one * (1 + margin) < two else "refuted", evidence, one / two)

    def _lighter(self, subject: Row, other: Row, margin: float) -> _Finding:
        if min(*subject.memory_bytes, *other.memory_bytes) <= 0:
            return _Finding("not separable", "a process's imports took more memory than its model", None)
        # Turned round, so that more speaks for the claim, as everywhere.
        ratio = statistics.unpaired_ratio(other.memory_bytes, subject.memory_bytes)
        heavier = _inverted(ratio)
        evidence = (
            f"{subject.peak_bytes / 2**20:.1f} against {other.peak_bytes / 2**20:.1f} MiB over the imports, "
            f"{heavier.value:.2f} times {_brackets(heavier)}, {len(subject.memory_bytes)} processes each"
        )
        return _Finding(settle(ratio, 1 + margin, 1 / (1 + margin)), evidence, heavier.value)

    def _as_accurate(self, subject: Row, other: Row, margin: float) -> _Finding:
        key = (subject.model.file, other.model.file, subject.result.unit.engine, margin)
        if key not in self._accuracy:
            self._accuracy[key] = self._compare_accuracy(subject, other, margin)
        return self._accuracy[key]

    def _compare_accuracy(self, subject: Row, other: Row, margin: float) -> _Finding:
        one, two = self._judged(subject), self._judged(other)
        found = bootstrap_difference(self._labels, one, two, self._patients, statistics=("auc", "accuracy"), seed=_SEED)
        auc = found["auc"]
        delong = compare_auc(self._labels, one.scores, two.scores)
        right = [(each.scores >= each.threshold) == (self._labels == 1) for each in (one, two)]
        test = mcnemar(right[0], right[1])
        evidence = (
            f"AUC {_signed(auc)} (bootstrap by patient; DeLong {_p(delong.p)}), accuracy {_signed(found['accuracy'])} "
            f"(McNemar {_p(test.p)}: {test.only_first_right} images right in it alone, {test.only_second_right} in "
            f"the other); margin {margin:g} of AUC"
        )
        return self._settled(auc, -margin, evidence, auc.value)

    def _keeps_more(self, subject: Row, other: Row, margin: float) -> _Finding | None:
        """Whether the subject's AUC loses less from float to its format than the other's does."""
        if subject.model.format == FLOAT32:
            return None
        floats = [float_baseline(row, self._summary) for row in (subject, other)]
        if floats[0] is None or floats[1] is None:
            return None
        scores = self._summary.scores
        losses = [
            statistics.auc_contrast(self._labels, [(1, scores(whole)), (-1, scores(row))])
            for whole, row in ((floats[0], subject), (floats[1], other))
        ]
        weights = zip((-1, 1, 1, -1), (floats[0], subject, floats[1], other), strict=True)
        kept = statistics.auc_contrast(self._labels, [(weight, scores(row)) for weight, row in weights])
        evidence = f"AUC lost {_signed(losses[0])} against {_signed(losses[1])}: kept {_signed(kept)} (DeLong, paired)"
        return self._settled(kept, margin, evidence, kept.value)

    def _settled(self, found: Interval, least: float, evidence: str, effect: float) -> _Finding:
        """The outcome of a claim on accuracy, which takes images enough."""
        if self._shortage:
            return _Finding("not separable", f"{evidence}; {self._shortage}", effect)
        return _Finding(settle(found, least), evidence, effect)

    def _judged(self, row: Row) -> Predictions:
        return Predictions(self._summary.scores(row), row.model.threshold)


def _too_little(row: Row) -> str:
    return f"too little was timed: {', '.join(row.shortfalls)}" if row.shortfalls else ""


def _inverted(ratio: Interval) -> Interval:
    return Interval(1 / ratio.value, 1 / ratio.high, 1 / ratio.low if ratio.low else np.inf)


def _both(one: Outcome, other: Outcome) -> Outcome:
    if "refuted" in (one, other):
        return "refuted"
    return "supported" if one == other == "supported" else "not separable"


def _distinct(claims: list[Claim]) -> Iterator[Claim]:
    """Each claim once, where it does not depend on engine or threads."""
    seen = set()
    for claim in claims:
        key = (claim.property, claim.subject.model.file, claim.other.model.file, claim.engine, claim.threads)
        if key not in seen:
            seen.add(key)
            yield claim


def _brackets(interval: Interval) -> str:
    return f"[{interval.low:.2f}, {interval.high:.2f}]"


def _band(ratio: Ratio) -> str:
    if ratio.null_test is None:
        return "no A/A unit, so the noise is not known"
    return "no A/A band from one process" if np.isinf(ratio.band) else f"A/A band {ratio.band:.1%}"


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _p(p: float | None) -> str:
    if p is None:
        return "p not defined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
