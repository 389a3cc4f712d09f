"""Two runs of the benchmark: what the same units take on two machines, of two versions, or on two dates."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import statistics
from benchmarks.summary import Row, Summary
from pneumo_edge.errors import ResultsError
from pneumo_edge.evaluation.metrics import Interval

#: Probability that a comparison of two runs that are alike raises any alarm, over all its units.
FALSE_ALARMS = 0.05


@dataclass(frozen=True)
class Compared:
    """A unit in two runs. Ratios are of the second run to the first, over processes that are not paired.

    Attributes:
        before: The unit in the first run.
        after: The unit in the second.
        ratios: By measure ("inference", "file to verdict" in CPU time, "memory"), with 95 % intervals.
        regressions: Measures that are worse by more than the share asked for, beyond doubt.
    """

    before: Row
    after: Row
    ratios: dict[str, Interval]
    regressions: tuple[str, ...]

    @property
    def same_file(self) -> bool:
        """Whether both runs measured the very same file."""
        return self.before.model.sha256 == self.after.model.sha256


def compare(before: Summary, after: Summary, allowed: float = 0.0) -> tuple[Compared, ...]:
    """Compare the units that two runs have in common, by the name of the file, the engine and the threads.

    A measure is a regression only where the whole interval lies above one plus the share allowed, and above
    what either run's A/A unit showed. So that many units do not make many alarms, that interval is the wider
    one for all ratios together (Bonferroni).

    Args:
        before: The first run.
        after: The second run.
        allowed: By what share a measure may be worse.

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
    confidence = 1 - FALSE_ALARMS / (3 * len(pairs))
    return tuple(
        _compare(one, other, max(allowed, _noise(before, one), _noise(after, other)), confidence)
        for one, other in pairs
    )


def _compare(before: Row, after: Row, allowed: float, confidence: float) -> Compared:
    values = {
        "inference": (after.inference.cpu_medians_ms, before.inference.cpu_medians_ms),
        "file to verdict": (after.file_to_verdict.cpu_medians_ms, before.file_to_verdict.cpu_medians_ms),
        "memory": (after.memory_bytes, before.memory_bytes),
    }
    known = {name: pair for name, pair in values.items() if min(*pair[0], *pair[1]) > 0}
    return Compared(
        before,
        after,
        {name: statistics.unpaired_ratio(*pair) for name, pair in known.items()},
        tuple(
            name
            for name, pair in known.items()
            if statistics.judge(statistics.unpaired_ratio(*pair, confidence=confidence), allowed) == "more"
        ),
    )


def _noise(summary: Summary, row: Row) -> float:
    unit = row.result.unit
    return next(
        statistics.reach(test.inference)
        for test in summary.null_tests
        if (test.engine, test.threads) == (unit.engine, unit.threads)
    )
