"""The claims that are asked of results: each a record, so that a claim is added by a row of :data:`CLAIMS`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks.statistics import LEAST_DIFFERENCE
from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN

#: What is claimed of one backbone's file beside another's.
Property = Literal[
    "faster", "smaller", "lighter in memory", "as accurate", "faster and as accurate", "keeps more AUC when quantized"
]


@dataclass(frozen=True)
class AskedClaim:
    """A claim that is asked wherever the results hold files of both backbones in one format, on one engine.

    Attributes:
        challenger: The backbone that is claimed to have the property; None for every backbone but the reference.
        reference: The backbone that it is compared with.
        property: What is claimed.
        margin: What the evidence has to clear. A share of the ratio for "faster", "lighter in memory" and "smaller"
            (for the first, the noise of the run counts instead where it is more); a loss of AUC that does not matter
            for "as accurate" and "faster and as accurate"; a gain of AUC for "keeps more AUC when quantized".
    """

    challenger: str | None
    reference: str
    property: Property
    margin: float = 0.0

    def is_of(self, subject: str, other: str) -> bool:
        """Whether it is asked of these two backbones, in this order."""
        return other == self.reference and subject != self.reference and self.challenger in (None, subject)


#: Every network that is measured, MobileNetV2 first of all, beside EfficientNetB0.
CLAIMS: tuple[AskedClaim, ...] = (
    AskedClaim(None, "efficientnetb0", "faster", LEAST_DIFFERENCE),
    AskedClaim(None, "efficientnetb0", "smaller"),
    AskedClaim(None, "efficientnetb0", "lighter in memory", LEAST_DIFFERENCE),
    AskedClaim(None, "efficientnetb0", "as accurate", ACCURACY_MARGIN),
    AskedClaim(None, "efficientnetb0", "faster and as accurate", ACCURACY_MARGIN),
    AskedClaim(None, "efficientnetb0", "keeps more AUC when quantized"),
)


def backbones(asked: Iterable[AskedClaim]) -> str:
    """Of which backbones claims are asked, in words: every pair once, challengers before the reference."""
    pairs = dict.fromkeys((claim.challenger, claim.reference) for claim in asked)
    return ", ".join(
        f"{backbone_title(challenger) if challenger else 'every other backbone'} beside {backbone_title(reference)}"
        for challenger, reference in pairs
    )
