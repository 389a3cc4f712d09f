"""Counterfactual validation: validation images that look as if they came from the machines of the other class.

Marks, border, tone and sharpness are those of a training image of another class; the lungs and the label stay. A
network that classifies by the lungs gives the same answers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pneumo_edge.data.tensors import Dataset
from pneumo_edge.evaluation.metrics import Labels, Scores, auc, decide
from pneumo_edge.runs import COUNTERFACTUAL
from pneumo_edge.training.exchange import Donors, Grey, erase, match_sharpness, match_tone, paste, take_border

#: Width of the ring that is exchanged, share of the side.
_BORDER = 0.1
#: The same donors for the runs of every seed.
_SEED = 20

#: An image, its index and label, and the donor; gives the changed image.
_Change = Callable[["_Validation", Grey], Grey]


class _Validation:
    """One validation image: its index and label, the donor's pixels, and two numbers that choose a mark."""

    def __init__(self, index: int, label: int, donors: Donors, rng: np.random.Generator) -> None:
        others = np.concatenate([of_class for other, of_class in donors.by_class.items() if other != label])
        self.index, self.label, self.donors = index, label, donors
        self.donor = donors.grey[others[rng.integers(len(others))]]
        self.of_mark = rng.uniform(0, 1, 2)


def _marks(image: _Validation, grey: Grey) -> Grey:
    places = image.donors.places
    if own := [place for place in places if image.index in place.images]:
        grey = erase(grey, own)
    if foreign := [place for place in places if place.label != image.label]:
        place = foreign[int(image.of_mark[0] * len(foreign))]
        grey = paste(grey, image.donors.grey[place.donors[int(image.of_mark[1] * len(place.donors))]], place)
    return grey


def _borders(image: _Validation, grey: Grey) -> Grey:
    return take_border(grey, image.donor, (_BORDER,) * 4)


def _tone(image: _Validation, grey: Grey) -> Grey:
    return match_tone(grey, image.donor)


def _sharpness(image: _Validation, grey: Grey) -> Grey:
    return match_sharpness(grey, image.donor)


def _all(image: _Validation, grey: Grey) -> Grey:
    for change in (_tone, _sharpness, _borders, _marks):
        grey = change(image, grey)
    return grey


#: What is exchanged, by name.
KINDS: dict[str, _Change] = {
    "marks": _marks,
    "borders": _borders,
    "tone": _tone,
    "sharpness": _sharpness,
    "all": _all,
}


def column(kind: str) -> str:
    """The column of ``validation.csv`` that holds the scores of a kind."""
    return COUNTERFACTUAL + kind


def change(dataset: Dataset, indices: npt.NDArray[np.intp], donors: Donors, kind: str) -> Grey:
    """Exchange one kind of thing on images, each with a donor of another class.

    Args:
        dataset: The data set.
        indices: Indices of the images, such as those of validation.
        donors: Its training images.
        kind: One of :data:`KINDS`.

    Returns:
        uint8 array of shape (images, side, side). The same data set gives the same images.
    """
    labels = dataset.labels(indices)
    changed = []
    for index, label in zip(indices, labels, strict=True):
        image = _Validation(int(index), int(label), donors, np.random.default_rng((_SEED, int(index))))
        changed.append(KINDS[kind](image, dataset.grey[index]))
    return np.stack(changed)


def counterfactual_metrics(labels: Labels, columns: dict[str, Scores], threshold: float | None) -> dict[str, float]:
    """Return what counterfactual validation says; empty if it was not made.

    Args:
        labels: :meth:`pneumo_edge.task.Task.targets` of the images, shape (images,).
        columns: Scores by column name, the plain ones as ``probability``.
        threshold: The decision threshold, None for argmax.

    Returns:
        ``counterfactual_auc`` of all kinds pooled, and for each kind its AUC and its flips: the share of images whose
        decision it changes.
    """
    kinds = [kind for kind in KINDS if column(kind) in columns]
    if not kinds:
        return {}
    found = {
        COUNTERFACTUAL + "auc": auc(
            np.tile(labels, len(kinds)), np.concatenate([columns[column(kind)] for kind in kinds])
        )
    }
    plain = decide(columns["probability"], threshold)
    for kind in kinds:
        scores = columns[column(kind)]
        found[f"{COUNTERFACTUAL}auc_{kind}"] = auc(labels, scores)
        found[f"{COUNTERFACTUAL}flips_{kind}"] = float(np.mean(decide(scores, threshold) != plain))
    return found
