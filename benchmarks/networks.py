"""The verdict over networks: each claim of each pair, over all trainings, corrected for their number.

:mod:`~pneumo_edge.benchmarks.verdict` decides claims about two files. Here the unit is a trained network: accuracy is
that of all of its trainings, with an interval over other trainings and other patients
(:mod:`pneumo_edge.evaluation.networks`). Time, size and memory are measured on one training of each, because they do
not depend on the weights (docs/benchmark-method.md). Claims about time are decided by wall time, with any number of
threads. A network with fewer than three trainings has no claim of accuracy here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks import statistics
from pneumo_edge.benchmarks.summary import Row, Summary
from pneumo_edge.benchmarks.verdict import non_dominated
from pneumo_edge.errors import ResultsError
from pneumo_edge.evaluation import metrics, networks
from pneumo_edge.evaluation.comparison import PatientShares, accuracy_shares, auc_shares
from pneumo_edge.evaluation.intervals import Interval, p_by_inversion
from pneumo_edge.evaluation.metrics import Scores, auc_interval
from pneumo_edge.evaluation.networks import Leaning
from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN, Outcome
from pneumo_edge.scoring.scores import EvaluationScores

Property = Literal["faster", "smaller", "lighter in memory", "as accurate", "more accurate"]


@dataclass(frozen=True)
class Answers:
    """What one training of a network answered on the test images, in the order of the benchmark."""

    seed: int | None
    scores: Scores
    threshold: float | None


@dataclass(frozen=True)
class Network:
    """A network in one format, with all trainings that were scored.

    Attributes:
        backbone: Its backbone.
        recipe: How it was trained.
        format: The format of its files.
        suffix: What their names end in.
        trainings: The answers of each training.
        aucs: The AUC of each training, by patient.
        auc: The mean AUC: over other trainings and patients, or of the first training, with DeLong's
            interval, where there are fewer than three.
        accuracy: The mean accuracy over other trainings and patients; None where there are fewer than three.
        rows: The units of one training, whose time, size and memory were measured.
    """

    backbone: str
    recipe: str
    format: str
    suffix: str
    trainings: tuple[Answers, ...]
    aucs: tuple[PatientShares, ...]
    auc: Interval
    accuracy: Interval | None
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """The name of its backbone."""
        return backbone_title(self.backbone)

    @property
    def is_several(self) -> bool:
        """Whether enough trainings were scored for a claim about others."""
        return len(self.trainings) >= networks.LEAST_TRAININGS

    def row(self, engine: str, threads: int) -> Row | None:
        """Its unit on an engine with a number of threads."""
        found = (row for row in self.rows if (row.result.unit.engine, row.result.unit.threads) == (engine, threads))
        return next(found, None)


@dataclass(frozen=True)
class NetworkClaim:
    """A claim that ``subject`` has a property compared with ``other``, in one format.

    Attributes:
        property: The property.
        subject: The network that is claimed to have it: of each pair the one with the smaller file, or for "as
            accurate" either.
        other: The network it is compared with.
        engine: The engine; "" where the claim does not depend on it.
        threads: The number of threads; 0 where the claim does not depend on it.
        estimate: How many times as fast, as large or as heavy in memory the subject is; or its AUC less that of the
            other.
        p: The p-value of the margin; None where nothing is estimated, as with sizes, which are counted.
        corrected: The same, corrected for the number of all claims (Holm).
        outcome: Supported, refuted or not separable.
    """

    property: Property
    subject: Network
    other: Network
    engine: str
    threads: int
    estimate: Interval
    p: float | None
    corrected: float | None
    outcome: Outcome


@dataclass(frozen=True)
class NetworkVerdict:
    """Networks, and every claim of every pair of them."""

    networks: tuple[Network, ...]
    claims: tuple[NetworkClaim, ...]

    @property
    def is_over_trainings(self) -> bool:
        """Whether any network has several trainings."""
        return any(network.is_several for network in self.networks)

    @property
    def corrected(self) -> int:
        """The number of claims that p-values are corrected for."""
        return sum(claim.p is not None for claim in self.claims)

    def find(
        self, name: Property, subject: str, other: str, file_format: str, engine: str = "", threads: int = 0
    ) -> NetworkClaim | None:
        """The claim of these backbones in a format, in this order."""
        for claim in self.claims:
            of = claim.property, claim.subject.backbone, claim.other.backbone, claim.subject.format
            if (of, claim.engine, claim.threads) == ((name, subject, other, file_format), engine, threads):
                return claim
        return None


@dataclass(frozen=True)
class Standing:
    """Where a network stands among others, by accuracy, time, size and memory.

    Attributes:
        network: The network in one format.
        row: Its fastest unit.
        beaten_by: Networks that beat it beyond chance: as accurate within the margin, in no cost worse and in one
            better, each by its interval.
        is_front: Whether no network is at least as good in all four, and better in one, by the numbers measured.
    """

    network: Network
    row: Row
    beaten_by: tuple[Network, ...]
    is_front: bool


def front(verdict: NetworkVerdict) -> tuple[Standing, ...]:
    """The networks with several trainings, each with those that beat it; the fastest first."""
    several = [network for network in verdict.networks if network.is_several]
    units = [(network, min(network.rows, key=lambda row: row.inference.median_ms)) for network in several]
    costs = [
        (-network.auc.value, row.inference.median_ms, row.model.size_bytes, row.memory_cost) for network, row in units
    ]
    best = set(non_dominated(costs))
    found = [
        Standing(network, row, tuple(one for one, own in units if _beats(one, own, network, row)), place in best)
        for place, (network, row) in enumerate(units)
    ]
    return tuple(sorted(found, key=lambda standing: standing.row.inference.median_ms))


def _beats(one: Network, own: Row, other: Network, row: Row) -> bool:
    """Whether a network beats another beyond chance: see :class:`Standing`."""
    if one is other or accuracy_difference(one, other).low <= -ACCURACY_MARGIN:
        return False
    size = row.model.size_bytes / own.model.size_bytes
    ratios = [
        statistics.unpaired_ratio(row.inference.wall_medians_ms, own.inference.wall_medians_ms),
        Interval(size, size, size),
    ]
    if _have_memory(own, row):
        ratios.append(statistics.unpaired_ratio(row.memory_bytes, own.memory_bytes))
    band = 1 + statistics.LEAST_DIFFERENCE
    return all(ratio.low > 1 / band for ratio in ratios) and any(ratio.low > band for ratio in ratios)


def accuracy_difference(one: Network, other: Network) -> Interval:
    """The AUC of a network less that of another, over other trainings and patients; by seed where they share them."""
    seeds = [answers.seed for answers in one.trainings], [answers.seed for answers in other.trainings]
    if one.backbone == other.backbone and None not in seeds[0] and seeds[0] == seeds[1]:
        return networks.compare_paired(one.aucs, other.aucs).interval()
    return networks.compare(one.aucs, other.aucs).interval()


def decide(summary: Summary, scores: EvaluationScores | None = None) -> NetworkVerdict:
    """Decide every claim of every pair of networks that a benchmark measured.

    Args:
        summary: The benchmark.
        scores: Scores of several trainings of its networks on the same images. Without them each network has the
            trainings that the benchmark itself scored.

    Raises:
        ResultsError: The scores are of other images.
    """
    places = _places(summary, scores) if scores else []
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in summary.rows:
        if row.accuracy:
            model = row.model
            groups.setdefault((model.backbone, model.recipe, model.format, Path(model.file).suffix), []).append(row)
    found = []
    for key, rows in groups.items():
        scored = _scored(scores, key, places) if scores else ()
        found.append(_network(summary, key, scored or _measured(summary, rows), rows))
    return NetworkVerdict(tuple(found), _corrected(list(_claims(summary, found))))


def _places(summary: Summary, scores: EvaluationScores) -> list[int]:
    """The place among the scores of each image of the benchmark."""
    test_set, names = summary.results.test_set, {image.name: place for place, image in enumerate(scores.data.images)}
    if test_set is None or (test_set.fingerprint, test_set.task) != (scores.data.fingerprint, scores.data.task):
        raise ResultsError(
            f"the scores are of the {scores.data.split} images of {scores.data.title}",
            "scores of the images that the benchmark measured accuracy on",
            "Score the files with `pneumo-edge evaluate --split test` on the data of the benchmark",
        )
    if names.keys() != set(summary.names):
        raise ResultsError(
            "the images of the scores have other names than those of the benchmark",
            "the same data set in both",
            "Score the files again with `pneumo-edge evaluate --split test` on the data of the benchmark",
        )
    return [names[name] for name in summary.names]


def _scored(scores: EvaluationScores, key: tuple[str, str, str, str], places: list[int]) -> tuple[Answers, ...]:
    """The trainings of a network on the engine that most of them were scored on; none where a seed occurs twice."""
    by_engine: dict[str, list[Answers]] = {}
    for file in scores.files:
        model = file.model
        if (model.backbone, model.recipe, model.format, Path(model.file).suffix) == key:
            answers = Answers(model.seed, file.scores[places], model.threshold)
            by_engine.setdefault(model.engine, []).append(answers)
    distinct = [found for found in by_engine.values() if len({each.seed for each in found}) == len(found)]
    longest = max(distinct, key=lambda found: len(found), default=[])
    return tuple(sorted(longest, key=lambda answers: answers.seed or 0))


def _measured(summary: Summary, rows: Sequence[Row]) -> tuple[Answers, ...]:
    """The trainings of a network that the benchmark scored, on the engine of its first unit.

    Results from before the seed was recorded do not tell trainings from other exports of one.
    """
    model, engine = rows[0].model, rows[0].result.unit.engine
    found = {
        row.model.seed: Answers(row.model.seed, summary.scores(row), row.model.threshold)
        for row in rows
        if row.result.unit.engine == engine
    }
    kind = model.backbone, model.recipe, model.format, Path(model.file).suffix
    for each in summary.results.retrained:
        other = each.model
        if (other.backbone, other.recipe, other.format, Path(other.file).suffix, each.engine) == (*kind, engine):
            found.setdefault(other.seed, Answers(other.seed, each.scores(summary.names), other.threshold))
    return tuple(found.values())


def _network(
    summary: Summary, key: tuple[str, str, str, str], trainings: tuple[Answers, ...], rows: Sequence[Row]
) -> Network:
    labels, patients = summary.labels, summary.patients
    aucs = tuple(auc_shares(labels, each.scores, patients) for each in trainings)
    accuracies = [accuracy_shares(_right(summary, each), patients) for each in trainings]
    several = len(trainings) >= networks.LEAST_TRAININGS
    return Network(
        *key,
        trainings,
        aucs,
        _cut(networks.estimate(aucs).interval()) if several else auc_interval(labels, trainings[0].scores),
        _cut(networks.estimate(accuracies).interval()) if several else None,
        tuple(rows),
    )


def _right(summary: Summary, answers: Answers) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Whether each image is decided rightly, shape (images,)."""
    return np.asarray(metrics.decide(answers.scores, answers.threshold) == summary.labels)


def _cut(found: Interval) -> Interval:
    return Interval(found.value, max(0.0, found.low), min(1.0, found.high))


def _claims(summary: Summary, found: Sequence[Network]) -> Iterator[NetworkClaim]:
    for first, second in combinations(found, 2):
        alike = (first.format, first.suffix) == (second.format, second.suffix)
        if alike and first.backbone != second.backbone:
            # The network that costs less is the challenger.
            subject, other = sorted((first, second), key=lambda network: network.rows[0].model.size_bytes)
            yield from _costs(summary, subject, other)
            # With fewer trainings a claim of accuracy is about files, which the other verdict decides.
            if summary.accuracy_counts and subject.is_several and other.is_several and not summary.shortage:
                yield from _accuracies(subject, other)


def _costs(summary: Summary, subject: Network, other: Network) -> Iterator[NetworkClaim]:
    one, two = subject.rows[0].model.size_bytes, other.rows[0].model.size_bytes
    size = Interval(one / two, one / two, one / two)
    yield NetworkClaim("smaller", subject, other, "", 0, size, None, None, "supported" if one < two else "refuted")
    bands = {
        (test.engine, test.threads): max(statistics.LEAST_DIFFERENCE, statistics.reach(test.wall_inference))
        for test in summary.null_tests
    }
    for row in subject.rows:
        unit = row.result.unit
        beside = other.row(unit.engine, unit.threads)
        if beside is None:
            continue
        place = unit.engine, unit.threads
        mine, theirs = row.inference.wall_medians_ms, beside.inference.wall_medians_ms
        if not (row.shortfalls or beside.shortfalls):
            faster = partial(_paired, theirs, mine)
            yield _of_ratio("faster", subject, other, place, faster, bands.get(place))
        if _have_memory(row, beside):
            lighter = partial(_unpaired, beside.memory_bytes, row.memory_bytes)
            claim = _of_ratio("lighter in memory", subject, other, place, lighter, statistics.LEAST_DIFFERENCE)
            times = claim.estimate
            yield replace(claim, estimate=Interval(1 / times.value, 1 / times.high, 1 / times.low))


def _have_memory(*rows: Row) -> bool:
    """Whether the memory of each was measured, and is above that of the imports."""
    return all(row.memory_bytes and min(row.memory_bytes) > 0 for row in rows)


def _paired(one: Sequence[float], other: Sequence[float], confidence: float) -> Interval:
    return statistics.paired_ratio(one, other, confidence=confidence)


def _unpaired(one: Sequence[float], other: Sequence[float], confidence: float) -> Interval:
    return statistics.unpaired_ratio(one, other, confidence=confidence)


def _of_ratio(
    name: Property,
    subject: Network,
    other: Network,
    place: tuple[str, int],
    at: Callable[[float], Interval],
    band: float | None,
) -> NetworkClaim:
    """A claim that a ratio, in favour of the subject, lies above a band; open where no A/A unit shows the noise."""
    found = at(0.95)
    known = band is not None and math.isfinite(band) and math.isfinite(found.high)
    least = 1 + (band or 0.0)
    if not known:
        return NetworkClaim(name, subject, other, *place, found, None, None, "not separable")
    leaning = networks.lean(found.value, partial(p_by_inversion, at), least, 1 / least)
    return NetworkClaim(name, subject, other, *place, found, leaning.p, None, leaning.outcome)


def _accuracies(subject: Network, other: Network) -> Iterator[NetworkClaim]:
    asked: tuple[tuple[Property, Network, Network, float], ...] = (
        ("as accurate", subject, other, -ACCURACY_MARGIN),
        ("as accurate", other, subject, -ACCURACY_MARGIN),
        ("more accurate", subject, other, 0.0),
    )
    for name, one, two, least in asked:
        difference = networks.compare(one.aucs, two.aucs)
        leaning = networks.lean(difference.value, difference.p, least)
        yield NetworkClaim(name, one, two, "", 0, difference.interval(), leaning.p, None, leaning.outcome)


def _corrected(claims: Sequence[NetworkClaim]) -> tuple[NetworkClaim, ...]:
    """The claims with p-values that are corrected for their number, which settle them."""
    settled = iter(networks.settle_all([Leaning(claim.outcome, claim.p) for claim in claims if claim.p is not None]))
    found = []
    for claim in claims:
        if claim.p is None:
            found.append(claim)
        else:
            last = next(settled)
            found.append(replace(claim, corrected=last.p, outcome=last.outcome))
    return tuple(found)
