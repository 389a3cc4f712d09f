"""Decides claims: one rule for every claim, and the least test images for a claim on accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from pneumo_edge.evaluation.intervals import Interval
from pneumo_edge.evaluation.metrics import Labels

#: What the evidence says of a claim; "not separable" is what it does not settle.
Outcome = Literal["supported", "refuted", "not separable"]

#: Images of each class, and patients with images of it, below which nothing is claimed of accuracy. Vergouwe et al.
#: (Journal of Clinical Epidemiology 58, 2005) and Collins et al. (Statistics in Medicine 35, 2016) ask for 100 events
#: and 100 non-events before a model is called validated.
LEAST_IMAGES, LEAST_PATIENTS = 100, 50
#: A loss of AUC of less than this is none that matters: the margin of "as accurate".
ACCURACY_MARGIN = 0.01


def settle(found: Interval, least: float, most_against: float | None = None) -> Outcome:
    """The rule of every claim that a quantity lies above a threshold.

    Args:
        found: The quantity with its interval.
        least: The threshold: minus the margin of "no worse than", the upper end of the band of "more than".
        most_against: Below which the claim is refuted, where that is not the threshold itself: the lower end of
            the band.

    Returns:
        "supported" where the whole interval lies above ``least``, "refuted" where it lies below
        ``most_against``, else "not separable"; so too where an end is NaN.
    """
    if found.low > least:
        return "supported"
    return "refuted" if found.high < (least if most_against is None else most_against) else "not separable"


def shortage(labels: Labels, patients: Sequence[str] | None, kind: str = "test") -> str:
    """What images lack for a claim on accuracy; "" where they lack nothing.

    Args:
        labels: The place of each image's class, shape (images,).
        patients: Whose image each is; None where that is not known.
        kind: What the images are called, as for :func:`too_few`.
    """
    return too_few(*smaller_class(labels, patients), kind)


def smaller_class(labels: Labels, patients: Sequence[str] | None) -> tuple[int, int | None]:
    """Images of the smaller class, and their patients; arguments as of :func:`shortage`.

    It is the class with fewer images. Where that has enough images and patients, and another has too few patients, it
    is that one.
    """
    names = None if patients is None else np.asarray(patients, dtype=np.str_)
    classes = [labels == label for label in range(max(2, int(np.max(labels)) + 1))]
    found = [(int(one.sum()), None if names is None else len(set(names[one].tolist()))) for one in classes]
    return min(found, key=lambda each: (not too_few(*each), each[0]))


def too_few(images: int, people: int | None, kind: str = "test") -> str:
    """As :func:`shortage`, from the images and the patients of the smaller class.

    Args:
        images: Images of the smaller class (:func:`smaller_class`).
        people: Their patients; None where these are not known.
        kind: "test" or "validation"; "" for images of no split.
    """
    if images >= LEAST_IMAGES and (people is None or people >= LEAST_PATIENTS):
        return ""
    whose = "" if people is None else f" of {people} patients"
    return (
        f"too few {kind}{' ' if kind else ''}images: {images}{whose} in the smaller class, and a claim takes at least "
        f"{LEAST_IMAGES} images of {LEAST_PATIENTS} patients in each"
    )
