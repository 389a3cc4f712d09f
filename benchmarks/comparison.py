"""Compares two runs of the benchmark: the same units on two machines, in two versions or on two dates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pneumo_edge.benchmarks import statistics
from pneumo_edge.benchmarks.measures.latency import Latency
from pneumo_edge.benchmarks.protocol import Unit
from pneumo_edge.benchmarks.results import TestSet
from pneumo_edge.benchmarks.summary import Row, Summary, deciding_clock
from pneumo_edge.benchmarks.sustained.summary import Course
from pneumo_edge.errors import ResultsError
from pneumo_edge.evaluation.comparison import paired_accuracy, paired_auc
from pneumo_edge.evaluation.metrics import Interval, decide
from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN

#: Probability of any false alarm, over all units, where two runs do not differ.
FALSE_ALARMS = 0.05
#: An interval that includes twice as much is too wide to say anything about a few percent. So is an interval of a
#: difference in AUC or accuracy that includes this loss.
_TOO_WIDE, _TOO_WIDE_LOSS = 2.0, 0.2
#: Probabilities that differ by at most this count as equal, because engines round differently.
SAME_ANSWER = 1e-3

#: With one thread CPU time decides. Where only wall time grew by more than this share, a user still waits longer.
_WALL_ALONE = 0.25

#: The measures that are compared. Costs are compared by ratio, qualities by difference on the same images.
Measure = Literal["inference", "end to end", "memory", "AUC", "accuracy", "sensitivity", "specificity"]
COSTS: tuple[Measure, ...] = ("inference", "end to end", "memory")
QUALITIES: tuple[Measure, ...] = ("AUC", "accuracy", "sensitivity", "specificity")
#: Measures that depend on the images of a run; their size decides the decoding time and the memory.
_OF_IMAGES: tuple[Measure, ...] = ("end to end", "memory", *QUALITIES)


@dataclass(frozen=True)
class Finding:
    """The difference in one measure between two runs.

    Attributes:
        interval: The ratio of the second run to the first over unpaired processes, or the difference on the same
            images, with its 95 % interval; None where they cannot be compared.
        outcome: "worse" where the evidence is clear, "no regression", or "cannot tell".
        why: Why the outcome is "cannot tell", or why nothing changed; "" otherwise.
    """

    interval: Interval | None
    outcome: Literal["worse", "no regression", "cannot tell"]
    why: str = ""


@dataclass(frozen=True)
class UnitComparison:
    """A unit in two runs, with the finding for each measure.

    ``courses`` has how its time changed while it ran alone for a long time, where both runs measured that.
    """

    before: Row
    after: Row
    findings: dict[Measure, Finding]
    courses: tuple[Course, Course] | None = None

    @property
    def ratios(self) -> dict[str, Interval]:
        """Ratios of the second run to the first, with their 95 % intervals, by measure."""
        return {name: found.interval for name, found in self.findings.items() if name in COSTS and found.interval}

    @property
    def regressions(self) -> tuple[Measure, ...]:
        """Measures that are worse."""
        return tuple(name for name, found in self.findings.items() if found.outcome == "worse")

    @property
    def untold(self) -> dict[Measure, str]:
        """Measures with the outcome "cannot tell", with the reasons."""
        return {name: found.why for name, found in self.findings.items() if found.outcome == "cannot tell"}

    @property
    def same_file(self) -> bool:
        """Whether both runs measured a file with the same bytes."""
        return self.before.model.sha256 == self.after.model.sha256


@dataclass(frozen=True)
class RunComparison:
    """The comparison of two runs.

    Attributes:
        units: Units that both runs measured.
        only_before: Units of the first run that the second lacks.
        only_after: Units that only the second has.
        same_images: Whether both used the same test images; if not, only measures that do not depend on them are
            compared.
        without_noise: Engines, with their threads, whose noise is not known because a run has no A/A unit for them.
    """

    units: tuple[UnitComparison, ...]
    only_before: tuple[Unit, ...]
    only_after: tuple[Unit, ...]
    same_images: bool
    without_noise: tuple[str, ...]

    @property
    def worse(self) -> bool:
        """Whether anything is worse."""
        return any(each.regressions for each in self.units)

    @property
    def passes(self) -> bool:
        """Whether nothing is worse, nothing is missing, and no outcome is "cannot tell"."""
        return not self.worse and not self.only_before and not any(each.untold for each in self.units)


def compare(before: Summary, after: Summary, allowed: float = 0.0) -> RunComparison:
    """Compare the units that two runs have in common, by file name, engine and number of threads.

    Time and memory are worse where the whole interval of the ratio lies above one plus the allowed share, and above
    the noise that either run's A/A unit showed. AUC, accuracy, sensitivity and specificity are worse where the whole
    interval of the difference on the same images lies below zero. The intervals are widened for the number of measures
    and units (Bonferroni), so that many units do not cause many false alarms. Where both runs used a file with the
    same bytes, chance cannot change its answers: a quality is worse where it lost more than the margin
    (:data:`~pneumo_edge.evaluation.outcomes.ACCURACY_MARGIN`) and more than one image.

    The outcome is "cannot tell"

    - for a ratio without an interval (one process), or whose interval includes twice as much;
    - for a ratio above the allowed share whose interval includes it, or that is within the noise;
    - for CPU time where only wall time grew;
    - for the AUC of a file with other bytes where the interval includes a loss of the margin;
    - for other qualities where there are too few images.

    Where a unit gave the same answers in both runs, no quality changed.

    Args:
        before: The first run.
        after: The second run.
        allowed: The share by which time and memory may be worse.

    Raises:
        ResultsError: They have no unit in common.
    """
    known = {row.result.unit: row for row in before.rows}
    pairs = [(known[row.result.unit], row) for row in after.rows if row.result.unit in known]
    if not pairs:
        raise ResultsError(
            "the two results have no unit in common",
            "files with the same names on the same engines and threads",
            "Benchmark the same files again",
        )
    comparer = _Comparer(before, after, allowed, 1 - FALSE_ALARMS / (len(COSTS + QUALITIES) * len(pairs)))
    later = {row.result.unit for row in after.rows}
    places = dict.fromkeys((one.result.unit.engine, one.result.unit.threads) for one, _ in pairs)
    return RunComparison(
        tuple(
            UnitComparison(one, other, dict(comparer.findings(one, other)), _courses(before, one, after, other))
            for one, other in pairs
        ),
        tuple(unit for unit in known if unit not in later),
        tuple(row.result.unit for row in after.rows if row.result.unit not in known),
        comparer.same_images,
        tuple(
            engine if threads == 1 else f"{engine}, {threads} threads"
            for engine, threads in places
            if any(_noise(run, engine, threads) is None for run in (before, after))
        ),
    )


def _courses(before: Summary, one: Row, after: Summary, other: Row) -> tuple[Course, Course] | None:
    first, second = before.course(one), after.course(other)
    return (first, second) if first and second else None


def _images(test_set: TestSet | None) -> tuple[object, ...]:
    """What two runs on the same images have in common; empty of a run without a data set."""
    return (test_set.fingerprint, test_set.labels, test_set.task) if test_set else ()


class _Comparer:
    def __init__(self, before: Summary, after: Summary, allowed: float, confidence: float) -> None:
        self._before, self._after = before, after
        self._allowed, self._confidence = allowed, confidence
        one, other = before.results.test_set, after.results.test_set
        # The fingerprint covers the content and the labels cover the names, by which images are paired.
        self.same_images = _images(one) == _images(other)

    def findings(self, before: Row, after: Row) -> Iterator[tuple[Measure, Finding]]:
        unit = after.result.unit
        noises = [_noise(run, unit.engine, unit.threads) or 0.0 for run in (self._before, self._after)]
        # Where the A/A unit has no interval, the intervals of the units show the noise.
        noise = max(noise for noise in (0.0, *noises) if np.isfinite(noise))
        calls: dict[Measure, tuple[Latency, Latency]] = {"inference": (after.inference, before.inference)}
        if after.file_to_verdict and before.file_to_verdict:
            calls["end to end"] = after.file_to_verdict, before.file_to_verdict
        for name, (later, earlier) in calls.items():
            if self.same_images or name not in _OF_IMAGES:
                has_cpu = bool(later.cpu_medians_ms and earlier.cpu_medians_ms)
                clock = deciding_clock(unit.threads, has_cpu=has_cpu)
                yield name, self._time(later, earlier, noise, by_cpu=clock == "cpu")
        if self.same_images:
            if after.memory_bytes and before.memory_bytes:
                yield "memory", self._cost(after.memory_bytes, before.memory_bytes, noise)
            if after.accuracy and before.accuracy:
                yield from self._qualities(before, after)
        else:
            for name in _OF_IMAGES:
                yield name, Finding(None, "cannot tell", "the runs used different test images")

    def _time(self, after: Latency, before: Latency, noise: float, *, by_cpu: bool) -> Finding:
        if not by_cpu:
            return self._cost(after.wall_medians_ms, before.wall_medians_ms, noise)
        found = self._cost(after.cpu_medians_ms, before.cpu_medians_ms, noise)
        wall = statistics.unpaired_ratio(after.wall_medians_ms, before.wall_medians_ms, confidence=self._confidence)
        if (
            found.outcome == "no regression"
            and statistics.relation(wall, max(self._allowed, _WALL_ALONE, noise)) == "more"
        ):
            why = f"wall time is {wall.value:.2f} times as long, CPU time is not"
            return Finding(found.interval, "cannot tell", why)
        return found

    def _cost(self, after: statistics.Values, before: statistics.Values, noise: float) -> Finding:
        allowed = max(self._allowed, statistics.LEAST_DIFFERENCE)
        if min(*after, *before) <= 0:
            return Finding(None, "cannot tell", "not above the memory of the imports")
        ratio = statistics.unpaired_ratio(after, before)
        strict = statistics.unpaired_ratio(after, before, confidence=self._confidence)
        if statistics.relation(strict, max(allowed, noise)) == "more":
            return Finding(ratio, "worse")
        if np.isinf(ratio.high):
            return Finding(ratio, "cannot tell", "no interval from one process")
        if ratio.high > _TOO_WIDE * (1 + allowed):
            return Finding(ratio, "cannot tell", "the interval includes twice as much")
        if ratio.value > 1 + allowed:
            why = "by chance" if ratio.value > 1 + noise else f"by noise: an A/A unit showed {noise:.1%}"
            return Finding(ratio, "cannot tell", f"more than {1 + allowed:.2f} times, possibly {why}")
        return Finding(ratio, "no regression")

    def _qualities(self, before: Row, after: Row) -> Iterator[tuple[Measure, Finding]]:
        labels, patients = self._after.labels, self._after.patients
        one, other = self._after.scores(after), self._before.scores(before)
        right = [decide(scores, row.model.threshold) == labels for scores, row in ((one, after), (other, before))]
        of: dict[Measure, npt.NDArray[np.bool_]] = {
            "accuracy": np.full(len(labels), True),
        }
        if after.model.threshold is not None:
            of |= {"sensitivity": labels == 1, "specificity": labels == 0}
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
            # A few probabilities always lie near the threshold, so one changed decision is not yet a loss.
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
                yield name, Finding(difference, "cannot tell", f"{change} on {images} images, possibly by chance")


def _hardly_changed(difference: Interval, margin: float) -> bool:
    """Whether at most the margin was lost on these images, and they are enough to tell."""
    return difference.value >= -margin and difference.low > -_TOO_WIDE_LOSS


def _noise(summary: Summary, engine: str, threads: int) -> float | None:
    """The noise that a run's A/A unit showed, as a share; None where the run has no A/A unit."""
    tests = (test for test in summary.null_tests if (test.engine, test.threads) == (engine, threads))
    test = next(tests, None)
    return test.band if test else None
