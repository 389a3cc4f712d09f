"""MedMNIST's .npz files: every two-dimensional set, at any of its sizes."""

from __future__ import annotations

import contextlib
import io
import math
import re
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pneumo_edge._util.cache import cache_folder, writing
from pneumo_edge.data import classes
from pneumo_edge.data.classes import Findings
from pneumo_edge.data.datasource import DataSource
from pneumo_edge.data.layout import PHANTOM_MARKER, SPLITS
from pneumo_edge.data.samples import Sample
from pneumo_edge.data.splits import AS_GIVEN
from pneumo_edge.errors import DataError
from pneumo_edge.task import Task

_ORGANS = ("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left",
           "lung-right", "pancreas", "spleen")  # fmt: skip
#: Titles and classes in the order of labels, after MedMNIST's own ``info.py``.
_SETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pathmnist": ("PathMNIST", (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
        "cancer-associated stroma", "colorectal adenocarcinoma epithelium")),
    "chestmnist": ("ChestMNIST", (
        "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax",
        "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia")),
    "dermamnist": ("DermaMNIST", (
        "actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions",
        "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions")),
    "octmnist": ("OCTMNIST", (
        "choroidal neovascularization", "diabetic macular edema", "drusen", "normal")),
    "pneumoniamnist": ("PneumoniaMNIST", ("normal", "pneumonia")),
    "retinamnist": ("RetinaMNIST", ("0", "1", "2", "3", "4")),
    "breastmnist": ("BreastMNIST", ("malignant", "normal, benign")),
    "bloodmnist": ("BloodMNIST", (
        "basophil", "eosinophil", "erythroblast",
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)", "lymphocyte", "monocyte",
        "neutrophil", "platelet")),
    "tissuemnist": ("TissueMNIST", (
        "Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells",
        "Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments",
        "Thick Ascending Limb")),
    "organamnist": ("OrganAMNIST", _ORGANS),
    "organcmnist": ("OrganCMNIST", _ORGANS),
    "organsmnist": ("OrganSMNIST", _ORGANS),
}  # fmt: skip
_KEYS = tuple(f"{split}_{part}" for split in SPLITS for part in ("images", "labels"))
#: What an image of several labels is called where it has none of them.
_NO_FINDING = "no finding"
#: Images of more bytes than this are unpacked to a file, not into memory.
_LARGE = 2**28


class MedMnistSource:
    """A MedMNIST set in any of its sizes; its images carry no patient, and its val split is its own.

    Args:
        path: The ``.npz`` file. Its name tells the set; the classes of one that is not known are numbers.
        data: What the user says of classes.
        task: The task of the models that the data is for.

    Raises:
        DataError: The file is no such archive, or its classes cannot be settled.
    """

    has_patients = False
    own_validation = True
    rule = AS_GIVEN
    has_files = False
    patient_pattern = ""
    remarks: tuple[str, ...] = ()

    def __init__(self, path: Path, data: DataSource | None = None, task: Task | None = None) -> None:
        data = data or DataSource(str(path))
        known = re.match(r"[a-z]+", path.stem.casefold())
        name, class_names = _SETS.get(known[0] if known else "", ("MedMNIST", ()))
        self.title = f"{name} ({path.name})"
        self.real = not (path.parent / PHANTOM_MARKER).exists()
        self.licence = "none needed"
        if self.real and not class_names:
            # An .npz of the user's own with the keys of MedMNIST.
            self.licence = "as its owner says"
        elif self.real:
            after = ", after Kermany et al. 2018" if name == "PneumoniaMNIST" else ""
            self.licence = f"CC BY 4.0 (MedMNIST v2{after})"
            if name == "DermaMNIST":
                self.licence = "CC BY-NC 4.0 (MedMNIST v2)"
        self.paths: dict[str, str] = {}
        self.options: dict[str, str] = data.options
        arrays = _load(path)
        self._images = {split: arrays[f"{split}_images"] for split in SPLITS}
        labels = {split: arrays[f"{split}_labels"] for split in SPLITS}
        self._findings: dict[str, list[Findings]] = {}
        columns = len(class_names) if name == "ChestMNIST" else min(len(class_names), 1)
        for split in SPLITS:
            _check(path, split, self._images[split], labels[split], columns)
            self._findings[split] = list(_findings(labels[split], class_names, path, split))
        counts = Counter(each for of_split in self._findings.values() for each in of_split)
        self._settled = classes.settle(
            counts, data, path.name, task, numbered=(*class_names, _NO_FINDING) if class_names else ()
        )
        self.task = self._settled.task
        self.passed_over = {f"class {name}": reason for name, reason in self._settled.left_out.items()}

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """Every image, named ``split/index``."""
        return tuple(
            Sample(f"{split}/{index:05d}", split, label, patient=f"{split}/{index:05d}")
            for split in SPLITS
            for index, findings in enumerate(self._findings[split])
            if (label := self._settled.label_of[findings]) is not None
        )

    def read(self, sample: Sample) -> bytes:
        """Return the image as a BMP file, whose bytes depend only on the pixels, not on a compressor's version."""
        index = int(sample.name.rpartition("/")[2])
        stream = io.BytesIO()
        Image.fromarray(np.asarray(self._images[sample.split][index])).save(stream, "BMP")
        return stream.getvalue()


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        # Given a path, np.load would leave a broken archive open.
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            return {key: _read(archive, f"{key}.npy") for key in _KEYS}
    except Exception as error:  # numpy and zipfile document no common base class for broken input
        raise DataError(
            f"{path} cannot be read as a MedMNIST file ({error})",
            "an .npz with " + ", ".join(_KEYS),
            "Download it with: pneumo-edge data fetch",
        ) from error


def _read(archive: zipfile.ZipFile, member: str) -> npt.NDArray[Any]:
    with archive.open(member) as stream:
        if archive.getinfo(member).file_size <= _LARGE:
            return np.asarray(np.load(io.BytesIO(stream.read()), allow_pickle=False))
        return _unpack(stream)


def _unpack(stream: IO[bytes]) -> npt.NDArray[Any]:
    """An array that lies in a file without a name, and is mapped into memory as it is read."""
    folder = cache_folder()
    with contextlib.ExitStack() as stack:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # The map of it stays when it is closed.
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            shutil.copyfileobj(stream, file, 2**20)
        file.seek(0)
        npy: Any = np.lib.format
        read_header = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        if dtype.hasobject or fortran:
            raise ValueError(f"an array of {dtype} that is not in C order")
        start, size = file.tell(), math.prod(shape) * dtype.itemsize
        if file.seek(0, io.SEEK_END) != start + size:
            raise ValueError("an array that is cut short")
        return np.memmap(file, dtype, "r", start, shape)


def _check(path: Path, split: str, pixels: npt.NDArray[Any], labels: npt.NDArray[Any], columns: int) -> None:
    is_grey_or_rgb = pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[3] == 3)
    if pixels.dtype != np.uint8 or not is_grey_or_rgb or len(pixels) != len(labels):
        raise DataError(
            f"{path} has {split} images of {pixels.dtype} {pixels.shape} for {len(labels)} labels",
            "grey or RGB uint8 images, one for each label",
            "Give a two-dimensional set of MedMNIST",
        )
    found = labels.shape[1] if labels.ndim == 2 else labels.ndim
    if labels.dtype.kind not in "ui" or (labels.size and labels.min() < 0) or found != (columns or found):
        raise DataError(
            f"{path} has {split} labels of {labels.dtype} {labels.shape}",
            f"whole numbers from 0, {columns or 'one or more'} for each image",
            "Give another file",
        )


def _findings(labels: npt.NDArray[Any], class_names: tuple[str, ...], path: Path, split: str) -> Iterator[Findings]:
    """What each image shows, by the names of its labels."""

    def name(label: int) -> tuple[str, ...]:
        if class_names and label >= len(class_names):
            raise DataError(
                f"{path} has {split} labels other than 0 to {len(class_names) - 1}",
                f"a file whose labels are those of its name, {path.stem}",
                "Give another file, or rename it",
            )
        return (class_names[label] if class_names else str(label),)

    if labels.ndim == 2 and labels.shape[1] > 1:
        for row in labels:
            found = tuple(name(int(label)) for label in np.flatnonzero(row))
            yield found or ((_NO_FINDING,),)
    else:
        for label in labels.ravel():
            yield (name(int(label)),)
