"""The claims that a benchmark decides. To add one, add a row to :data:`CLAIMS`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks.statistics import LEAST_DIFFERENCE
from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN

#: The property that one backbone's file is claimed to have, compared with another's.
Property = Literal[
    "faster", "smaller", "lighter in memory", "as accurate", "faster and as accurate", "keeps more AUC when quantized"
]


@dataclass(frozen=True)
class AskedClaim:
    """A claim that is asked wherever the results have files of both backbones in the same format, on the same engine.

    Attributes:
        challenger: The backbone that is claimed to have the property; None for every backbone but the reference.
        reference: The backbone that it is compared with.
        property: The property.
        margin: The evidence must exceed this margin. For "faster", "lighter in memory" and "smaller" it is a share of
            the ratio; for "faster", the noise of the run replaces it where the noise is larger. For "as accurate" and
            "faster and as accurate" it is the largest loss of AUC that counts as none; the speed half of the second
            uses :data:`~pneumo_edge.benchmarks.statistics.LEAST_DIFFERENCE`. For "keeps more AUC when quantized" it is
            a gain of AUC.
    """

    challenger: str | None
    reference: str
    property: Property
    margin: float = 0.0

    def is_of(self, subject: str, other: str) -> bool:
        """Whether the claim is asked of these two backbones, in this order."""
        return other == self.reference and subject != self.reference and self.challenger in (None, subject)


#: Every measured backbone, above all MobileNetV2, is compared with EfficientNetB0.
CLAIMS: tuple[AskedClaim, ...] = (
    AskedClaim(None, "efficientnetb0", "faster", LEAST_DIFFERENCE),
    AskedClaim(None, "efficientnetb0", "smaller"),
    AskedClaim(None, "efficientnetb0", "lighter in memory", LEAST_DIFFERENCE),
    AskedClaim(None, "efficientnetb0", "as accurate", ACCURACY_MARGIN),
    AskedClaim(None, "efficientnetb0", "faster and as accurate", ACCURACY_MARGIN),
    AskedClaim(None, "efficientnetb0", "keeps more AUC when quantized"),
)


def backbones(asked: Iterable[AskedClaim]) -> str:
    """The pairs of backbones that claims are asked of, in words; each pair once, the challenger first."""
    pairs = dict.fromkeys((claim.challenger, claim.reference) for claim in asked)
    return ", ".join(
        f"{backbone_title(challenger) if challenger else 'every other backbone'} against {backbone_title(reference)}"
        for challenger, reference in pairs
    )
