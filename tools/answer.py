"""Says whether MobileNetV2 is the more efficient backbone, from the benchmark and the scores of all trainings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks import networks as networks_module
from pneumo_edge.benchmarks.claims import Property
from pneumo_edge.benchmarks.float_baseline import FloatComparison, compare_with_float
from pneumo_edge.benchmarks.networks import NetworkClaim, NetworkVerdict
from pneumo_edge.benchmarks.report.runs import engine_title
from pneumo_edge.benchmarks.report.sections.claims import where
from pneumo_edge.benchmarks.summary import CLOCK_TITLES, Summary, deciding_clock
from pneumo_edge.benchmarks.verdict import BenchmarkVerdict, Claim
from pneumo_edge.evaluation.comparison import paired_auc
from pneumo_edge.evaluation.metrics import Interval
from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN, Outcome

_SUBJECT, _OTHER = "mobilenetv2", "efficientnetb0"
#: The formats that were scored for every training; the last is the one that is used.
_FORMATS = ("fp32", "int8")
#: The engine whose times the brief answer gives.
_ENGINE = "litert"
_SETTLED: dict[Outcome, str] = {
    "supported": "MobileNetV2 is as good within a margin of",
    "refuted": "MobileNetV2 is worse by more than a margin of",
    "not separable": "the two are not separable at a margin of",
}
_NUMBERS = {1: "one", 2: "two"}
_OTHERWISE: dict[Outcome, str] = {"refuted": "slower", "not separable": "not separable"}


@dataclass(frozen=True)
class OverTrainings:
    """The AUC of MobileNetV2 minus that of EfficientNetB0 in one format.

    Attributes:
        format: The format of the files.
        by_seed: The difference for each seed that both were trained with, with its interval by patient.
        trainings: Trainings of each.
        difference: The difference of the means, with its interval over other trainings and other patients.
        outcome: Whether MobileNetV2 is as accurate, corrected for the number of claims.
    """

    format: str
    by_seed: dict[int, Interval]
    trainings: tuple[int, int]
    difference: Interval
    outcome: Outcome


def over_trainings(summary: Summary, networks: NetworkVerdict, file_format: str) -> OverTrainings:
    """Compare all trainings of both backbones.

    Args:
        summary: The benchmark.
        networks: Its verdict over networks.
        file_format: The format to compare.

    Raises:
        ValueError: There are not enough trainings of both for a claim.
    """
    claim = _claim(networks, "as accurate", _OTHER, file_format)
    own, other = (
        {answers.seed: answers.scores for answers in network.trainings} for network in (claim.subject, claim.other)
    )
    by_seed = {
        seed: paired_auc(summary.labels, own[seed], other[seed], summary.patients)
        for seed in sorted(seed for seed in own.keys() & other.keys() if seed is not None)
    }
    return OverTrainings(file_format, by_seed, (len(own), len(other)), claim.estimate, claim.outcome)


def _claim(networks: NetworkVerdict, name: networks_module.Property, other: str, file_format: str) -> NetworkClaim:
    found = networks.find(name, _SUBJECT, other, file_format)
    if found is None:
        raise ValueError(f"there are not enough trainings of {_SUBJECT} and {other} in {file_format}")
    return found


def answer(summary: Summary, verdict: BenchmarkVerdict, networks: NetworkVerdict) -> str:
    """The answer in at most six sentences.

    Args:
        summary: The benchmark.
        verdict: What it settles of files.
        networks: What it settles of networks, with several trainings of each.
    """
    fp32, int8 = (over_trainings(summary, networks, file_format) for file_format in _FORMATS)
    return " ".join(
        (
            _size(verdict.claims),
            _time(verdict.claims, summary),
            _accuracy(fp32),
            _quantized(int8),
            _one_training(verdict.claims, summary),
            _quantization(summary, verdict),
        )
    )


def brief(summary: Summary, networks: NetworkVerdict) -> str:
    """The answer in at most six sentences, for the README: beside EfficientNetB0, then beside every other network.

    Args:
        summary: The benchmark.
        networks: What it settles of networks, with several trainings of each.
    """
    machine = summary.results.machine
    others = dict.fromkeys(
        claim.other.backbone
        for claim in networks.claims
        if (claim.property, claim.subject.backbone) == ("more accurate", _SUBJECT) and claim.other.backbone != _OTHER
    )
    return " ".join(
        (
            f"{_speed(networks, _OTHER)} (wall time; {machine.cpu}, {machine.cores} cores).",
            _everywhere(networks, _OTHER),
            f"{_sizes(networks, _OTHER)}.",
            _told(networks, _OTHER),
            *(
                f"{_speed(networks, other)}; {_sizes(networks, other, 'its files')}. {_told(networks, other)}"
                for other in others
            ),
        )
    )


def _costs(networks: NetworkVerdict, name: networks_module.Property, other: str) -> list[NetworkClaim]:
    return [
        claim
        for claim in networks.claims
        if (claim.property, claim.subject.backbone, claim.other.backbone) == (name, _SUBJECT, other)
    ]


def _speed(networks: NetworkVerdict, other: str) -> str:
    """How many times as fast it is in the format that is used, with each number of threads."""
    used = _FORMATS[-1]
    first, *more = sorted(
        (
            claim
            for claim in _costs(networks, "faster", other)
            if (claim.subject.format, claim.engine) == (used, _ENGINE)
        ),
        key=lambda claim: claim.threads,
    )
    return (
        f"On LiteRT, MobileNetV2's {used} file is {_interval(first.estimate)} times as fast as "
        f"{backbone_title(other)}'s with {_threads(first.threads)}"
        + "".join(f", and {_interval(claim.estimate)} times with {_threads(claim.threads)}" for claim in more)
    )


def _threads(number: int) -> str:
    return f"{_NUMBERS.get(number, number)} thread{'s' * (number > 1)}"


def _everywhere(networks: NetworkVerdict, other: str) -> str:
    """In how many comparisons it is faster, and where it is slower."""
    faster = _costs(networks, "faster", other)
    supported = sum(claim.outcome == "supported" for claim in faster)
    slower = [
        f"{claim.subject.format} on {engine_title(claim.engine, claim.threads)} ({_interval(claim.estimate)})"
        for claim in faster
        if claim.outcome == "refuted"
    ]
    turned = f", and slower in {', '.join(slower)}" if slower else ""
    return f"Over formats, engines and threads it is faster in {supported} of {len(faster)} comparisons{turned}."


def _sizes(networks: NetworkVerdict, other: str, whose: str = "Its files") -> str:
    values = [claim.estimate.value for claim in _costs(networks, "smaller", other)]
    return f"{whose} have {_spread(values)} times the size of {backbone_title(other)}'s"


def _told(networks: NetworkVerdict, other: str) -> str:
    """Whether the difference in accuracy can be told, over all trainings."""
    claims = [_claim(networks, "more accurate", other, file_format) for file_format in _FORMATS]
    told = [claim.subject.format for claim in claims if claim.outcome != "not separable"]
    counts = sorted({len(network.trainings) for claim in claims for network in (claim.subject, claim.other)})
    verb = f"can be told in {' and '.join(told)}" if told else "cannot be told"
    by_format = " and ".join(f"by {claim.estimate.signed} in {claim.subject.format}" for claim in claims)
    trainings = " or ".join(map(str, counts))
    return (
        f"The difference in accuracy {verb}: over {trainings} trainings of each, MobileNetV2's test AUC differs "
        f"{by_format}."
    )


def _interval(found: Interval) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _spread(values: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys(f"{value:.2f}" for value in (min(values), max(values))))


def _size(claims: Sequence[Claim]) -> str:
    found = _of(claims, "smaller")
    smaller = [claim for claim in found if claim.outcome == "supported"]
    formats = f"all {len(found)}" if len(smaller) == len(found) else f"{len(smaller)} of {len(found)}"
    return (
        f"In size, yes: in {formats} formats MobileNetV2's file has {_range(smaller)} times the size of "
        "EfficientNetB0's."
    )


def _time(claims: Sequence[Claim], summary: Summary) -> str:
    found = _of(claims, "faster")
    parts = [
        _speeds([claim for claim in found if claim.threads == threads], threads)
        for threads in sorted({claim.threads for claim in found})
    ]
    machine = summary.results.machine
    return (
        f"In time, it depends on format, engine and threads ({machine.cpu}, {machine.cores} cores): {'; '.join(parts)}."
    )


def _speeds(claims: Sequence[Claim], threads: int) -> str:
    """The number of pairs of files that are faster, slower or neither, on the clock that decides."""
    by_outcome: dict[Outcome, list[Claim]] = {}
    for claim in claims:
        by_outcome.setdefault(claim.outcome, []).append(claim)
    told = []
    if faster := by_outcome.get("supported"):
        told.append(f"MobileNetV2 is {_range(faster)} times as fast in {len(faster)} of {len(claims)} pairs of files")
    for outcome, words in _OTHERWISE.items():
        if found := by_outcome.get(outcome):
            told.append(f"{words} in {len(found)} ({where(found, claims)}; {_range(found)})")
    clock = CLOCK_TITLES[deciding_clock(threads)]
    return f"with {threads} thread{'s' * (threads > 1)}, by {clock}, {' and '.join(told)}"


def _accuracy(found: OverTrainings) -> str:
    differences = found.by_seed.values()
    either = any(each.low > 0 for each in differences) and any(each.high < 0 for each in differences)
    numbers = " or ".join(map(str, dict.fromkeys(found.trainings)))
    return (
        f"In accuracy, {_SETTLED[found.outcome]} {ACCURACY_MARGIN:g}: over {numbers} trainings of each, the "
        f"test AUC of MobileNetV2's fp32 files minus that of EfficientNetB0's is {_listed(found)}, on average "
        f"{found.difference.signed}{', so one training of each can favour either' * either}."
    )


def _quantized(found: OverTrainings) -> str:
    return (
        f"For int8 files the differences are {_listed(found)}, on average {found.difference.signed} ({found.outcome}); "
        "EfficientNetB0's were converted in another way after a first look at their "
        "[test result](training-results.md#results)."
    )


def _one_training(claims: Sequence[Claim], summary: Summary) -> str:
    found = _of(claims, "as accurate")
    effects = sorted(claim.effect for claim in found if claim.effect is not None)
    outcomes = Counter(claim.outcome for claim in found)
    counted = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
    numbers = {summary.trainings[backbone] for backbone in (_SUBJECT, _OTHER)}
    trainings = "one training of each" if numbers == {1} else f"up to {max(numbers)} trainings of each"
    return (
        f"The benchmark below has {trainings}, so its {len(found)} comparisons of AUC ({effects[0]:+.3f} to "
        f"{effects[-1]:+.3f}; {counted}) are about these files and say nothing about the backbones."
    )


def _quantization(summary: Summary, verdict: BenchmarkVerdict) -> str:
    missed = dict.fromkeys(row.model.format for claim in verdict.claims for row, _ in claim.ineligible)
    gate = f"{', '.join(missed)} files are small and fast but not eligible, because they miss their accuracy target"
    if (slowest := _slow_int8(summary)) is None:
        return f"{gate[0].upper()}{gate[1:]}." if missed else ""
    return (
        f"A quantized file is not always faster: {slowest.row.model.file} on {slowest.row.result.unit.engine} "
        f"takes {slowest.times:.1f} times as long as fp32, because {slowest.why}{f'; {gate}' if missed else ''}."
    )


def _slow_int8(summary: Summary) -> FloatComparison | None:
    """MobileNetV2's int8 unit with one thread that is slowest relative to its fp32 file, if the reason is known."""
    found = (
        each
        for each in compare_with_float(summary).values()
        if each.why and (each.row.model.backbone, each.row.model.format) == (_SUBJECT, "int8")
        if each.row.result.unit.threads == 1
    )
    return max(found, key=lambda each: each.times, default=None)


def _of(claims: Iterable[Claim], name: Property) -> list[Claim]:
    return [claim for claim in claims if claim.property == name]


def _range(claims: Iterable[Claim]) -> str:
    effects = sorted(claim.effect for claim in claims if claim.effect is not None)
    return " to ".join(dict.fromkeys(f"{effect:.2f}" for effect in (effects[0], effects[-1])))


def _listed(found: OverTrainings) -> str:
    *first, last = (f"{each.value:+.3f}" for each in found.by_seed.values())
    return f"{', '.join(first)} and {last} by seed"
