"""What the results settle: claims about the backbones, each with its evidence, and the files that none other beats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks import statistics
from benchmarks.statistics import Relation
from benchmarks.summary import Ratio, Row, Summary
from pneumo_edge.evaluation.bootstrap import Judged, bootstrap_difference
from pneumo_edge.evaluation.comparison import compare_auc, mcnemar
from pneumo_edge.evaluation.metrics import Interval, Labels, Scores

Outcome = Literal["supported", "refuted", "not separable"]
#: What is claimed of one backbone beside another.
Property = Literal[
    "faster", "smaller", "lighter in memory", "as accurate", "faster and as accurate", "keeps more AUC when quantized"
]

#: The backbone that was designed to be the efficient one; the claims are made for it.
_CHALLENGER = "mobilenetv2"
_REFERENCE_FORMAT = "fp32"
#: MLPerf's closed division asks for this share of the float model's quality.
GATE_SHARE = 0.99
#: A loss of AUC of less than this is none that matters: the margin of "as accurate".
ACCURACY_MARGIN = 0.01
_SEED = 0


@dataclass(frozen=True)
class Claim:
    """A claim that ``subject`` has a property beside ``other``; both are model files.

    ``engine`` is "" and ``threads`` 0 where the claim does not depend on them. ``effect`` is what the claim is about:
    how many times as fast, large or heavy the subject is; or the difference in AUC, or in its loss, in favour of the
    subject where it is positive. None where the claim is made of two others.
    """

    subject: Row
    other: Row
    property: Property
    engine: str
    threads: int
    outcome: Outcome
    evidence: str
    effect: float | None


@dataclass(frozen=True)
class _Finding:
    """The outcome of a claim, with its evidence and its effect."""

    outcome: Outcome
    evidence: str
    effect: float | None


@dataclass(frozen=True)
class Verdict:
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


def decide(summary: Summary) -> Verdict:
    """Judge every claim that the results can speak to."""
    judge = _Judge(summary)
    claims = [claim for ratio in summary.ratios for claim in judge.claims(ratio)]
    order: list[Property] = []
    for claim in claims:
        if claim.property not in order:
            order.append(claim.property)
    unranked = [(row, why) for row in summary.rows if (why := judge.why_unranked(row))]
    out = [id(row) for row, _ in unranked]
    return Verdict(
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


def gate_failure(row: Row, rows: Sequence[Row]) -> str:
    """Why a file fails its accuracy gate; "" where it passes, or where no float file is there to hold it against.

    A file must keep :data:`GATE_SHARE` of the AUC of its backbone's fp32 file on the same images, on the same
    engine where that was measured.
    """
    references = [
        other for other in rows if (other.model.backbone, other.model.format) == (row.model.backbone, _REFERENCE_FORMAT)
    ]
    if not references:
        return ""
    reference = min(references, key=lambda other: other.result.unit.engine != row.result.unit.engine)
    share = row.accuracy.auc.value / reference.accuracy.auc.value
    if share >= GATE_SHARE:
        return ""
    return (
        f"it misses its accuracy gate: AUC {row.accuracy.auc.value:.3f} is {share:.1%} of the "
        f"{reference.accuracy.auc.value:.3f} of {reference.model.file}, less than {GATE_SHARE:.0%}"
    )


class _Judge:
    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        test_set = summary.results.test_set
        self._names = list(test_set.labels)
        self._labels: Labels = np.array(list(test_set.labels.values()), dtype=np.int64)
        self._patients = [test_set.patients[name] for name in self._names]
        self._accuracy: dict[tuple[str, str, str], _Finding] = {}

    def claims(self, ratio: Ratio) -> Iterator[Claim]:
        """All claims about two units that differ in their backbone alone."""
        swap = ratio.numerator.model.backbone == _CHALLENGER or ratio.denominator.model.backbone != _CHALLENGER
        subject, other = (ratio.numerator, ratio.denominator)[:: 1 if swap else -1]
        unit = subject.result.unit

        def claim(name: Property, found: _Finding, *, of: Literal["file", "engine", "unit"]) -> Claim:
            engine, threads = "" if of == "file" else unit.engine, unit.threads if of == "unit" else 0
            return Claim(subject, other, name, engine, threads, found.outcome, found.evidence, found.effect)

        speed = self._faster(subject, other, ratio, inverted=swap)
        yield claim("faster", speed, of="unit")
        yield claim("smaller", self._smaller(subject, other), of="file")
        yield claim("lighter in memory", self._lighter(subject, other), of="unit")
        if not self._summary.accuracy_counts:
            return
        accuracy = self._as_accurate(subject, other)
        yield claim("as accurate", accuracy, of="engine")
        both = _Finding(_both(speed.outcome, accuracy.outcome), "both of the claims above", None)
        yield claim("faster and as accurate", both, of="unit")
        if kept := self._keeps_more(subject, other):
            yield claim("keeps more AUC when quantized", kept, of="engine")

    def why_unranked(self, row: Row) -> str:
        """Why a unit cannot rank; "" where it can."""
        reasons = [f"too little was timed: {', '.join(row.shortfalls)}"] if row.shortfalls else []
        return "; ".join([*reasons, *filter(None, [self._gate_failure(row)])])

    def _gate_failure(self, row: Row) -> str:
        return gate_failure(row, self._summary.rows) if self._summary.accuracy_counts else ""

    def _faster(self, subject: Row, other: Row, ratio: Ratio, *, inverted: bool) -> _Finding:
        found = ratio.inference
        if inverted:
            found = Interval(1 / found.value, 1 / found.high, 1 / found.low if found.low else np.inf)
        band = max(statistics.LEAST_DIFFERENCE, statistics.reach(ratio.null_test.inference))
        evidence = (
            f"{found.value:.2f} times as fast {_brackets(found)} in CPU time, "
            f"{len(subject.result.latency)} processes; {_band(band)}"
        )
        return self._settle(
            statistics.judge(found, band), subject, other, evidence, found.value, self.why_unranked, supported="more"
        )

    def _smaller(self, subject: Row, other: Row) -> _Finding:
        one, two = subject.model.size_bytes, other.model.size_bytes
        relation: Relation = "less" if one < two else "more" if one > two else "not separable"
        evidence = f"{one / 2**20:.2f} against {two / 2**20:.2f} MiB, {one / two:.2f} times"
        return self._settle(relation, subject, other, evidence, one / two, self._gate_failure)

    def _lighter(self, subject: Row, other: Row) -> _Finding:
        if min(*subject.memory_bytes, *other.memory_bytes) <= 0:
            return _Finding("not separable", "a process's imports took more memory than its model", None)
        ratio = statistics.unpaired_ratio(subject.memory_bytes, other.memory_bytes)
        evidence = (
            f"{subject.peak_bytes / 2**20:.1f} against {other.peak_bytes / 2**20:.1f} MiB over the imports, "
            f"{ratio.value:.2f} times {_brackets(ratio)}, {len(subject.memory_bytes)} processes each"
        )
        return self._settle(statistics.judge(ratio, 0.0), subject, other, evidence, ratio.value, self._gate_failure)

    def _settle(
        self,
        relation: Relation,
        subject: Row,
        other: Row,
        evidence: str,
        effect: float,
        why_not: Callable[[Row], str],
        supported: Relation = "less",
    ) -> _Finding:
        """Supported or refuted, unless the one that would win cannot."""
        if relation == "not separable":
            return _Finding("not separable", evidence, effect)
        wins = relation == supported
        winner = subject if wins else other
        if why := why_not(winner):
            return _Finding("not separable", f"{evidence}; but {winner.model.file} cannot win: {why}", effect)
        return _Finding("supported" if wins else "refuted", evidence, effect)

    def _as_accurate(self, subject: Row, other: Row) -> _Finding:
        key = (subject.model.file, other.model.file, subject.result.unit.engine)
        if key not in self._accuracy:
            self._accuracy[key] = self._compare_accuracy(subject, other)
        return self._accuracy[key]

    def _compare_accuracy(self, subject: Row, other: Row) -> _Finding:
        one, two = self._judged(subject), self._judged(other)
        found = bootstrap_difference(self._labels, one, two, self._patients, statistics=("auc", "accuracy"), seed=_SEED)
        auc = found["auc"]
        delong = compare_auc(self._labels, one.scores, two.scores)
        right = [(each.scores >= each.threshold) == (self._labels == 1) for each in (one, two)]
        test = mcnemar(right[0], right[1])
        evidence = (
            f"AUC {_signed(auc)} (bootstrap by patient; DeLong {_p(delong.p)}), accuracy {_signed(found['accuracy'])} "
            f"(McNemar {_p(test.p)}: {test.only_first_right} images right in it alone, {test.only_second_right} in "
            f"the other); margin {ACCURACY_MARGIN:g} of AUC"
        )
        if auc.low > -ACCURACY_MARGIN:
            return _Finding("supported", evidence, auc.value)
        return _Finding("refuted" if auc.high < 0 else "not separable", evidence, auc.value)

    def _keeps_more(self, subject: Row, other: Row) -> _Finding | None:
        """Whether the subject's AUC loses less from float to its format than the other's does."""
        if subject.model.format == _REFERENCE_FORMAT:
            return None
        floats = [self._float_of(row) for row in (subject, other)]
        if floats[0] is None or floats[1] is None:
            return None
        losses = [
            statistics.auc_contrast(self._labels, [(1, self._scores(whole)), (-1, self._scores(row))])
            for whole, row in ((floats[0], subject), (floats[1], other))
        ]
        weights = zip((1, -1, -1, 1), (floats[0], subject, floats[1], other), strict=True)
        difference = statistics.auc_contrast(self._labels, [(weight, self._scores(row)) for weight, row in weights])
        evidence = f"AUC lost {_signed(losses[0])} against {_signed(losses[1])}: {_signed(difference)} (DeLong, paired)"
        if difference.high < 0:
            return _Finding("supported", evidence, -difference.value)
        return _Finding("refuted" if difference.low > 0 else "not separable", evidence, -difference.value)

    def _float_of(self, row: Row) -> Row | None:
        """The fp32 unit of a quantized one, on the same engine and threads."""
        wanted = (row.model.backbone, _REFERENCE_FORMAT, row.result.unit.engine, row.result.unit.threads)
        found = (
            other
            for other in self._summary.rows
            if (other.model.backbone, other.model.format, other.result.unit.engine, other.result.unit.threads) == wanted
        )
        return next(found, None)

    def _judged(self, row: Row) -> Judged:
        return Judged(self._scores(row), row.model.threshold)

    def _scores(self, row: Row) -> Scores:
        return np.array([row.result.probabilities[name] for name in self._names], dtype=np.float64)


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


def _band(share: float) -> str:
    return "no A/A band from one process" if np.isinf(share) else f"A/A band {share:.1%}"


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _p(p: float | None) -> str:
    if p is None:
        return "p not defined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
