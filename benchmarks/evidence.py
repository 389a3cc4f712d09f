"""The evidence for a claim in numbers. :mod:`pneumo_edge.benchmarks.sentences` turns it into sentences.

The records are parts of ``verdict.json``. JSON has no infinity, so an infinite end of an interval is None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pneumo_edge._util.records import Count, Share
from pneumo_edge.benchmarks.summary import Clock
from pneumo_edge.evaluation.intervals import Interval

#: Why a claim is not separable: the interval overlaps the band or the margin; the noise of this machine is not known;
#: the faster file was not timed enough; there are too few test images; importing the libraries took more memory than
#: the model; or one of the two claims that it combines is not separable.
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
        """The estimate of an interval."""
        return cls(found.value, found.low, found.high if math.isfinite(found.high) else None)

    @property
    def interval(self) -> Interval:
        """The estimate as an interval."""
        return Interval(self.value, self.low, math.inf if self.high is None else self.high)


@dataclass(frozen=True)
class FewImages:
    """The number of test images and patients of the smaller class, where they are too few for a claim on accuracy.

    ``patients`` is None where the source does not name them.
    """

    images: Count
    patients: Count | None


@dataclass(frozen=True)
class MissedGate:
    """A file that misses its accuracy target: its AUC is less than ``least_share`` of the AUC of ``reference``.

    ``few`` is set where there are too few test images, and None otherwise.
    """

    file: str
    auc: float
    reference: str
    reference_auc: float
    least_share: Share
    few: FewImages | None


@dataclass(frozen=True)
class TooLittleTimed:
    """A file that was timed less than the preset requires, and what is missing. It cannot be called faster."""

    file: str
    shortfalls: tuple[str, ...]


@dataclass(frozen=True)
class TimeEvidence:
    """How many times as fast the subject is.

    Attributes:
        by_clock: The ratio for each clock, ``cpu`` and ``wall``; without ``cpu`` where CPU time was not measured.
        deciding: The clock that decides the claim.
        processes: Number of processes that timed both files.
        aa_unit: Whether an A/A unit was measured beside them.
        aa_band: Differences up to this share count as none; None where the noise is not known.
        cannot_win: The file with the better times, where it was not timed enough.
    """

    by_clock: dict[str, Estimate]
    deciding: Clock
    processes: Count
    aa_unit: bool
    aa_band: float | None
    cannot_win: TooLittleTimed | None


@dataclass(frozen=True)
class SizeEvidence:
    """Sizes of both files in bytes, and the ratio of the subject's size to the other's."""

    subject_bytes: Count
    other_bytes: Count
    times: float


@dataclass(frozen=True)
class MemoryEvidence:
    """Peak memory above the imports: medians in bytes, and the ratio of the subject's memory to the other's.

    ``times`` is None where importing the libraries took more memory than the model.
    """

    subject_bytes: float
    other_bytes: float
    times: Estimate | None
    processes: Count


@dataclass(frozen=True)
class AccuracyEvidence:
    """The subject minus the other on the same test images.

    Attributes:
        auc: Difference in AUC, with the interval of a bootstrap over patients.
        accuracy: Difference in accuracy, with the same kind of interval.
        delong_p: Two-sided p-value of DeLong's test; None where it is not defined.
        mcnemar_p: Two-sided p-value of McNemar's exact test.
        only_subject_right: Images that only the subject classifies correctly.
        only_other_right: Images that only the other classifies correctly.
        margin: A loss of AUC of at most this counts as none.
        few: Set where there are too few test images; None otherwise.
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
    """The loss of AUC of each file against its fp32 file, and how much less the subject lost.

    The intervals are paired, by DeLong. ``few`` is set where there are too few test images, and None otherwise.
    """

    subject_loss: Estimate
    other_loss: Estimate
    kept: Estimate
    few: FewImages | None


@dataclass(frozen=True)
class Evidence:
    """The evidence for a claim. Parts that do not concern its property are None."""

    time: TimeEvidence | None = None
    size: SizeEvidence | None = None
    memory: MemoryEvidence | None = None
    accuracy: AccuracyEvidence | None = None
    quantization: QuantizationEvidence | None = None
