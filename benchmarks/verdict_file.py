"""``verdict.json``: the decided claims of a benchmark as data, for programs. The report says the same in sentences."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from pneumo_edge._util import files, records
from pneumo_edge._util.records import AtLeastOne, Count, Share, Within
from pneumo_edge._util.result_files import read_record
from pneumo_edge.benchmarks import sentences
from pneumo_edge.benchmarks.claims import AskedClaim
from pneumo_edge.benchmarks.evidence import Estimate, Evidence, MissedGate, WhyOpen
from pneumo_edge.benchmarks.networks import Network, NetworkClaim, NetworkVerdict, Property
from pneumo_edge.benchmarks.summary import Row, Summary
from pneumo_edge.benchmarks.sustained.summary import Order
from pneumo_edge.benchmarks.verdict import BenchmarkVerdict, Claim
from pneumo_edge.errors import ArgumentError, ResultsError
from pneumo_edge.evaluation.outcomes import Outcome

#: The name of the file, in the folder of ``results.json``.
NAME = "verdict.json"

SCHEMA_VERSION = 1

_Positive = Annotated[float, Within(above=0)]


@dataclass(frozen=True)
class Basis:
    """What the verdict was computed from.

    Attributes:
        results_sha256: SHA-256 of the file with the raw results.
        started: When the benchmark began, ISO 8601.
        cpu: The processor that it ran on.
        images: Test images by class name.
        patients: Number of patients in the test images.
        fingerprint: Fingerprint of the test set, from label and content of every image.
        trainings: Number of trainings of each backbone that were measured.
        accuracy_counts: Whether the accuracies mean anything; false for phantom images and random weights.
        version: The version of pneumo-edge that decided the claims.
        scores_sha256: SHA-256 of the scores of further trainings; "" where there are none.
    """

    results_sha256: str
    started: str
    cpu: str
    images: dict[str, Count]
    patients: Count
    fingerprint: str
    trainings: dict[str, Count]
    accuracy_counts: bool
    version: str
    scores_sha256: str = ""


@dataclass(frozen=True)
class ClaimedFile:
    """A model file that a claim is about."""

    file: str
    sha256: str
    backbone: str
    format: str


@dataclass(frozen=True)
class DecidedClaim:
    """A claim that ``subject`` has ``asked.property`` compared with ``other``.

    Attributes:
        asked: Challenger (null for every backbone but the reference), reference, property and margin.
        subject: The file that is claimed to have the property.
        other: The file that it is compared with.
        engine: The engine; "" where the claim does not depend on it.
        threads: The number of threads; 0 where the claim does not depend on it.
        outcome: Supported, refuted or not separable.
        why_open: Why it is not separable; null for the other outcomes.
        effect: How many times as fast, as large or as heavy in memory the subject is, or the difference in AUC or in
            the loss of AUC; null where the claim combines two others, or nothing could be measured.
        evidence: The numbers behind the outcome.
        ineligible: The files that miss their accuracy target.
        sentence: The evidence in words, as in the report.
    """

    asked: AskedClaim
    subject: ClaimedFile
    other: ClaimedFile
    engine: str
    threads: Annotated[int, Within(0)]
    outcome: Outcome
    why_open: WhyOpen | None
    effect: Estimate | None
    evidence: Evidence
    ineligible: tuple[MissedGate, ...]
    sentence: str

    def __post_init__(self) -> None:
        if (self.why_open is None) == (self.outcome == "not separable"):
            raise ValueError(f"the outcome is {self.outcome!r}, and why_open is {self.why_open!r}")
        if other := {gate.file for gate in self.ineligible} - {self.subject.file, self.other.file}:
            raise ValueError(f"ineligible has {min(other)}, which the claim is not about")


@dataclass(frozen=True)
class RankedUnit:
    """A model file on an engine with a number of threads."""

    file: str
    sha256: str
    engine: str
    threads: AtLeastOne


@dataclass(frozen=True)
class UnrankedUnit:
    """A unit that is not ranked: the timing that it lacks, and the accuracy target that it misses."""

    unit: RankedUnit
    shortfalls: tuple[str, ...]
    missed_gate: MissedGate | None

    def __post_init__(self) -> None:
        if not self.shortfalls and self.missed_gate is None:
            raise ValueError(f"{self.unit.file} is in unranked without a reason")


@dataclass(frozen=True)
class ClaimedNetwork:
    """A network in one format that a claim is about, with the number of its trainings whose accuracy was measured."""

    backbone: str
    recipe: str
    format: str
    suffix: str
    trainings: AtLeastOne


@dataclass(frozen=True)
class DecidedNetworkClaim:
    """A claim that a network has a property compared with another, over all of their trainings.

    Attributes:
        property: Faster, smaller, lighter in memory, as accurate or more accurate.
        subject: The network that is claimed to have it.
        other: The network that it is compared with.
        engine: The engine; "" where the claim does not depend on it.
        threads: The number of threads; 0 where the claim does not depend on it.
        outcome: Supported, refuted or not separable.
        effect: How many times as fast, as large or as heavy in memory it is, or its AUC less that of ``other``.
        p: The p-value of the margin; null where nothing is estimated.
        corrected: The same, corrected for the number of all claims about networks (Holm).
    """

    property: Property
    subject: ClaimedNetwork
    other: ClaimedNetwork
    engine: str
    threads: Annotated[int, Within(0)]
    outcome: Outcome
    effect: Estimate
    p: Share | None
    corrected: Share | None


@dataclass(frozen=True)
class FoundChange:
    """A change in the time per inference of a unit that ran alone.

    Attributes:
        at_s: Seconds from the first inference.
        factor: How many times as long an inference took afterwards as before.
    """

    at_s: Estimate
    factor: Estimate


@dataclass(frozen=True)
class SustainedCourse:
    """How the time per inference of a unit changed while it ran alone.

    Attributes:
        unit: The unit.
        first_ms: Milliseconds per inference in the first window.
        last_ms: The same in the last window.
        slower: How many times as long an inference took in the last window as in the first.
        changes: When it got slower or faster.
        sentence: The same in words, as in the report.
    """

    unit: RankedUnit
    first_ms: _Positive
    last_ms: _Positive
    slower: Estimate
    changes: tuple[FoundChange, ...]
    sentence: str


@dataclass(frozen=True)
class SustainedPair:
    """Two units that ran alone, in the first and in the last window.

    Attributes:
        one: The unit that was faster in the first window.
        other: The other unit.
        first: How many times as long ``other`` takes as ``one`` in the first window.
        last: The same in the last window.
        order: Whether they keep their order.
    """

    one: RankedUnit
    other: RankedUnit
    first: Estimate
    last: Estimate
    order: Order


@dataclass(frozen=True)
class SustainedVerdict:
    """Whether the order of the units in the first window is that in the last, when each runs alone for a long time.

    ``order`` is "reversed" where any pair reverses its order. It is None for a single unit.
    """

    window_s: AtLeastOne
    order: Order | None
    units: tuple[SustainedCourse, ...]
    pairs: tuple[SustainedPair, ...]


@dataclass(frozen=True)
class VerdictRecord:
    """The decided claims and the ranking of a benchmark.

    ``pareto`` is the Pareto front of the ranked units over AUC, inference time, file size and peak memory.
    ``unranked`` holds the units that are not ranked. ``networks`` holds the claims about networks; it is empty where
    no network has enough trainings. ``sustained`` is None where no unit ran alone for a long time.
    """

    basis: Basis
    claims: tuple[DecidedClaim, ...]
    pareto: tuple[RankedUnit, ...]
    unranked: tuple[UnrankedUnit, ...]
    networks: tuple[DecidedNetworkClaim, ...] = ()
    sustained: SustainedVerdict | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if both := {*self.pareto} & {each.unit for each in self.unranked}:
            raise ValueError(f"{next(iter(both)).file} is in both pareto and unranked")
        claims = ((c.asked.property, c.subject.file, c.other.file, c.engine, c.threads) for c in self.claims)
        for (name, subject, other, *_), number in Counter(claims).items():
            if number > 1:
                raise ValueError(f"the claim that {subject} is {name} compared with {other} occurs {number} times")


def of(
    summary: Summary,
    decided: BenchmarkVerdict,
    results_file: Path,
    over_networks: NetworkVerdict | None = None,
    scores_file: Path | None = None,
) -> VerdictRecord:
    """The record of a verdict.

    Args:
        summary: The results in numbers.
        decided: The decided claims.
        results_file: The file with the raw results; the record names its hash.
        over_networks: The decided claims about networks, if there are any.
        scores_file: The file with the scores of further trainings behind them, if there is one.
    """
    test_set = summary.results.test_set
    return VerdictRecord(
        basis=Basis(
            results_sha256=files.sha256(results_file),
            started=summary.results.started,
            cpu=summary.results.machine.cpu,
            images=summary.class_counts,
            patients=len(set(summary.patients)),
            fingerprint=test_set.fingerprint if test_set else "",
            trainings=summary.trainings,
            accuracy_counts=summary.accuracy_counts,
            version=version("pneumo-edge"),
            scores_sha256=files.sha256(scores_file) if scores_file else "",
        ),
        claims=tuple(map(_claim, decided.claims)),
        pareto=tuple(map(_unit, decided.pareto)),
        unranked=tuple(UnrankedUnit(_unit(row), row.shortfalls, gate) for row, gate in decided.unranked),
        networks=tuple(map(_network_claim, over_networks.claims)) if over_networks else (),
        sustained=_sustained(summary),
    )


def write(path: Path, record: VerdictRecord) -> None:
    """Write a verdict as JSON, atomically."""
    files.write_text(path, records.document(record))


def read(path: Path) -> VerdictRecord:
    """Read a verdict.

    Raises:
        ResultsError: The file is missing, damaged, of a newer schema, or contradicts itself.
    """
    return read_record(VerdictRecord, path, SCHEMA_VERSION, "a verdict", "benchmark")


@contextlib.contextmanager
def following(results_file: Path) -> Iterator[None]:
    """Update the hash in the verdict beside raw results after a change to them that decides no claim anew.

    A verdict of other results stays as it is.
    """
    path, before = results_file.with_name(NAME), files.sha256(results_file)
    try:
        yield
    finally:
        with contextlib.suppress(ResultsError):
            found = read(path)
            if found.basis.results_sha256 == before:
                basis = replace(found.basis, results_sha256=files.sha256(results_file))
                write(path, replace(found, basis=basis))


def check_replaceable(path: Path) -> None:
    """Refuse to overwrite a file that is not a verdict, since raw results, scores and runs are ``.json`` files, too.

    Raises:
        ArgumentError: The file exists and is not a verdict.
    """
    if not path.exists():
        return
    try:
        read(path)
    except ResultsError as error:
        raise ArgumentError(
            f"{path} exists and is not a verdict", "a new file or an earlier verdict", "Give another path"
        ) from error


def _claim(claim: Claim) -> DecidedClaim:
    return DecidedClaim(
        asked=claim.asked,
        subject=_file(claim.subject),
        other=_file(claim.other),
        engine=claim.engine,
        threads=claim.threads,
        outcome=claim.outcome,
        why_open=claim.why_open,
        effect=claim.estimate,
        evidence=claim.evidence,
        ineligible=tuple(gate for _, gate in claim.ineligible),
        sentence=sentences.evidence(claim.property, claim.evidence),
    )


def _network_claim(claim: NetworkClaim) -> DecidedNetworkClaim:
    return DecidedNetworkClaim(
        property=claim.property,
        subject=_network(claim.subject),
        other=_network(claim.other),
        engine=claim.engine,
        threads=claim.threads,
        outcome=claim.outcome,
        effect=Estimate.of(claim.estimate),
        p=claim.p,
        corrected=claim.corrected,
    )


def _network(network: Network) -> ClaimedNetwork:
    return ClaimedNetwork(network.backbone, network.recipe, network.format, network.suffix, len(network.trainings))


def _file(row: Row) -> ClaimedFile:
    return ClaimedFile(row.model.file, row.model.sha256, row.model.backbone, row.model.format)


def _sustained(summary: Summary) -> SustainedVerdict | None:
    found = summary.endurance
    if found is None:
        return None
    units = {row.result.unit: _unit(row) for row in summary.rows}
    return SustainedVerdict(
        window_s=found.window_s,
        order=found.order if found.pairs else None,
        units=tuple(
            SustainedCourse(
                units[course.unit],
                course.first_ms,
                course.last_ms,
                Estimate.of(course.slower),
                tuple(FoundChange(Estimate.of(each.at_s), Estimate.of(each.factor)) for each in course.changes),
                sentences.course(course, found),
            )
            for course in found.courses
        ),
        pairs=tuple(
            SustainedPair(
                units[pair.one], units[pair.other], Estimate.of(pair.first), Estimate.of(pair.last), pair.order
            )
            for pair in found.pairs
        ),
    )


def _unit(row: Row) -> RankedUnit:
    unit = row.result.unit
    return RankedUnit(unit.model, row.model.sha256, unit.engine, unit.threads)
