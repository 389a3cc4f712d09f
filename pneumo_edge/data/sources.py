"""Data sets as lists of samples: class folders as on Kaggle, and MedMNIST's .npz files."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from pneumo_edge.data import layout
from pneumo_edge.data.layout import PHANTOM_MARKER, SPLITS, SplitName
from pneumo_edge.data.patients import find_originals, find_patients, parse_patient
from pneumo_edge.errors import DataError
from pneumo_edge.imaging import images
from pneumo_edge.task import PNEUMONIA, Task

__all__ = [
    "PHANTOM_MARKER", "SPLITS", "FolderSource", "Labelled", "MedMnistSource", "Sample",
    "Source", "SplitName", "describe_counts", "open_source", "parse_patient",
]  # fmt: skip

_LAYOUT = "folders train/NORMAL, train/PNEUMONIA, test/NORMAL, test/PNEUMONIA, or a MedMNIST pneumoniamnist*.npz"


@dataclass(frozen=True)
class Sample:
    """One labelled image of a source.

    ``split`` is where the source has it, before validation is drawn. ``patient`` groups the images
    that may show one person; it is the name itself where the source does not tell. ``kind`` is
    ``"bacteria"`` or ``"virus"`` where the name says so, else "". ``original`` groups images that are copies of one
    another by their names, where these tell no patient; it is "" where an image has no copies.
    """

    name: str
    split: SplitName
    label: int
    patient: str
    kind: str = ""
    original: str = ""

    @property
    def is_patient_known(self) -> bool:
        """Whether the source tells whose X-ray this is."""
        return self.patient != self.name


class Labelled(Protocol):
    """Whatever stands in a split and has a label."""

    @property
    def split(self) -> SplitName:
        """Name of the split."""
        ...

    @property
    def label(self) -> int:
        """Index into the class names of the task."""
        ...


class Source(Protocol):
    """A data set.

    ``task`` has the classes that labels stand for.
    ``has_patients`` is False where its images cannot be grouped by patient; ``own_validation`` is True
    where its val split is taken as it is; ``has_files`` is False where the bytes of an image are made on
    the spot, so that their number and the ending of a name say nothing. ``patient_pattern`` is the user's own for
    patients in names, or ""; ``passed_over`` has what lies beside the images and is not used, with the reason by name.
    """

    title: str
    task: Task
    real: bool
    licence: str
    has_patients: bool
    own_validation: bool
    has_files: bool
    patient_pattern: str
    passed_over: dict[str, str]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Every sample, in a fixed order."""
        ...

    def read(self, sample: Sample) -> bytes:
        """The bytes of a sample's image file, as a device would get them."""
        ...


class FolderSource:
    """Class folders as on Kaggle: ``train|val|test / NORMAL|PNEUMONIA / *.jpeg``.

    Folders of other names that mean one of these are read, too, such as ``valid`` or ``Bacterial Pneumonia``, and
    links to folders are followed; what else there is stands in ``passed_over``.

    Args:
        root: The folder with the split folders.
        patient_pattern: As for :func:`pneumo_edge.data.patients.find_patients`; "" for none. Where it finds nothing in
            a name, the patient is read as without it.
        around: The folder that the user gave, where that only holds the root.

    Raises:
        DataError: The folder has no such layout, or the pattern finds no patient.
        PatternError: As :func:`pneumo_edge.data.patients.find_patients`.
    """

    task = PNEUMONIA
    own_validation = False
    has_files = True

    def __init__(self, root: Path, patient_pattern: str = "", around: Path | None = None) -> None:
        self.root = root
        self.patient_pattern = patient_pattern
        self.real = not (root / PHANTOM_MARKER).exists()
        self.title = f"folder {root.name}" if self.real else "phantom images (procedural, not real X-rays)"
        self.licence = "as its owner says; the Kermany et al. 2018 images are CC BY 4.0" if self.real else "none needed"
        listing = layout.read_listing(root, around)
        self.passed_over = listing.passed_over
        if {file.label for file in listing.files if file.split == "train"} != {0, 1}:
            ignored = [name for name in self.passed_over if name.endswith("/")]
            beside = f", but {', '.join(ignored[:5])}" if ignored else ""
            raise DataError(
                f"{root} has no training images of both classes{beside}", _LAYOUT, "Check the folder's layout"
            )
        self._files = listing.files
        self._path_of = {file.name: file.path for file in listing.files}
        self.has_patients = any(sample.is_patient_known for sample in self.samples)

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """Every file in a class folder that may be an image, sorted by name.

        A file that turns out to be no image is so left out with its name and a reason, not in silence.
        """
        stems = [str(PurePosixPath(file.inner).with_suffix("")) for file in self._files]
        given = (
            find_patients(self.patient_pattern, [file.inner for file in self._files]) if self.patient_pattern else ()
        )
        read = [parse_patient(PurePosixPath(stem).name) for stem in stems]
        patients = [
            (given[index] if given else "") or (found[0] if found else "") or file.name
            for index, (file, found) in enumerate(zip(self._files, read, strict=True))
        ]
        unknown = [i for i, file in enumerate(self._files) if patients[i] == file.name]
        originals = find_originals([f"{self.task.class_names[self._files[i].label]}/{stems[i]}" for i in unknown])
        original_of = dict(zip(unknown, originals, strict=True))
        return tuple(
            Sample(
                file.name,
                file.split,
                file.label,
                patients[index],
                (found[1] if found else "") or file.kind,
                original_of.get(index, ""),
            )
            for index, (file, found) in enumerate(zip(self._files, read, strict=True))
        )

    def path(self, sample: Sample) -> Path:
        """Where a sample's file lies."""
        return self._path_of[sample.name]

    def read(self, sample: Sample) -> bytes:
        """The file's bytes; raises ImageError as :func:`pneumo_edge.imaging.images.read`."""
        return images.read(self.path(sample))


class MedMnistSource:
    """PneumoniaMNIST in any of its sizes; its images carry no patient, and its val split is its own.

    Raises:
        DataError: The file is no such archive.
    """

    task = PNEUMONIA
    real = True
    licence = "CC BY 4.0 (MedMNIST v2, after Kermany et al. 2018)"
    has_patients = False
    own_validation = True
    has_files = False
    patient_pattern = ""

    def __init__(self, path: Path) -> None:
        self.passed_over: dict[str, str] = {}
        self.title = f"PneumoniaMNIST ({path.name})"
        try:
            # np.load leaves a broken archive open when it is given a path.
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in _medmnist_keys()}
        except Exception as error:  # numpy and zipfile promise no common base class for broken input
            raise DataError(
                f"{path} cannot be read as PneumoniaMNIST ({error})",
                "an .npz with " + ", ".join(_medmnist_keys()),
                "Fetch it with: pneumo-edge data fetch",
            ) from error
        self._images: dict[str, npt.NDArray[Any]] = {split: arrays[f"{split}_images"] for split in SPLITS}
        self._labels: dict[str, npt.NDArray[Any]] = {split: arrays[f"{split}_labels"].ravel() for split in SPLITS}
        for split in SPLITS:
            self._check(path, split)

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """Every image, named ``split/index``."""
        return tuple(
            Sample(f"{split}/{index:05d}", split, int(label), patient=f"{split}/{index:05d}")
            for split in SPLITS
            for index, label in enumerate(self._labels[split])
        )

    def read(self, sample: Sample) -> bytes:
        """The image as the bytes of a BMP file, which depend on its pixels and not on a compressor's version."""
        split, index = sample.name.split("/")
        stream = io.BytesIO()
        Image.fromarray(self._images[split][int(index)]).save(stream, "BMP")
        return stream.getvalue()

    def _check(self, path: Path, split: str) -> None:
        pixels, labels = self._images[split], self._labels[split]
        is_grey_or_rgb = pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[3] == 3)
        if pixels.dtype != np.uint8 or not is_grey_or_rgb or len(pixels) != len(labels):
            raise DataError(
                f"{path} holds {split} images of {pixels.dtype} {pixels.shape} for {len(labels)} labels",
                "grey or RGB uint8 images, one for each label",
                "Fetch it again with: pneumo-edge data fetch",
            )
        if not np.isin(labels, (0, 1)).all():
            raise DataError(f"{path} has {split} labels other than 0 and 1", "PneumoniaMNIST", "Give another file")


def doubt_pattern(source: Source) -> str:
    """Say of a user's pattern for patients that it hardly tells them apart, in one line without its end; or "".

    That is where it makes one patient of more than half of all images, as a group that matches a word or a folder does.
    """
    if not source.patient_pattern:
        return ""
    ((patient, images),) = Counter(sample.patient for sample in source.samples).most_common(1)
    if 2 * images <= len(source.samples):
        return ""
    return (
        f"the patient pattern {source.patient_pattern!r} makes one patient, {patient!r}, of {images:,} of "
        f"{len(source.samples):,} images; its group should match what differs from patient to patient"
    )


def open_source(path: Path, patient_pattern: str = "") -> Source:
    """Open a data set by its path.

    Args:
        path: A folder with class folders (or with one folder ``chest_xray`` that has them, as Kaggle's
            archive unpacks), or a MedMNIST ``pneumoniamnist*.npz``.
        patient_pattern: A regular expression for patients in the names, as for
            :func:`pneumo_edge.data.patients.find_patients`; "" for none.

    Raises:
        DataError: The path does not exist or is neither of them, or the pattern finds no patient.
        PatternError: The pattern cannot be used.
    """
    if path.is_file() and path.suffix == ".npz":
        if patient_pattern:
            raise DataError(
                f"{path} has no file names in which the patient pattern {patient_pattern!r} could be searched for",
                "a data folder",
                "Leave --patient-pattern out",
            )
        return MedMnistSource(path)
    if root := layout.find_root(path):
        return FolderSource(root, patient_pattern, around=None if root == path else path)
    state = "has no data set" if path.exists() else "does not exist"
    raise DataError(f"{path} {state}", _LAYOUT, "Give another path, or run: pneumo-edge data fetch")


def describe_counts(samples: Iterable[Labelled], class_names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count samples by split and class name; splits without samples are left out."""
    counts: dict[str, dict[str, int]] = {}
    for sample in samples:
        of_split = counts.setdefault(sample.split, dict.fromkeys(class_names, 0))
        of_split[class_names[sample.label]] += 1
    return counts


def _medmnist_keys() -> tuple[str, ...]:
    return tuple(f"{split}_{part}" for split in SPLITS for part in ("images", "labels"))
