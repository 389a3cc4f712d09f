"""Samples of a data set: one labelled image each, and what every reader of a data set offers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pneumo_edge.data.layout import SplitName
from pneumo_edge.task import Task

#: Between the name of a folder and the name of its table, in the title of a data set.
LABELS_OF = ", labels of "


@dataclass(frozen=True)
class Sample:
    """One labelled image of a source.

    ``split`` is the source's split, before validation is drawn. ``patient`` groups the images that may show one person;
    if the patient is unknown, it is the image's name. ``kind`` is ``"bacteria"`` or ``"virus"`` if the name says so,
    else "". ``original`` groups images without a patient that are copies of one another by their names; it is "" for an
    image without copies.
    """

    name: str
    split: SplitName
    label: int
    patient: str
    kind: str = ""
    original: str = ""

    @property
    def is_patient_known(self) -> bool:
        """Whether the source says which patient this is."""
        return self.patient != self.name


class Labelled(Protocol):
    """An image with a split and a label."""

    @property
    def split(self) -> SplitName:
        """Name of the split."""
        ...

    @property
    def label(self) -> int:
        """Index into the class names of the task."""
        ...


class Readable(Protocol):
    """Image files, and the classes of their labels."""

    @property
    def task(self) -> Task:
        """The classes."""
        ...

    def read(self, sample: Sample) -> bytes:
        """Return the bytes of a sample's image file."""
        ...


class Source(Protocol):
    """A data set.

    Attributes:
        title: Its name for people.
        task: The classes of the labels.
        real: False if the images are phantoms.
        licence: Licence of the images.
        has_patients: False if the images cannot be grouped by patient.
        own_validation: True if the source's own val split is used.
        rule: How its splits were made, in words; "" if validation is drawn from train.
        has_files: False if the image files are made in memory; their sizes and endings then mean nothing.
        patient_pattern: The user's pattern for patients in names, or "".
        options: The user's other options for reading it, by name.
        paths: The paths of its table (``labels``) and of separate test images (``test``), if there are such.
        passed_over: Reason by name, for files that are not used.
        remarks: Lines on how it was read, where it could be read in another way.
    """

    title: str
    task: Task
    real: bool
    licence: str
    has_patients: bool
    own_validation: bool
    rule: str
    has_files: bool
    patient_pattern: str
    options: dict[str, str]
    paths: dict[str, str]
    passed_over: dict[str, str]
    remarks: tuple[str, ...]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Every sample, in a fixed order."""
        ...

    def read(self, sample: Sample) -> bytes:
        """Return the bytes of a sample's image file."""
        ...


def describe_counts(samples: Iterable[Labelled], class_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count samples by split and class name; splits without samples are left out."""
    counts: dict[str, dict[str, int]] = {}
    for sample in samples:
        of_split = counts.setdefault(sample.split, dict.fromkeys(class_names, 0))
        of_split[class_names[sample.label]] += 1
    return counts
