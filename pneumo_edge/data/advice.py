"""What each kind of finding of an audit may do to a model, and what to do about it, in a sentence or two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pneumo_edge.data.places import Place
from pneumo_edge.data.sources import describe_shared_patients

if TYPE_CHECKING:
    from pneumo_edge.data.audit import Audit, Shortcut
    from pneumo_edge.data.clusters import Cluster

#: Of an AUC, the least lower end of its interval for a finding.
LEAST_AUC = 0.55
_ENCODING = "Encode the images of all classes by one program at one quality"
_EXCHANGE = "Train with --recipe robust, which exchanges borders, tone and sharpness between images of all classes"
#: What to do where a measure alone tells the classes.
_REMEDIES = {
    "file size": _ENCODING,
    "JPEG quantization": _ENCODING,
    "height": "Bring the images of all classes to one size",
    "aspect ratio": "Crop the images of all classes to one shape",
    "brightness": _EXCHANGE,
    "contrast": _EXCHANGE,
    "tone": _EXCHANGE,
    "sharpness": _EXCHANGE,
}


def advise(audit: Audit) -> Iterator[str]:
    """Yield a text for each kind of finding, those on splits first, then those on shortcuts."""
    yield from _on_splits(audit)
    if marks := audit.marks:
        yield (
            f"Burned-in marks ({len(marks):,}): a model can learn to answer with that class wherever such a mark is. "
            "Crop or paint over the place in all images of every class, or leave out the images that have the mark. Or "
            "train with --recipe robust, which exchanges marks between images of all classes."
        )
    if told := outer_places(audit.places or ()):
        best = max(told, key=lambda place: place.auc.low)
        yield (
            f"Edges of the images ({len(told):,} places): a model can answer from there alone, best from the "
            f"{_where(best)}, with an AUC of {best.auc}. Crop the images of all classes to what tells them, or train "
            "with --recipe robust, which exchanges borders between images of all classes. Check the heatmaps (predict "
            "--explain)."
        )
    if audit.clusters:
        yield _on_clusters(audit.clusters)
    if audit.baselines:
        yield from _on_measures(audit.baselines.shortcuts)


def outer_places(places: Sequence[Place]) -> list[Place]:
    """Places along the edges of the images that tell the classes."""
    return [place for place in places if place.outer and place.auc.low >= LEAST_AUC]


def _on_splits(audit: Audit) -> Iterator[str]:
    groups = (*audit.exact_duplicates, *audit.near_duplicates)
    if across := sum(len(group.splits) > 1 for group in groups):
        yield (
            f"Copies in more than one split ({across:,} groups): a model is tested on images that it has seen. Remove "
            "the copies, or draw the splits with --split."
        )
    if torn := sum(len(group.classes) > 1 for group in groups):
        yield (
            f"Copies in more than one class ({torn:,} groups): one of the labels is wrong. Correct it, or remove the "
            "images."
        )
    if audit.patients is None:
        yield (
            "Unknown patients: images of one person may lie in training and in validation, which makes validation too "
            "good. Give --patient-pattern, or a table with a column for the patient."
        )
    elif audit.patients.shared:
        yield f"{describe_shared_patients(len(audit.patients.shared))}."


def _where(place: Place) -> str:
    return place.name if place.name == "border" else f"cell in {place.name}"


def _on_measures(shortcuts: Sequence[Shortcut]) -> Iterator[str]:
    told: dict[str, list[str]] = {}
    for shortcut in shortcuts:
        if shortcut.train_auc >= LEAST_AUC and shortcut.test_auc.low >= LEAST_AUC:
            told.setdefault(_REMEDIES[shortcut.measure], []).append(shortcut.measure)
    for remedy, measures in told.items():
        them = "it" if len(measures) == 1 else "them"
        yield (
            f"{_listed(measures).capitalize()} alone: a model can use {them} in place of what the images show. "
            f"{remedy}, and report the model's AUC beside that of the measure."
        )


def _on_clusters(clusters: Sequence[Cluster]) -> str:
    images = sum(sum(sum(of_split.values()) for of_split in cluster.counts.values()) for cluster in clusters)
    return (
        f"Images of one look ({len(clusters):,} groups, {images:,} images): a model can learn the look of a class in "
        "place of what is looked for. Add images of the other classes with that look, or train with --recipe robust. "
        "Compare the errors on these images, which --json FILE names, with those on the others."
    )


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
