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


class Source(Protocol):
    """A data set.

    ``task`` has the classes of the labels.
    ``has_patients`` is False if the images cannot be grouped by patient. ``own_validation`` is True if the source's own
    val split is used. ``has_files`` is False if the image files are made in memory; their sizes and endings then mean
    nothing. ``patient_pattern`` is the user's pattern for patients in names, or "". ``passed_over`` has the reason by
    name for files that are not used.
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
        """Return the bytes of a sample's image file."""
        ...


class FolderSource:
    """Class folders as on Kaggle: ``train|val|test / NORMAL|PNEUMONIA / *.jpeg``.

    Folders with other names for the same, such as ``valid`` or ``Bacterial Pneumonia``, are read too, and links to
    folders are followed. Everything else is in ``passed_over``.

    Args:
        root: The folder with the split folders.
        patient_pattern: As for :func:`pneumo_edge.data.patients.find_patients`; "" for none. Names without a match are
            read by the built-in rules.
        around: The folder that the user gave, if the root is a folder in it.

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

        So a file that turns out not to be an image is reported with a reason, not skipped silently.
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
        """Return the path of a sample's file."""
        return self._path_of[sample.name]

    def read(self, sample: Sample) -> bytes:
        """Return the file's bytes; raises ImageError as :func:`pneumo_edge.imaging.images.read`."""
        return images.read(self.path(sample))


class MedMnistSource:
    """PneumoniaMNIST in any of its sizes. It has no patients and its own val split.

    Raises:
        DataError: The file is not such an archive.
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
            # Given a path, np.load would leave a broken archive open.
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in _medmnist_keys()}
        except Exception as error:  # numpy and zipfile document no common base class for broken input
            raise DataError(
                f"{path} cannot be read as PneumoniaMNIST ({error})",
                "an .npz with " + ", ".join(_medmnist_keys()),
                "Download it with: pneumo-edge data fetch",
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
        """Return the image as a BMP file, whose bytes depend only on the pixels, not on a compressor's version."""
        split, index = sample.name.split("/")
        stream = io.BytesIO()
        Image.fromarray(self._images[split][int(index)]).save(stream, "BMP")
        return stream.getvalue()

    def _check(self, path: Path, split: str) -> None:
        pixels, labels = self._images[split], self._labels[split]
        is_grey_or_rgb = pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[3] == 3)
        if pixels.dtype != np.uint8 or not is_grey_or_rgb or len(pixels) != len(labels):
            raise DataError(
                f"{path} has {split} images of {pixels.dtype} {pixels.shape} for {len(labels)} labels",
                "grey or RGB uint8 images, one for each label",
                "Download it again with: pneumo-edge data fetch",
            )
        if not np.isin(labels, (0, 1)).all():
            raise DataError(f"{path} has {split} labels other than 0 and 1", "PneumoniaMNIST", "Give another file")


def doubt_pattern(source: Source) -> str:
    """Return a warning if the user's pattern hardly separates patients, one line without its full stop; else "".

    That is so if one patient gets more than half of all images, for example if the group matches a word or a folder.
    """
    if not source.patient_pattern:
        return ""
    ((patient, images),) = Counter(sample.patient for sample in source.samples).most_common(1)
    if 2 * images <= len(source.samples):
        return ""
    return (
        f"the patient pattern {source.patient_pattern!r} assigns {images:,} of {len(source.samples):,} images to one "
        f"patient, {patient!r}; its group should match the part that differs between patients"
    )


def open_source(path: Path, patient_pattern: str = "") -> Source:
    """Open a data set by its path.

    Args:
        path: A folder with class folders (or with one folder ``chest_xray`` that has them, as in Kaggle's
            archive), or a MedMNIST ``pneumoniamnist*.npz``.
        patient_pattern: A regular expression for patients in the names, as for
            :func:`pneumo_edge.data.patients.find_patients`; "" for none.

    Raises:
        DataError: The path does not exist or is neither of them, or the pattern finds no patient.
        PatternError: The pattern cannot be used.
    """
    if path.is_file() and path.suffix == ".npz":
        if patient_pattern:
            raise DataError(
                f"{path} has no file names to search for the patient pattern {patient_pattern!r}",
                "a data folder",
                "Omit --patient-pattern",
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
