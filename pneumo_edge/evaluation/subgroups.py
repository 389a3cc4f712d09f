"""How well a model finds each kind of the positive class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pneumo_edge.evaluation.metrics import Interval, Labels, wilson


@dataclass(frozen=True)
class KindSensitivity:
    """Positive images of one kind, and the share of them that is called positive."""

    images: int
    sensitivity: Interval


def sensitivity_by_kind(
    labels: Labels, decisions: npt.NDArray[np.bool_], kinds: Sequence[str]
) -> dict[str, KindSensitivity]:
    """Sensitivity for each kind apart.

    Args:
        labels: 0 or 1, shape (images,).
        decisions: True for class 1, shape (images,).
        kinds: Kind of each positive image, such as ``"bacteria"``; "" where it is not known.

    Returns:
        For each known kind, by name, its images and its sensitivity with the Wilson interval.

    Raises:
        ValueError: The arguments differ in length.
    """
    if not len(labels) == len(decisions) == len(kinds):
        raise ValueError(
            f"{len(labels)} labels, {len(decisions)} decisions and {len(kinds)} kinds are not of the same images"
        )
    found: dict[str, KindSensitivity] = {}
    kind_of = np.where(np.asarray(labels) == 1, np.asarray(kinds, dtype=np.str_), "")
    for kind in sorted(set(kind_of.tolist()) - {""}):
        called = np.asarray(decisions)[kind_of == kind]
        found[kind] = KindSensitivity(len(called), wilson(int(called.sum()), len(called)))
    return found
