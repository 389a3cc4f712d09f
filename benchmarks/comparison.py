"""Two runs of the benchmark: what the same units take on two machines, of two versions, or on two dates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pneumo_edge.benchmarks import statistics
from pneumo_edge.benchmarks.measures.latency import Latency
from pneumo_edge.benchmarks.protocol import Unit
from pneumo_edge.benchmarks.summary import Row, Summary, deciding_clock
from pneumo_edge.errors import ResultsError
from pneumo_edge.evaluation.comparison import paired_accuracy, paired_auc
from pneumo_edge.evaluation.metrics import Interval, decide
from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN

#: Probability that a comparison of two runs that are alike raises any alarm, over all its units.
FALSE_ALARMS = 0.05
#: An interval that does not leave out twice as much tells nothing of a few percent; nor does one of an AUC or accuracy
#: that does not leave out this loss.
_TOO_WIDE, _TOO_WIDE_LOSS = 2.0, 0.2
#: Probabilities that differ by no more than this are one answer: engines round in their own ways.
SAME_ANSWER = 1e-3

#: At one thread CPU time decides. Where wall time alone grew by more than this share, a user waits longer all the same.
_WALL_ALONE = 0.25

#: What is compared: costs are ratios, qualities differences on the same images.
Measure = Literal["inference", "file to verdict", "memory", "AUC", "accuracy", "sensitivity", "specificity"]
COSTS: tuple[Measure, ...] = ("inference", "file to verdict", "memory")
QUALITIES: tuple[Measure, ...] = ("AUC", "accuracy", "sensitivity", "specificity")
#: What depends on the images that a run judged: their size decides what decoding takes, and memory with it.
_OF_IMAGES: tuple[Measure, ...] = ("file to verdict", "memory", *QUALITIES)


@dataclass(frozen=True)
class Finding:
    """A measure in two runs: how the second differs from the first.

    Attributes:
        interval: The ratio of the second run to the first over processes that are not paired, or the difference
            over the same images, with its 95 % interval; None where they cannot be compared.
        outcome: "worse" beyond doubt, "no regression", or "cannot tell".
        why: Why it cannot be told, or why nothing changed; "" otherwise.
    """

    interval: Interval | None
    outcome: Literal["worse", "no regression", "cannot tell"]
    why: str = ""


@dataclass(frozen=True)
class UnitComparison:
    """A unit in two runs, with what was found of each measure."""

    before: Row
    after: Row
    findings: dict[Measure, Finding]

    @property
    def ratios(self) -> dict[str, Interval]:
        """Ratios of the second run to the first, with their 95 % intervals, by measure."""
        return {name: found.interval for name, found in self.findings.items() if name in COSTS and found.interval}

    @property
    def regressions(self) -> tuple[Measure, ...]:
        """Measures that are worse beyond doubt."""
        return tuple(name for name, found in self.findings.items() if found.outcome == "worse")

    @property
    def untold(self) -> dict[Measure, str]:
        """Measures of which the runs do not tell, with the reasons."""
        return {name: found.why for name, found in self.findings.items() if found.outcome == "cannot tell"}

    @property
    def same_file(self) -> bool:
        """Whether both runs measured the very same file."""
        return self.before.model.sha256 == self.after.model.sha256


@dataclass(frozen=True)
class RunComparison:
    """Two runs side by side.

    Attributes:
        units: What both measured.
        only_before: Units of the first run that the second lacks.
        only_after: Units that only the second has.
        same_images: Whether both judged the same test images; where not, only what does not depend on them is
            compared.
        without_noise: Engines, with their threads, whose noise is not known, for want of an A/A unit in a run.
    """

    units: tuple[UnitComparison, ...]
    only_before: tuple[Unit, ...]
    only_after: tuple[Unit, ...]
    same_images: bool
    without_noise: tuple[str, ...]

    @property
    def worse(self) -> bool:
        """Whether anything is worse beyond doubt."""
        return any(each.regressions for each in self.units)

    @property
    def passes(self) -> bool:
        """Whether nothing is worse, nothing is missing, and of everything the runs tell."""
        return not self.worse and not self.only_before and not any(each.untold for each in self.units)


def compare(before: Summary, after: Summary, allowed: float = 0.0) -> RunComparison:
    """Compare the units that two runs have in common, by the name of the file, the engine and the threads.

    Time and memory are worse where the whole interval of their ratio lies above one plus the share allowed, and
    above what either run's A/A unit showed. AUC, accuracy, sensitivity and specificity are worse where the whole
    interval of their difference on the same images lies below zero. So that many units do not make many alarms, those
    intervals are the wider ones for all measures together (Bonferroni). The very same file gives the very same images
    other answers by no chance: they are worse where they lost more than the margin
    (:data:`~pneumo_edge.evaluation.outcomes.ACCURACY_MARGIN`), and more than one image.

    Nothing is told of a ratio without an interval (one process), of one whose interval does not leave out twice as
    much, or of one that is worse by more than the share allowed, yet not beyond doubt and the noise; nor of CPU time
    where wall time grew alone; nor of another file's AUC where the interval does not leave out a loss of the margin,
    or of anything that few images hardly tell. Where a unit gave the same answers in both runs, no quality changed.

    Args:
        before: The first run.
        after: The second run.
        allowed: By what share time and memory may be worse.

    Raises:
        ResultsError: They have no unit in common.
    """
    known = {row.result.unit: row for row in before.rows}
    pairs = [(known[row.result.unit], row) for row in after.rows if row.result.unit in known]
    if not pairs:
        raise ResultsError(
            "the two results have no unit in common",
            "files of the same names on the same engines and threads",
            "Measure the same files again",
        )
    judge = _Judge(before, after, allowed, 1 - FALSE_ALARMS / (len(COSTS + QUALITIES) * len(pairs)))
    later = {row.result.unit for row in after.rows}
    places = dict.fromkeys((one.result.unit.engine, one.result.unit.threads) for one, _ in pairs)
    return RunComparison(
        tuple(UnitComparison(one, other, dict(judge.findings(one, other))) for one, other in pairs),
        tuple(unit for unit in known if unit not in later),
        tuple(row.result.unit for row in after.rows if row.result.unit not in known),
        judge.same_images,
        tuple(
            engine if threads == 1 else f"{engine}, {threads} threads"
            for engine, threads in places
            if any(_noise(run, engine, threads) is None for run in (before, after))
        ),
    )


class _Judge:
    def __init__(self, before: Summary, after: Summary, allowed: float, confidence: float) -> None:
        self._before, self._after = before, after
        self._allowed, self._confidence = allowed, confidence
        one, other = before.results.test_set, after.results.test_set
        # The fingerprint goes by content, the labels by name: images are paired by their names.
        self.same_images = one.fingerprint == other.fingerprint and one.labels == other.labels

    def findings(self, before: Row, after: Row) -> Iterator[tuple[Measure, Finding]]:
        unit = after.result.unit
        noises = [_noise(run, unit.engine, unit.threads) or 0.0 for run in (self._before, self._after)]
        # A machine too noisy for an interval of its own A/A unit is told by the intervals of the units, too.
        noise = max(noise for noise in (0.0, *noises) if np.isfinite(noise))
        calls: dict[Measure, tuple[Latency, Latency]] = {
            "inference": (after.inference, before.inference),
            "file to verdict": (after.file_to_verdict, before.file_to_verdict),
        }
        for name, (later, earlier) in calls.items():
            if self.same_images or name not in _OF_IMAGES:
                yield name, self._time(later, earlier, noise, by_cpu=deciding_clock(unit.threads) == "cpu")
        if self.same_images:
            yield "memory", self._cost(after.memory_bytes, before.memory_bytes, noise)
            yield from self._qualities(before, after)
        else:
            for name in _OF_IMAGES:
                yield name, Finding(None, "cannot tell", "the runs judged other test images")

    def _time(self, after: Latency, before: Latency, noise: float, *, by_cpu: bool) -> Finding:
        if not by_cpu:
            return self._cost(after.wall_medians_ms, before.wall_medians_ms, noise)
        found = self._cost(after.cpu_medians_ms, before.cpu_medians_ms, noise)
        wall = statistics.unpaired_ratio(after.wall_medians_ms, before.wall_medians_ms, confidence=self._confidence)
        if (
            found.outcome == "no regression"
            and statistics.relation(wall, max(self._allowed, _WALL_ALONE, noise)) == "more"
        ):
            return Finding(found.interval, "cannot tell", f"wall time is {wall.value:.2f} times, CPU time is not")
        return found

    def _cost(self, after: statistics.Values, before: statistics.Values, noise: float) -> Finding:
        allowed = max(self._allowed, statistics.LEAST_DIFFERENCE)
        if min(*after, *before) <= 0:
            return Finding(None, "cannot tell", "it is not above that of the imports")
        ratio = statistics.unpaired_ratio(after, before)
        strict = statistics.unpaired_ratio(after, before, confidence=self._confidence)
        if statistics.relation(strict, max(allowed, noise)) == "more":
            return Finding(ratio, "worse")
        if np.isinf(ratio.high):
            return Finding(ratio, "cannot tell", "no interval from one process")
        if ratio.high > _TOO_WIDE * (1 + allowed):
            return Finding(ratio, "cannot tell", "the interval does not leave out twice as much")
        if ratio.value > 1 + allowed:
            why = "by chance" if ratio.value > 1 + noise else f"by noise: an A/A unit showed {noise:.1%}"
            return Finding(ratio, "cannot tell", f"more than {1 + allowed:.2f} times, perhaps {why}")
        return Finding(ratio, "no regression")

    def _qualities(self, before: Row, after: Row) -> Iterator[tuple[Measure, Finding]]:
        labels, patients = self._after.labels, self._after.patients
        one, other = self._after.scores(after), self._before.scores(before)
        right = [decide(scores, row.model.threshold) == labels for scores, row in ((one, after), (other, before))]
        of: dict[Measure, npt.NDArray[np.bool_]] = {
            "accuracy": np.full(len(labels), True),
            "sensitivity": labels == 1,
            "specificity": labels == 0,
        }
        found: dict[Measure, tuple[Interval, Interval]] = {
            "AUC": (
                paired_auc(labels, one, other, patients),
                paired_auc(labels, one, other, patients, self._confidence),
            )
        }
        for name, chosen in of.items():
            whose = [patient for patient, is_chosen in zip(patients, chosen, strict=True) if is_chosen]
            decided = right[0][chosen], right[1][chosen], whose
            found[name] = paired_accuracy(*decided), paired_accuracy(*decided, self._confidence)
        same = bool(np.abs(one - other).max() <= SAME_ANSWER) and bool(np.array_equal(right[0], right[1]))
        same_file = before.model.sha256 == after.model.sha256
        for name, (difference, strict) in found.items():
            # A few decisions always lie at the threshold: one that turns over is no loss of accuracy yet.
            by_value = same_file or name in of
            images = int(of[name].sum()) if name in of else len(labels)
            margin = max(ACCURACY_MARGIN, 1 / images)
            if strict.high < 0 or (same_file and difference.value < -margin):
                yield name, Finding(difference, "worse")
            elif same:
                yield name, Finding(difference, "no regression", "the same answers")
            elif difference.low > -ACCURACY_MARGIN or (by_value and _hardly_changed(difference, margin)):
                yield name, Finding(difference, "no regression")
            else:
                change = f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
                yield name, Finding(difference, "cannot tell", f"{change} on {images} images, perhaps by chance")


def _hardly_changed(difference: Interval, margin: float) -> bool:
    """Whether no more than the margin was lost on these images, and they are not too few to tell."""
    return difference.value >= -margin and difference.low > -_TOO_WIDE_LOSS


def _noise(summary: Summary, engine: str, threads: int) -> float | None:
    """What a run's A/A unit showed, as a share; None where the run has none."""
    tests = (test for test in summary.null_tests if (test.engine, test.threads) == (engine, threads))
    test = next(tests, None)
    return test.band if test else None
