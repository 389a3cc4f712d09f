"""Decides the claims about the backbones from the results, each with its evidence, and finds the Pareto front."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pneumo_edge.benchmarks import claims as claims_asked
from pneumo_edge.benchmarks import statistics
from pneumo_edge.benchmarks.claims import AskedClaim, Property
from pneumo_edge.benchmarks.evidence import (
    AccuracyEvidence,
    Estimate,
    Evidence,
    FewImages,
    MemoryEvidence,
    MissedGate,
    QuantizationEvidence,
    SizeEvidence,
    TimeEvidence,
    TooLittleTimed,
    WhyOpen,
)
from pneumo_edge.benchmarks.float_baseline import float_baseline
from pneumo_edge.benchmarks.summary import Clock, Ratio, Row, Summary
from pneumo_edge.evaluation.bootstrap import Predictions, bootstrap_difference
from pneumo_edge.evaluation.comparison import compare_auc, mcnemar
from pneumo_edge.evaluation.metrics import Interval
from pneumo_edge.evaluation.metrics import decide as decide_classes
from pneumo_edge.evaluation.outcomes import Outcome, settle
from pneumo_edge.formats import FLOAT32

#: The accuracy target: this share of the float model's AUC. MLPerf's closed division has the same.
GATE_SHARE = 0.99
#: What a claim depends on: only the two files; the files and the engine; or files, engine and number of threads.
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
    """A claim that ``subject`` has a property compared with ``other``; both are model files, each of one training.

    Attributes:
        asked: The claim as asked.
        subject: The unit that is claimed to have the property.
        other: The unit that it is compared with.
        engine: The engine; "" where the claim does not depend on it.
        threads: The number of threads; 0 where the claim does not depend on it.
        outcome: Supported, refuted or not separable.
        why_open: Why the claim is not separable; None for the other outcomes.
        evidence: The numbers behind the outcome.
        estimate: How many times as fast, as large or as heavy in memory the subject is; or the difference in AUC, or in
            the loss of AUC, where a positive number favours the subject. None where the claim combines two others.
        ineligible: The files that miss their accuracy target, with the reason. Do not use them, even where the claim is
            supported.
    """

    asked: AskedClaim
    subject: Row
    other: Row
    engine: str
    threads: int
    outcome: Outcome
    why_open: WhyOpen | None
    evidence: Evidence
    estimate: Estimate | None
    ineligible: tuple[tuple[Row, MissedGate], ...] = ()

    @property
    def property(self) -> Property:
        """The property that is claimed."""
        return self.asked.property

    @builtins.property
    def effect(self) -> float | None:
        """The value of the estimate."""
        return self.estimate.value if self.estimate else None

    @builtins.property
    def by_clock(self) -> dict[Clock, float]:
        """How many times as fast the subject is on each clock; empty where the claim is not about time alone."""
        if self.property != "faster" or self.evidence.time is None:
            return {}
        clocks: tuple[Clock, ...] = ("cpu", "wall")
        found = self.evidence.time.by_clock
        return {clock: found[clock].value for clock in clocks if clock in found}


@dataclass(frozen=True)
class _Finding:
    """The outcome of a claim, with its evidence and its effect."""

    outcome: Outcome
    why_open: WhyOpen | None
    evidence: Evidence
    estimate: Estimate | None

    @classmethod
    def of(cls, outcome: Outcome, why_open: WhyOpen, evidence: Evidence, estimate: Interval) -> _Finding:
        """A finding with ``why_open`` only where the outcome is "not separable"."""
        return cls(outcome, why_open if outcome == "not separable" else None, evidence, Estimate.of(estimate))


@dataclass(frozen=True)
class BenchmarkVerdict:
    """The decided claims of a benchmark and its Pareto front.

    Attributes:
        claims: By property, then in the order of the units.
        asked: The claims that were asked.
        pareto: The Pareto front over AUC, inference time, file size and peak memory.
        unranked: Units that are not ranked, each with the accuracy target that it misses, or None where it was only
            timed less than the preset requires (``Row.shortfalls``).
    """

    claims: tuple[Claim, ...]
    asked: tuple[AskedClaim, ...]
    pareto: tuple[Row, ...]
    unranked: tuple[tuple[Row, MissedGate | None], ...]


def decide(summary: Summary, asked: Sequence[AskedClaim] | None = None) -> BenchmarkVerdict:
    """Decide every claim that is asked, for all files of its two backbones in the results.

    Args:
        summary: The results in numbers.
        asked: The claims; by default those of :data:`pneumo_edge.benchmarks.claims.CLAIMS`.
    """
    asked = tuple(claims_asked.CLAIMS if asked is None else asked)
    decider = _Decider(summary, asked)
    claims = [claim for ratio in summary.ratios for claim in decider.claims(ratio)]
    order: list[Property] = []
    for claim in claims:
        if claim.property not in order:
            order.append(claim.property)
    gates = [(row, decider.missed_gate(row)) for row in summary.rows]
    unranked = [(row, missed) for row, missed in gates if missed or row.shortfalls]
    out = [id(row) for row, _ in unranked]
    return BenchmarkVerdict(
        tuple(_distinct(sorted(claims, key=lambda claim: order.index(claim.property)))),
        asked,
        pareto([row for row in summary.rows if id(row) not in out]),
        tuple(unranked),
    )


def pareto(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows that no other row dominates in AUC, inference time, size and memory, by point estimates.

    A row whose accuracy is not known is dominated only by another such row; unknown memory counts as the most.
    """
    costs = [
        (
            -row.accuracy.auc.value if row.accuracy else -np.inf,
            row.inference.median_ms,
            row.model.size_bytes,
            row.memory_cost,
        )
        for row in rows
    ]
    return tuple(rows[index] for index in non_dominated(costs))


def non_dominated(costs: Sequence[tuple[float, ...]]) -> list[int]:
    """Indices of the rows that are not dominated: no other row costs at most as much in everything and less in one."""
    return [
        index
        for index, cost in enumerate(costs)
        if not any(other != cost and all(a <= b for a, b in zip(other, cost, strict=True)) for other in costs)
    ]


def missed_gate(row: Row, summary: Summary) -> MissedGate | None:
    """How a file misses its accuracy target; None where it meets the target, or where there is no float file.

    A file must reach :data:`GATE_SHARE` of the AUC of its backbone's fp32 file on the same images, on the same
    engine where that was measured. The target applies to the numbers that were measured here, with any number of
    images. It is not a claim.
    """
    references = [
        other
        for other in summary.rows
        if (other.model.backbone, other.model.format) == (row.model.backbone, FLOAT32) and other.accuracy
    ]
    if not references or row.accuracy is None:
        return None
    reference = min(references, key=lambda other: other.result.unit.engine != row.result.unit.engine)
    assert reference.accuracy
    own, whole = row.accuracy.auc.value, reference.accuracy.auc.value
    if own >= GATE_SHARE * whole:
        return None
    return MissedGate(row.model.file, own, reference.model.file, whole, GATE_SHARE, few_images(summary))


def few_images(summary: Summary) -> FewImages | None:
    """The test images of the smaller class, where they are too few for a claim on accuracy; None otherwise."""
    return FewImages(*summary.smaller_class) if summary.shortage else None


class _Decider:
    def __init__(self, summary: Summary, asked: Sequence[AskedClaim]) -> None:
        self._summary, self._asked = summary, asked
        self._labels, self._patients = summary.labels, summary.patients
        self._few = few_images(summary)
        self._accuracy: dict[tuple[str, str, str, float], _Finding] = {}

    def claims(self, ratio: Ratio) -> Iterator[Claim]:
        """The claims that are asked of two units that differ only in their backbone."""
        for subject, other, inverted in (
            (ratio.numerator, ratio.denominator, True),
            (ratio.denominator, ratio.numerator, False),
        ):
            for asked in self._asked:
                if asked.is_of(subject.model.backbone, other.model.backbone) and (
                    found := self._decide(asked, subject, other, ratio, inverted=inverted)
                ):
                    yield self._claim(asked, subject, other, found)

    def _claim(self, asked: AskedClaim, subject: Row, other: Row, found: _Finding) -> Claim:
        unit, scope = subject.result.unit, _SCOPES[asked.property]
        # These claims measure the accuracy itself, so the target is not applied to them.
        of_accuracy = asked.property in ("as accurate", "keeps more AUC when quantized")
        rows = () if of_accuracy else (subject, other)
        return Claim(
            asked,
            subject,
            other,
            "" if scope == "file" else unit.engine,
            unit.threads if scope == "unit" else 0,
            found.outcome,
            found.why_open,
            found.evidence,
            found.estimate,
            tuple((row, missed) for row in rows if (missed := self.missed_gate(row))),
        )

    def _decide(self, asked: AskedClaim, subject: Row, other: Row, ratio: Ratio, *, inverted: bool) -> _Finding | None:
        """Decide a claim; None where the results do not bear on it."""
        match asked.property:
            case "faster":
                return self._faster(subject, other, ratio, asked.margin, inverted=inverted)
            case "smaller":
                return self._smaller(subject, other, asked.margin)
            case "lighter in memory":
                return self._lighter(subject, other, asked.margin)
        if not (self._summary.accuracy_counts and subject.accuracy and other.accuracy):
            return None
        match asked.property:
            case "as accurate":
                return self._as_accurate(subject, other, asked.margin)
            case "faster and as accurate":
                speed = self._faster(subject, other, ratio, statistics.LEAST_DIFFERENCE, inverted=inverted)
                accuracy = self._as_accurate(subject, other, asked.margin)
                outcome = _both(speed.outcome, accuracy.outcome)
                evidence = Evidence(time=speed.evidence.time, accuracy=accuracy.evidence.accuracy)
                return _Finding(outcome, "a part is open" if outcome == "not separable" else None, evidence, None)
            case "keeps more AUC when quantized":
                return self._keeps_more(subject, other, asked.margin)

    def missed_gate(self, row: Row) -> MissedGate | None:
        """How a unit's file misses its accuracy target; None where the accuracies mean nothing."""
        return missed_gate(row, self._summary) if self._summary.accuracy_counts else None

    def _faster(self, subject: Row, other: Row, ratio: Ratio, margin: float, *, inverted: bool) -> _Finding:
        of_clocks: dict[Clock, Interval | None] = {"cpu": ratio.inference, "wall": ratio.wall_inference}
        by_clock = {clock: found for clock, found in of_clocks.items() if found}
        if inverted:
            by_clock = {clock: _inverted(found) for clock, found in by_clock.items()}
        decides = ratio.decides
        found, band = by_clock[decides], max(margin, ratio.band)
        outcome = settle(found, 1 + band, 1 / (1 + band))
        winner = {"supported": subject, "refuted": other}.get(outcome)
        cannot_win = TooLittleTimed(winner.model.file, winner.shortfalls) if winner and winner.shortfalls else None
        evidence = TimeEvidence(
            by_clock={clock: Estimate.of(each) for clock, each in by_clock.items()},
            deciding=decides,
            processes=len(subject.result.latency),
            aa_unit=ratio.null_test is not None,
            aa_band=ratio.band if np.isfinite(ratio.band) else None,
            cannot_win=cannot_win,
        )
        why: WhyOpen = "interval" if np.isfinite(ratio.band) else "noise not known"
        if cannot_win:
            outcome, why = "not separable", "too little timed"
        return _Finding.of(outcome, why, Evidence(time=evidence), found)

    def _smaller(self, subject: Row, other: Row, margin: float) -> _Finding:
        # Bytes are counted, not estimated, so the claim is decided for files of equal size, too.
        one, two = subject.model.size_bytes, other.model.size_bytes
        evidence, times = Evidence(size=SizeEvidence(one, two, one / two)), Estimate(one / two, one / two, one / two)
        return _Finding("supported" if one * (1 + margin) < two else "refuted", None, evidence, times)

    def _lighter(self, subject: Row, other: Row, margin: float) -> _Finding | None:
        one, two = subject.peak_bytes, other.peak_bytes
        if one is None or two is None:
            return None

        def evidence(times: Estimate | None) -> Evidence:
            return Evidence(memory=MemoryEvidence(float(one), float(two), times, len(subject.memory_bytes)))

        if min(*subject.memory_bytes, *other.memory_bytes) <= 0:
            return _Finding("not separable", "memory not measurable", evidence(None), None)
        # Inverted, so that a larger ratio favours the claim, as with the other claims.
        ratio = statistics.unpaired_ratio(other.memory_bytes, subject.memory_bytes)
        heavier = _inverted(ratio)
        outcome = settle(ratio, 1 + margin, 1 / (1 + margin))
        return _Finding.of(outcome, "interval", evidence(Estimate.of(heavier)), heavier)

    def _as_accurate(self, subject: Row, other: Row, margin: float) -> _Finding:
        key = (subject.model.file, other.model.file, subject.result.unit.engine, margin)
        if key not in self._accuracy:
            self._accuracy[key] = self._compare_accuracy(subject, other, margin)
        return self._accuracy[key]

    def _compare_accuracy(self, subject: Row, other: Row, margin: float) -> _Finding:
        one, two = self._predictions(subject), self._predictions(other)
        found = bootstrap_difference(self._labels, one, two, self._patients, statistics=("auc", "accuracy"), seed=_SEED)
        auc = found["auc"]
        delong = compare_auc(self._labels, one.scores, two.scores)
        right = [decide_classes(each.scores, each.threshold) == self._labels for each in (one, two)]
        test = mcnemar(right[0], right[1])
        evidence = AccuracyEvidence(
            auc=Estimate.of(auc),
            accuracy=Estimate.of(found["accuracy"]),
            delong_p=delong.p,
            mcnemar_p=test.p,
            only_subject_right=test.only_first_right,
            only_other_right=test.only_second_right,
            margin=margin,
            few=self._few,
        )
        return self._settled(auc, -margin, Evidence(accuracy=evidence))

    def _keeps_more(self, subject: Row, other: Row, margin: float) -> _Finding | None:
        """Whether quantization costs the subject less AUC than the other."""
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
        one, two = map(Estimate.of, losses)
        evidence = QuantizationEvidence(one, two, Estimate.of(kept), self._few)
        return self._settled(kept, margin, Evidence(quantization=evidence))

    def _settled(self, found: Interval, least: float, evidence: Evidence) -> _Finding:
        """The outcome of a claim on accuracy; "not separable" where there are too few images."""
        if self._few:
            return _Finding.of("not separable", "too few images", evidence, found)
        return _Finding.of(settle(found, least), "interval", evidence, found)

    def _predictions(self, row: Row) -> Predictions:
        return Predictions(self._summary.scores(row), row.model.threshold)


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
