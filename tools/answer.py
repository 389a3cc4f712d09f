"""Says whether MobileNetV2 is the more efficient backbone, from the benchmark and the scores of all trainings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pneumo_edge.benchmarks.claims import Property
from pneumo_edge.benchmarks.float_baseline import FloatComparison, compare_with_float
from pneumo_edge.benchmarks.report.sections.claims import where
from pneumo_edge.benchmarks.summary import CLOCK_TITLES, Summary, deciding_clock
from pneumo_edge.benchmarks.verdict import BenchmarkVerdict, Claim
from pneumo_edge.evaluation.comparison import paired_auc
from pneumo_edge.evaluation.metrics import Interval
from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN, Outcome, settle
from pneumo_edge.evaluation.seeds import over_seeds
from pneumo_edge.scoring.scores import EvaluationScores, FileScores

_SUBJECT, _OTHER = "mobilenetv2", "efficientnetb0"
#: The formats that were scored for every training.
_FORMATS = ("fp32", "int8")
_SETTLED: dict[Outcome, str] = {
    "supported": "MobileNetV2 is as good within a margin of",
    "refuted": "MobileNetV2 is worse by more than a margin of",
    "not separable": "the two are not separable at a margin of",
}
_OTHERWISE: dict[Outcome, str] = {"refuted": "slower", "not separable": "not separable"}


@dataclass(frozen=True)
class OverTrainings:
    """The AUC of MobileNetV2 minus that of EfficientNetB0 in one format, for each pair of trainings.

    Attributes:
        format: The format of the files.
        by_seed: The difference for each seed, with its interval by patient.
        mean: The mean over seeds, with Student's interval.
        outcome: Whether MobileNetV2 is as accurate, by that interval and the margin of the claim.
    """

    format: str
    by_seed: dict[int, Interval]
    mean: Interval
    outcome: Outcome


def over_trainings(scores: EvaluationScores, file_format: str) -> OverTrainings:
    """Compare the trainings of both backbones that have the same seed.

    Args:
        scores: Files of at least two trainings of each backbone on one set of images.
        file_format: The format to compare.

    Raises:
        ValueError: Fewer than two seeds have such a file of both backbones.
    """
    labels = np.array([image.label for image in scores.data.images], dtype=np.int64)
    patients = [image.patient for image in scores.data.images]
    own, other = (_by_seed(scores.files, backbone, file_format) for backbone in (_SUBJECT, _OTHER))
    by_seed = {
        seed: paired_auc(labels, np.array(own[seed].probabilities), np.array(other[seed].probabilities), patients)
        for seed in sorted(own.keys() & other.keys())
    }
    mean = over_seeds([each.value for each in by_seed.values()]).mean
    return OverTrainings(file_format, by_seed, mean, settle(mean, -ACCURACY_MARGIN))


def _by_seed(files: Iterable[FileScores], backbone: str, file_format: str) -> dict[int, FileScores]:
    return {
        file.model.seed: file for file in files if (file.model.backbone, file.model.format) == (backbone, file_format)
    }


def answer(summary: Summary, verdict: BenchmarkVerdict, scores: EvaluationScores) -> str:
    """The answer in at most six sentences.

    Args:
        summary: The benchmark.
        verdict: What it settles.
        scores: Files of several trainings of each backbone on the test images.
    """
    fp32, int8 = (over_trainings(scores, file_format) for file_format in _FORMATS)
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


def brief(summary: Summary, verdict: BenchmarkVerdict, scores: EvaluationScores) -> str:
    """The answer in three sentences, for the README.

    Args:
        summary: The benchmark.
        verdict: What it settles.
        scores: Files of several trainings of each backbone on the test images.
    """
    fp32, int8 = (over_trainings(scores, file_format) for file_format in _FORMATS)
    smaller, faster = _of(verdict.claims, "smaller"), _of(verdict.claims, "faster")
    supported = [claim for claim in faster if claim.outcome == "supported"]
    machine = summary.results.machine
    return (
        f"MobileNetV2's files have {_range(smaller)} times the size of EfficientNetB0's in the same format. "
        f"They are faster in {len(supported)} of {len(faster)} comparisons over formats, engines and threads "
        f"({machine.cpu}, {machine.cores} cores). "
        f"In accuracy {_SETTLED[fp32.outcome]} {ACCURACY_MARGIN:g}: over {len(fp32.by_seed)} trainings of each, "
        f"MobileNetV2's test AUC differs by {fp32.mean.signed} in fp32 and by {int8.mean.signed} in int8."
    )


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
    return (
        f"In accuracy, {_SETTLED[found.outcome]} {ACCURACY_MARGIN:g}: over {len(found.by_seed)} trainings of each, the "
        f"test AUC of MobileNetV2's fp32 files minus that of EfficientNetB0's is {_listed(found)}, on average "
        f"{found.mean.signed}{', so one training of each can favour either' * either}."
    )


def _quantized(found: OverTrainings) -> str:
    return (
        f"For int8 files the differences are {_listed(found)}, on average {found.mean.signed} ({found.outcome}); "
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
