"""Data layouts that users have, made from phantom images: each with the options that read it."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.data.sources import PHANTOM_MARKER

TRAIN, TEST = 14, 6


@dataclass(frozen=True)
class Phantom:
    """A phantom image: its file, its split and its class, NORMAL, BACTERIA or VIRUS."""

    data: bytes
    name: str
    split: str
    shows: str

    @property
    def is_ill(self) -> bool:
        return self.shows != "NORMAL"

    @property
    def patient(self) -> str:
        return re.sub(r"[_-][^_-]*$", "", self.name.partition(".")[0])

    @property
    def png(self) -> bytes:
        stream = io.BytesIO()
        Image.open(io.BytesIO(self.data)).convert("L").save(stream, "PNG")
        return stream.getvalue()


Build = Callable[[Path, Sequence[Phantom]], Path]


@dataclass(frozen=True)
class Layout:
    """A data layout.

    Attributes:
        name: For people.
        build: Writes the images into a folder and returns the path of the data set.
        options: What is given on the command line beside the path; ``{}`` stands for the folder.
        class_names: The classes, in the order of labels.
        called: The class of an image that shows NORMAL, BACTERIA or VIRUS.
        splits: The splits that there are in the end.
        without: What the command is told where the last option is missing, as a regular expression; "" where none is.
    """

    name: str
    build: Build
    options: tuple[str, ...]
    class_names: tuple[str, ...]
    called: dict[str, str]
    splits: tuple[str, ...] = ("train", "val", "test")
    without: str = ""

    def words(self, folder: Path) -> list[str]:
        return [word.replace("{}", str(folder)) for word in self.options]


def draw(folder: Path) -> list[Phantom]:
    """Draw the images that all layouts are made of."""
    root = make_phantom(folder / "phantom", seed=0, train_per_class=TRAIN, test_per_class=TEST)
    return [
        Phantom(path.read_bytes(), path.name, path.parts[-3], _shows(path)) for path in sorted(root.glob("*/*/*.jpeg"))
    ]


def truth(phantoms: Iterable[Phantom]) -> dict[str, str]:
    """What each image shows, by the SHA-256 of its file, as it is and as PNG."""
    return {hashlib.sha256(data).hexdigest(): each.shows for each in phantoms for data in (each.data, each.png)}


def _shows(path: Path) -> str:
    return next((kind for kind in ("BACTERIA", "VIRUS") if kind.lower() in path.name), "NORMAL")


def _write(root: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    for name, data in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (root / PHANTOM_MARKER).write_text("drawn")
    return root


def folders(pattern: str, ill: str, well: str, splits: dict[str, str] | None = None) -> Build:
    """Class folders by a pattern with ``{split}``, ``{name}`` and ``{label}``, the name of a class."""

    def build(root: Path, phantoms: Sequence[Phantom]) -> Path:
        called = splits or {"train": "train", "test": "test"}

        def name(each: Phantom) -> str:
            return pattern.format(split=called[each.split], label=ill if each.is_ill else well, name=each.name)

        return _write(root, ((name(each), each.data) for each in phantoms))

    return build


def _train_and_val(root: Path, phantoms: Sequence[Phantom]) -> Path:
    return folders("{split}/{label}/{name}", "COVID", "HEALTHY", {"train": "train", "test": "valid"})(root, phantoms)


def _apart(root: Path, phantoms: Sequence[Phantom]) -> Path:
    for folder, split in (("apart", "test"), ("own", "train")):
        chosen = [each for each in phantoms if each.split == split]
        _write(root / folder, ((f"{'SICK' if each.is_ill else 'WELL'}/{each.name}", each.data) for each in chosen))
    return root / "own"


def _three(root: Path, phantoms: Sequence[Phantom]) -> Path:
    def label(each: Phantom) -> str:
        return {"NORMAL": "NORMAL", "BACTERIA": "COVID", "VIRUS": "Pneumonia"}[each.shows]

    return _write(root, ((f"{each.split}/{label(each)}/{each.name}", each.data) for each in phantoms))


def _table(
    header: Sequence[str], row: Callable[[Phantom], Sequence[object]], file: Callable[[Phantom], str], png: bool = False
) -> Build:
    def build(root: Path, phantoms: Sequence[Phantom]) -> Path:
        text = io.StringIO()
        csv.writer(text).writerows([header, *(row(each) for each in phantoms)])
        _write(root / "images", ((file(each), each.png if png else each.data) for each in phantoms))
        (root / "labels.csv").write_text(text.getvalue(), encoding="utf-8")
        return root / "images"

    return build


def _parquet(root: Path, phantoms: Sequence[Phantom]) -> Path:
    import pyarrow
    from pyarrow import parquet

    images = _write(root / "images", ((f"{index // 20}/{each.name}", each.data) for index, each in enumerate(phantoms)))
    columns = {
        "file": [each.name for each in phantoms],
        "diagnosis": ["sick" if each.is_ill else "well" for each in phantoms],
        "subject": [each.patient for each in phantoms],
        "subset": [each.split for each in phantoms],
        "kind": ["" if each.shows == "NORMAL" else each.shows.lower() for each in phantoms],
    }
    parquet.write_table(pyarrow.table(columns), root / "labels.parquet")
    return images


def _medmnist(name: str, number_of: Callable[[Phantom], int], rgb: bool = False) -> Build:
    def build(root: Path, phantoms: Sequence[Phantom]) -> Path:
        arrays = {}
        trained = [each for each in phantoms if each.split == "train"]
        # By patient, so that no image of val looks like one of train.
        val = {
            patient
            for shows in ("NORMAL", "BACTERIA", "VIRUS")
            for patient in sorted({each.patient for each in trained if each.shows == shows})[:2]
        }
        for split in ("train", "val", "test"):
            own = {each.name: "val" if each.patient in val else each.split for each in phantoms}
            chosen = [each for each in phantoms if own[each.name] == split]
            pixels = [_pixels(each, rgb) for each in chosen]
            arrays[f"{split}_images"] = np.stack(pixels)
            arrays[f"{split}_labels"] = np.array([[number_of(each)] for each in chosen], dtype=np.uint8)
        root.mkdir(parents=True, exist_ok=True)
        (root / PHANTOM_MARKER).write_text("drawn")
        np.savez_compressed(root / f"{name}.npz", **arrays)
        return root / f"{name}.npz"

    return build


def _pixels(each: Phantom, rgb: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    image = Image.open(io.BytesIO(each.data)).convert("RGB" if rgb else "L").resize((64, 64))
    return np.asarray(image, dtype=np.uint8)


def _dicom(root: Path, phantoms: Sequence[Phantom]) -> Path:
    return _write(root, ((f"{p.split}/{'ILL' if p.is_ill else 'FINE'}/{p.name}.dcm", _as_dicom(p)) for p in phantoms))


def _as_dicom(each: Phantom) -> bytes:
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    pixels = np.asarray(Image.open(io.BytesIO(each.data)).convert("L"))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[each.name])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PhotometricInterpretation = "DX", "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.BitsAllocated, data.BitsStored, data.HighBit = 1, 8, 8, 7
    data.PixelRepresentation = 0
    data.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, data, enforce_file_format=True)
    return stream.getvalue()


def _two(well: str, ill: str) -> dict[str, str]:
    return {"NORMAL": well, "BACTERIA": ill, "VIRUS": ill}


_PNEUMONIA = _two("NORMAL", "PNEUMONIA")
_LONG = "COVID " + 194 * "x"
_SHARES = ("--split", "60/20/20")
_NIH = {"NORMAL": "No Finding", "BACTERIA": "Infiltration|Pneumonia", "VIRUS": "Pneumonia"}

LAYOUTS = [
    Layout("kaggle", folders("{split}/{label}/{name}", "PNEUMONIA", "NORMAL"), (), ("NORMAL", "PNEUMONIA"), _PNEUMONIA),
    Layout(
        "other case",
        folders("{split}/{label}/{name}", "pneumonia", "Normal", {"train": "TRAIN", "test": "Testing"}),
        (), ("NORMAL", "PNEUMONIA"), _PNEUMONIA,
    ),
    Layout(
        "other names",
        folders("{split}/{label}/{name}", "COVID", "HEALTHY"),
        ("--positive", "COVID"), ("HEALTHY", "COVID"), _two("HEALTHY", "COVID"),
        without="has the classes COVID, HEALTHY; .* --positive HEALTHY or --positive COVID",
    ),
    Layout(
        "a level deeper",
        folders("archive/{split}/images/{label}/{name}", "Kränkliche  Lunge, links=rechts", "<b>gesund & 'munter'"),
        ("--positive", "Kränkliche  Lunge, links=rechts"),
        ("<b>gesund & 'munter'", "Kränkliche  Lunge, links=rechts"),
        _two("<b>gesund & 'munter'", "Kränkliche  Lunge, links=rechts"),
        without="--positive 'Kränkliche  Lunge, links=rechts'",
    ),
    Layout(
        "classes above splits",
        folders("{label}/{split}/{name}", _LONG, "HEALTHY"),
        ("--positive", _LONG), ("HEALTHY", _LONG), _two("HEALTHY", _LONG),
        without=f"--positive HEALTHY or --positive '{_LONG}'",
    ),
    Layout(
        "no splits",
        folders("{label}/{name}", "COVID", "HEALTHY"),
        ("--positive", "COVID", *_SHARES), ("HEALTHY", "COVID"), _two("HEALTHY", "COVID"),
        without=r"has classes \(HEALTHY, COVID\) and no splits; .*--split-shares 80/10/10",
    ),
    Layout(
        "train and val alone",
        _train_and_val,
        ("--positive", "COVID", *_SHARES), ("HEALTHY", "COVID"), _two("HEALTHY", "COVID"),
    ),
    Layout(
        "test apart",
        _apart,
        ("--test", "{}/apart", "--split", "80/20", "--positive", "SICK"), ("WELL", "SICK"), _two("WELL", "SICK"),
        without="has the classes SICK, WELL; .* --positive WELL or --positive SICK",
    ),
    Layout(
        "picked and merged",
        _three,
        ("--classes", "NORMAL=HEALTHY,COVID=ILL,Pneumonia=ILL", "--positive", "ILL"),
        ("HEALTHY", "ILL"), _two("HEALTHY", "ILL"),
        without="has the classes HEALTHY, ILL; .* --positive ILL or --positive HEALTHY",
    ),
    Layout(
        "a table",
        _table(
            ("image", "label", "patient", "split"),
            lambda p: (f"{p.split}/{p.name}", "sick" if p.is_ill else "well", p.patient, p.split),
            lambda p: f"{p.split}/{p.name}",
        ),
        ("--positive", "sick", "--labels", "{}/labels.csv"), ("well", "sick"), _two("well", "sick"),
        without="has no data set; expected .*--labels",
    ),
    Layout(
        "a Parquet table",
        _parquet,
        ("--labels", "{}/labels.parquet", "--positive", "sick"), ("well", "sick"), _two("well", "sick"),
        without="has the classes sick, well",
    ),
    Layout(
        "RSNA",
        _table(
            ("patientId", "x", "y", "width", "height", "Target"),
            lambda p: (p.name.partition(".")[0], *[9.5] * 4, int(p.is_ill)),
            lambda p: f"stage_2_train_images/{p.name.partition('.')[0]}.png",
            png=True,
        ),
        ("--labels", "{}/labels.csv", *_SHARES, "--positive", "Pneumonia"),
        ("not Pneumonia", "Pneumonia"), _two("not Pneumonia", "Pneumonia"),
        without="has the classes 0, 1; .* --positive 1 or --positive 0",
    ),
    Layout(
        "NIH ChestX-ray14",
        _table(
            ("Image Index", "Finding Labels", "Follow-up #", "Patient ID"),
            lambda p: (p.name.replace(".jpeg", ".png"), _NIH[p.shows], 0, p.patient),
            lambda p: f"images_001/images/{p.name.replace('.jpeg', '.png')}",
            png=True,
        ),
        ("--labels", "{}/labels.csv", *_SHARES, "--positive", "Pneumonia"),
        ("not Pneumonia", "Pneumonia"), _two("not Pneumonia", "Pneumonia"),
        without="images with several of Infiltration, No Finding, Pneumonia; .*--positive",
    ),
    Layout(
        "CheXpert",
        _table(
            ("Path", "Sex", "Cardiomegaly", "Pneumonia"),
            lambda p: (
                f"CheXpert-v1.0-small/train/patient{p.patient}/study1/{p.name}",
                "Female", "", {"NORMAL": "", "BACTERIA": "1.0", "VIRUS": "-1.0"}[p.shows],
            ),
            lambda p: f"train/patient{p.patient}/study1/{p.name}",
        ),
        ("--labels", "{}/labels.csv", "--positive", "Pneumonia", *_SHARES, "--uncertain-labels", "ones"),
        ("not Pneumonia", "Pneumonia"), _two("not Pneumonia", "Pneumonia"),
        without=r"calls Pneumonia uncertain \(-1\) in \d+ rows; .*--uncertain-labels ignore",
    ),
    Layout(
        "MedMNIST",
        _medmnist("breastmnist_64", lambda p: int(not p.is_ill)),
        ("--positive", "malignant"),
        ("malignant", "normal, benign"), _two("normal, benign", "malignant"),
        without="--positive 'normal, benign' or --positive malignant",
    ),
    Layout(
        "DICOM",
        _dicom,
        ("--positive", "ILL"), ("FINE", "ILL"), _two("FINE", "ILL"),
        without="has the classes FINE, ILL",
    ),
]  # fmt: skip

#: Layouts of more than two classes.
OF_SEVERAL_CLASSES = [
    Layout(
        "kinds in names",
        folders("{split}/{label}/{name}", "PNEUMONIA", "NORMAL"),
        ("--classes", "NORMAL,BACTERIA,VIRUS"),
        ("NORMAL", "BACTERIA", "VIRUS"), {name: name for name in ("NORMAL", "BACTERIA", "VIRUS")},
    ),
    Layout(
        "three folders",
        _three,
        ("--classes", "COVID,NORMAL,Pneumonia=OTHER"),
        ("COVID", "NORMAL", "OTHER"), {"NORMAL": "NORMAL", "BACTERIA": "COVID", "VIRUS": "OTHER"},
    ),
    Layout(
        "MedMNIST in colour",
        _medmnist("octmnist_64", lambda p: {"NORMAL": 3, "BACTERIA": 0, "VIRUS": 2}[p.shows], rgb=True),
        (),
        ("choroidal neovascularization", "drusen", "normal"),
        {"NORMAL": "normal", "BACTERIA": "choroidal neovascularization", "VIRUS": "drusen"},
    ),
]  # fmt: skip
