"""The representative dataset of full-integer quantization, and its manifest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import files, records
from pneumo_edge.data.tensors import Dataset

IMAGES = 200
RULE = "training images, one per patient, classes in equal number where there are enough, in the order of a hash"


@dataclass(frozen=True)
class CalibrationImage:
    """One image of the manifest."""

    name: str
    label: str
    sha256: str


@dataclass(frozen=True)
class CalibrationManifest:
    """The images that calibrated a file, and the images that calibrated the file it was compared with."""

    rule: str
    data_fingerprint: str
    images: tuple[CalibrationImage, ...]
    compared_with: tuple[CalibrationImage, ...]


@dataclass(frozen=True)
class Representative:
    """The representative dataset of a run.

    Attributes:
        images: Number of images.
        manifest: SHA-256 of its manifest.
        pixels: From :func:`pixels`.
        other_pixels: The same number of images of other patients; None where there are fewer.
    """

    images: int
    manifest: str
    pixels: npt.NDArray[np.uint8]
    other_pixels: npt.NDArray[np.uint8] | None


def draw(dataset: Dataset, path: Path) -> Representative:
    """Choose :data:`IMAGES` training images and as many others, and write their manifest."""
    chosen, others = choose(dataset, IMAGES), choose(dataset, IMAGES, skip=IMAGES)
    manifest = write_manifest(dataset, chosen, others, path)
    # Ranges from fewer images could not be compared with those of the first set.
    other_pixels = pixels(dataset, others) if len(others) == len(chosen) else None
    return Representative(len(chosen), manifest, pixels(dataset, chosen), other_pixels)


def choose(dataset: Dataset, count: int, skip: int = 0) -> npt.NDArray[np.intp]:
    """Choose a representative dataset from the training split, deterministically.

    Args:
        dataset: The data.
        count: Number of images.
        skip: Number of images to skip. A second call with ``skip`` set to the first ``count`` shares no image and no
            patient with the first.

    Returns:
        Sorted indices into the data set, at most ``count``.
    """
    chosen: list[int] = []
    patients: set[str] = set()
    train = dataset.indices("train")
    labels = dataset.labels(train)
    classes = len(dataset.manifest.task.class_names)
    for label in range(classes):
        of_class = [int(index) for index in train[labels == label]]
        of_class.sort(key=lambda index: _order(dataset.manifest.entries[index].sha256))
        first_of_patient = []
        for index in of_class:
            patient = dataset.manifest.entries[index].patient
            if patient not in patients:
                first_of_patient.append(index)
                patients.add(patient)
        start = skip // classes
        chosen += first_of_patient[start : start + count // classes]
    return np.array(sorted(chosen), dtype=np.intp)


def pixels(dataset: Dataset, indices: npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
    """Pixels of the representative dataset, uint8 of shape (images, height, width, 3).

    One corner of the first image is set to 0 and 255. The range is then exactly 0 to 255 and the input's scale exactly
    1, so a device can pass bytes unchanged.
    """
    images = dataset.rgb(indices)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    return images


def write_manifest(
    dataset: Dataset, indices: npt.NDArray[np.intp], compared_with: npt.NDArray[np.intp], path: Path
) -> str:
    """Write the manifest as JSON.

    Returns:
        The SHA-256 of the written file.
    """
    manifest = CalibrationManifest(
        RULE, dataset.manifest.fingerprint, _images(dataset, indices), _images(dataset, compared_with)
    )
    files.write_text(path, records.document(manifest))
    return files.sha256(path)


def _images(dataset: Dataset, indices: npt.NDArray[np.intp]) -> tuple[CalibrationImage, ...]:
    entries, class_names = dataset.entries(indices), dataset.manifest.task.class_names
    return tuple(CalibrationImage(entry.name, class_names[entry.label], entry.sha256) for entry in entries)


def _order(digest: str) -> str:
    # Hashed again, so that the order is independent of the order that draws the validation split.
    return hashlib.sha256(f"pneumo-edge-calibration-1 {digest}".encode()).hexdigest()
