"""What the evidence for a claim is, in numbers: records, of which :mod:`pneumo_edge.benchmarks.sentences` makes words.

They are parts of ``verdict.json``, so each number can be said in JSON: an end of an interval that is infinite is None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pneumo_edge._util.records import Count, Share
from pneumo_edge.benchmarks.summary import Clock
from pneumo_edge.evaluation.intervals import Interval

#: Why the evidence leaves a claim open: its interval reaches into the band or over the margin; the noise of this
#: machine is not known; the file that would win was timed too little; there are too few test images; the imports of a
#: process took more memory than its model; or one of the two claims that it is made of is open.
WhyOpen = Literal[
    "interval", "noise not known", "too little timed", "too few images", "memory not measurable", "a part is open"
]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; ``high`` is None where the interval has no upper end."""

    value: float
    low: float
    high: float | None

    @classmethod
    def of(cls, found: Interval) -> Estimate:
        """The same numbers as an interval's."""
        return cls(found.value, found.low, found.high if math.isfinite(found.high) else None)

    @property
    def interval(self) -> Interval:
        """The same numbers as an interval."""
        return Interval(self.value, self.low, math.inf if self.high is None else self.high)


@dataclass(frozen=True)
class FewImages:
    """Test images of the smaller class, and the patients that they are of: too few for a claim on accuracy."""

    images: Count
    patients: Count


@dataclass(frozen=True)
class MissedGate:
    """A file that misses its accuracy gate: its AUC is less than ``least_share`` of that of ``reference``.

    ``few`` tells of too few test images; it is None where there are enough.
    """

    file: str
    auc: float
    reference: str
    reference_auc: float
    least_share: Share
    few: FewImages | None


@dataclass(frozen=True)
class TooLittleTimed:
    """A file that cannot win by its times, and what of its timing falls short of the preset."""

    file: str
    shortfalls: tuple[str, ...]


@dataclass(frozen=True)
class TimeEvidence:
    """How many times as fast the subject is.

    Attributes:
        by_clock: The ratio by clock, ``cpu`` and ``wall``.
        deciding: The clock that decides.
        processes: Processes that timed both files.
        aa_unit: Whether an A/A unit ran beside them.
        aa_band: The band of the ratio that counts as none, as a share; None where it is not known.
        cannot_win: The file that would win, where it was timed too little.
    """

    by_clock: dict[str, Estimate]
    deciding: Clock
    processes: Count
    aa_unit: bool
    aa_band: float | None
    cannot_win: TooLittleTimed | None


@dataclass(frozen=True)
class SizeEvidence:
    """Bytes of both files, and how many times the other's the subject's are."""

    subject_bytes: Count
    other_bytes: Count
    times: float


@dataclass(frozen=True)
class MemoryEvidence:
    """Peak memory over a process's imports: medians in bytes, and how many times the other's the subject's is.

    ``times`` is None where the imports of a process took more memory than its model.
    """

    subject_bytes: float
    other_bytes: float
    times: Estimate | None
    processes: Count


@dataclass(frozen=True)
class AccuracyEvidence:
    """The subject less the other on the same test images.

    Attributes:
        auc: Difference in AUC, with the interval of the bootstrap by patient.
        accuracy: Difference in accuracy, likewise.
        delong_p: Two-sided p-value of DeLong's test; None where it is not defined.
        mcnemar_p: Two-sided p-value of McNemar's exact test.
        only_subject_right: Images that the subject alone decides rightly.
        only_other_right: Images that the other alone decides rightly.
        margin: The loss of AUC that does not matter.
        few: Tells of too few test images; None where there are enough.
    """

    auc: Estimate
    accuracy: Estimate
    delong_p: Share | None
    mcnemar_p: Share
    only_subject_right: Count
    only_other_right: Count
    margin: float
    few: FewImages | None


@dataclass(frozen=True)
class QuantizationEvidence:
    """AUC that each file lost from its fp32 file, and what the subject kept more; intervals by DeLong, paired.

    ``few`` tells of too few test images; it is None where there are enough.
    """

    subject_loss: Estimate
    other_loss: Estimate
    kept: Estimate
    few: FewImages | None


@dataclass(frozen=True)
class Evidence:
    """The evidence for a claim: the parts that its property rests on; the others are None."""

    time: TimeEvidence | None = None
    size: SizeEvidence | None = None
    memory: MemoryEvidence | None = None
    accuracy: AccuracyEvidence | None = None
    quantization: QuantizationEvidence | None = None
