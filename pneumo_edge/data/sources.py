"""Data sets as lists of samples: class folders as on Kaggle, and MedMNIST's .npz files."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from pneumo_edge import images
from pneumo_edge.errors import DataError

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
#: In the order of the labels 0 and 1, and so of every model's output.
CLASS_NAMES = ("NORMAL", "PNEUMONIA")
POSITIVE_CLASS = "PNEUMONIA"
#: A file of this name in a data folder marks its images as procedural, and says so to people.
PHANTOM_MARKER = "PHANTOM.txt"

_LAYOUT = "folders train/NORMAL, train/PNEUMONIA, test/NORMAL, test/PNEUMONIA, or a MedMNIST pneumoniamnist*.npz"
_PNEUMONIA_NAME = re.compile(r"(?P<person>person\d+)_(?P<kind>bacteria|virus)(?:_\d+)+", re.IGNORECASE)
_NORMAL_NAME = re.compile(r"(?P<study>(?:NORMAL2-)?IM-\d+)(?:-\d+)+", re.IGNORECASE)


@dataclass(frozen=True)
class Sample:
    """One labelled image of a source.

    ``split`` is where the source has it, before validation is drawn. ``patient`` groups the images
    that may show one person; it is the name itself where the source does not tell. ``kind`` is
    ``"bacteria"`` or ``"virus"`` where the name says so, else "".
    """

    name: str
    split: SplitName
    label: int
    patient: str
    kind: str = ""


class Labelled(Protocol):
    """Whatever stands in a split and has a label."""

    @property
    def split(self) -> SplitName:
        """Name of the split."""
        ...

    @property
    def label(self) -> int:
        """Index into :data:`CLASS_NAMES`."""
        ...


class Source(Protocol):
    """A data set.

    ``has_patients`` is False where its images cannot be grouped by patient; ``own_validation`` is True
    where its val split is taken as it is; ``has_files`` is False where the bytes of an image are made on
    the spot, so that their number and the ending of a name say nothing.
    """

    title: str
    real: bool
    licence: str
    has_patients: bool
    own_validation: bool
    has_files: bool

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Every sample, in a fixed order."""
        ...

    def read(self, sample: Sample) -> bytes:
        """The bytes of a sample's image file, as a device would get them."""
        ...


class FolderSource:
    """Class folders as on Kaggle: ``train|val|test / NORMAL|PNEUMONIA / *.jpeg``.

    Raises:
        DataError: The folder has no such layout.
    """

    own_validation = False
    has_files = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self.real = not (root / PHANTOM_MARKER).exists()
        self.title = f"folder {root.name}" if self.real else "phantom images (procedural, not real X-rays)"
        self.licence = "as its owner says; the Kermany et al. 2018 images are CC BY 4.0" if self.real else "none needed"
        self.has_patients = any(parse_patient(Path(sample.name).stem) for sample in self.samples[:1000])

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """Every file in a class folder that is not hidden, whatever its ending, sorted by name.

        A file that turns out to be no image is so left out with its name and a reason, not in silence.
        """
        found = []
        for split in SPLITS:
            for label, class_name in enumerate(CLASS_NAMES):
                for path in sorted((self.root / split / class_name).rglob("*")):
                    parts = path.relative_to(self.root).parts
                    if path.is_dir() or any(part.startswith(".") for part in parts):
                        continue
                    # A name that is not UTF-8 fits into no manifest; escaped, its file is reported as not found.
                    name = os.fsencode("/".join(parts)).decode("utf-8", "backslashreplace")
                    patient, kind = parse_patient(path.stem) or (name, "")
                    found.append(Sample(name, split, label, patient, kind))
        if {sample.label for sample in found if sample.split == "train"} != {0, 1}:
            raise DataError(f"{self.root} has no training images of both classes", _LAYOUT, "Check the folder's layout")
        return tuple(found)

    def path(self, sample: Sample) -> Path:
        """Where a sample's file lies."""
        return self.root / sample.name

    def read(self, sample: Sample) -> bytes:
        """The file's bytes; raises ImageError as :func:`pneumo_edge.images.read`."""
        return images.read(self.path(sample))


class MedMnistSource:
    """PneumoniaMNIST in any of its sizes; its images carry no patient, and its val split is its own.

    Raises:
        DataError: The file is no such archive.
    """

    real = True
    licence = "CC BY 4.0 (MedMNIST v2, after Kermany et al. 2018)"
    has_patients = False
    own_validation = True
    has_files = False

    def __init__(self, path: Path) -> None:
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


def open_source(path: Path) -> Source:
    """Open a data set by its path.

    Args:
        path: A folder with class folders (or with one folder ``chest_xray`` that has them, as Kaggle's
            archive unpacks), or a MedMNIST ``pneumoniamnist*.npz``.

    Raises:
        DataError: The path does not exist or is neither of them.
    """
    if path.is_file() and path.suffix == ".npz":
        return MedMnistSource(path)
    for root in (path, path / "chest_xray"):
        if (root / "train").is_dir():
            return FolderSource(root)
    state = "has no data set" if path.exists() else "does not exist"
    raise DataError(f"{path} {state}", _LAYOUT, "Give another path, or run: pneumo-edge data fetch")


def parse_patient(stem: str) -> tuple[str, str] | None:
    """Read patient and kind of pneumonia from a file name of the Kermany data set.

    A person's number is taken without its kind, which groups more images rather than fewer.

    Returns:
        (patient, kind), where kind is ``"bacteria"``, ``"virus"`` or "" for a normal image; None where
        the name is not of this pattern.
    """
    if match := _PNEUMONIA_NAME.fullmatch(stem):
        return match["person"].lower(), match["kind"].lower()
    if match := _NORMAL_NAME.fullmatch(stem):
        return match["study"].upper(), ""
    return None


def describe_counts(samples: Iterable[Labelled]) -> dict[str, dict[str, int]]:
    """Count samples by split and class name; splits without samples are left out."""
    counts: dict[str, dict[str, int]] = {}
    for sample in samples:
        of_split = counts.setdefault(sample.split, dict.fromkeys(CLASS_NAMES, 0))
        of_split[CLASS_NAMES[sample.label]] += 1
    return counts


def _medmnist_keys() -> tuple[str, ...]:
    return tuple(f"{split}_{part}" for split in SPLITS for part in ("images", "labels"))
