from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumo_edge.data import medmnist
from pneumo_edge.data.sources import (
    PHANTOM_MARKER,
    DataSource,
    FolderSource,
    MedMnistSource,
    describe_counts,
    open_source,
    parse_patient,
)
from pneumo_edge.errors import DataError
from pneumo_edge.imaging import images

MakeFolder = Callable[[dict[str, bytes]], Path]


@pytest.mark.parametrize(
    ("stem", "patient"),
    [
        ("person1_bacteria_2", ("person1", "bacteria")),
        ("person1_virus_7", ("person1", "virus")),
        ("person447_virus_921_1", ("person447", "virus")),
        ("IM-0115-0001", ("IM-0115", "")),
        ("IM-0115-0001-0002", ("IM-0115", "")),
        ("NORMAL2-IM-0587-0001-0001", ("NORMAL2-IM-0587", "")),
        ("PERSON1_BACTERIA_2", ("person1", "bacteria")),
        ("00000013_005", None),
        ("person_virus_1", None),
        ("my person1_virus_2", None),
    ],
)
def test_patients_are_read_from_kermany_names(stem: str, patient: tuple[str, str] | None) -> None:
    assert parse_patient(stem) == patient


def test_a_folder_is_read_with_splits_classes_and_patients(make_folder: MakeFolder, healthy: dict[str, bytes]) -> None:
    source = open_source(make_folder({**healthy, "val/NORMAL/IM-0500-0001.jpeg": b"x"}))
    assert describe_counts(source.samples, source.task.class_names) == {
        "train": {"NORMAL": 20, "PNEUMONIA": 20},
        "val": {"NORMAL": 1, "PNEUMONIA": 0},
        "test": {"NORMAL": 4, "PNEUMONIA": 4},
    }
    assert source.real
    assert source.has_patients
    sample = next(s for s in source.samples if s.name == "test/PNEUMONIA/person101_virus_101.jpeg")
    assert (sample.split, sample.label, sample.patient, sample.kind) == ("test", 1, "person101", "virus")
    assert source.read(sample) == healthy[sample.name]


def test_kaggles_archive_with_its_nested_folder_opens(make_folder: MakeFolder, healthy: dict[str, bytes]) -> None:
    nested = {f"chest_xray/{name}": data for name, data in healthy.items()}
    clutter = {"chest_xray/__MACOSX/._train": b"", "chest_xray/.DS_Store": b""}
    source = open_source(make_folder({**nested, **clutter}))
    assert [s.name for s in source.samples] == sorted(healthy, key=lambda n: ("train test".index(n.split("/")[0]), n))


def test_what_an_operating_system_hides_is_no_image(make_folder: MakeFolder, healthy: dict[str, bytes]) -> None:
    hidden = {
        "train/NORMAL/.DS_Store": b"x",
        "train/NORMAL/._IM-0001-0001.jpeg": b"x",
        "train/NORMAL/.ipynb_checkpoints/IM-0001-0001.jpeg": b"x",
    }
    source = open_source(make_folder({**healthy, **hidden}))
    assert {s.name for s in source.samples} == set(healthy)


def test_a_file_of_another_type_is_not_passed_over_in_silence(
    make_folder: MakeFolder, healthy: dict[str, bytes]
) -> None:
    source = open_source(make_folder({**healthy, "train/NORMAL/IM-0900-0001.dcm": b"\0" * 128 + b"DICM"}))
    assert "train/NORMAL/IM-0900-0001.dcm" in {s.name for s in source.samples}


def test_a_name_that_is_not_utf8_is_shown_escaped(make_folder: MakeFolder, healthy: dict[str, bytes]) -> None:
    root = make_folder(healthy)
    try:
        (root / "train/NORMAL" / "r\udcf6ntgen.jpeg").write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    assert "train/NORMAL/r\\xf6ntgen.jpeg" in {s.name for s in FolderSource(root).samples}


def test_the_marker_makes_a_folder_a_phantom(make_folder: MakeFolder, healthy: dict[str, bytes]) -> None:
    source = open_source(make_folder({**healthy, PHANTOM_MARKER: b"drawn"}))
    assert not source.real
    assert "not real" in source.title


def test_unknown_names_have_no_patients(make_folder: MakeFolder) -> None:
    source = open_source(make_folder({"train/NORMAL/a.png": b"x", "train/PNEUMONIA/b.png": b"x"}))
    assert not source.has_patients
    assert len({s.patient for s in source.samples}) == 2


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ({}, "train/NORMAL"),
        ({"readme.txt": b"x"}, "train/NORMAL"),
        ({"train/NORMAL/a.png": b"x"}, "the one class NORMAL; expected two classes or more"),
        (
            {"train/a\nb/1.png": b"x", "train/c/2.png": b"y", "train/d/3.png": b"z"},
            re.escape(r"the class a\nb, with a line break"),
        ),
        ({"NORMAL/a.png": b"x", "PNEUMONIA/b.png": b"x"}, "no splits; .* --split-shares 80/10/10"),
    ],
    ids=["empty", "no layout", "one class", "a name of two lines", "no train folder"],
)
def test_a_path_without_a_data_set_is_refused(
    tmp_path: Path, make_folder: MakeFolder, contents: Any, said: str
) -> None:
    root = make_folder(contents)
    with pytest.raises(DataError, match=said):
        open_source(root)


def _arrays(count: int = 6, shape: tuple[int, ...] = (28, 28)) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count, dtype=np.uint8)[:, np.newaxis] % 2
    return arrays


@pytest.mark.parametrize("shape", [(28, 28), (64, 64), (28, 28, 3)])
def test_medmnist_images_come_out_as_they_are(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path, arrays = tmp_path / "pneumoniamnist.npz", _arrays(shape=shape)
    np.savez(path, **arrays)
    source = open_source(path)
    assert isinstance(source, MedMnistSource)
    assert len(source.samples) == 18
    for sample in source.samples:
        split, index = sample.name.split("/")
        assert sample.split == split
        assert sample.label == int(index) % 2
        if len(shape) == 2:
            pixels = np.asarray(images.decode(source.read(sample)))
            np.testing.assert_array_equal(pixels, arrays[f"{split}_images"][int(index)])


def test_large_medmnist_arrays_are_mapped_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "pneumoniamnist_64.npz"
    np.savez_compressed(path, **_arrays(shape=(64, 64)))
    held = open_source(path)
    monkeypatch.setattr(medmnist, "_LARGE", 0)
    mapped = open_source(path)
    assert mapped.samples == held.samples
    assert [mapped.read(sample) for sample in mapped.samples] == [held.read(sample) for sample in held.samples]
    # It has no name, so nothing of it is left.
    assert list((tmp_path / "cache").iterdir()) == []
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match="cannot be read as a MedMNIST file"):
        open_source(path)


def test_several_labels_an_image_are_reduced_to_one(tmp_path: Path) -> None:
    arrays = _arrays()
    for split in ("train", "val", "test"):
        arrays[f"{split}_labels"] = np.zeros((6, 14), dtype=np.uint8)
        arrays[f"{split}_labels"][::2, 6] = 1
        arrays[f"{split}_labels"][::3, 1] = 1
    path = tmp_path / "chestmnist.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=r"several of .*cardiomegaly.*pneumonia.* --positive"):
        open_source(path)
    source = open_source(DataSource(str(path), positive="Pneumonia"))
    assert source.task.class_names == ("not pneumonia", "pneumonia")
    assert [sample.label for sample in source.samples[:6]] == [1, 0, 1, 0, 1, 0]


def test_a_medmnist_set_of_unknown_name_has_numbers_for_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **_arrays())
    with pytest.raises(DataError, match="has the classes 0, 1"):
        open_source(tmp_path / "mine.npz")
    source = open_source(DataSource(str(tmp_path / "mine.npz"), classes="0=well,1=ill", positive="ill"))
    assert source.task.class_names == ("well", "ill")
    assert source.licence == "as its owner says"


def test_medmnist_bytes_hold_the_bare_pixels(tmp_path: Path) -> None:
    # So that a fingerprint does not depend on the version of a compressor.
    arrays = _arrays()
    arrays["train_images"][:] = 7
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays)
    source = open_source(tmp_path / "pneumoniamnist.npz")
    data = source.read(source.samples[0])
    assert data.endswith(b"\x07" * 28 * 28)
    assert hashlib.sha256(data).hexdigest() == "db1758bdd9bdec242e32cc4f5638926dbf90996674b12ff3429589941e005149"


def _broken(kind: str, path: Path) -> None:
    arrays = _arrays()
    if kind == "text":
        path.write_text("no archive")
        return
    if kind == "a bare array":
        with path.open("wb") as stream:
            np.save(stream, arrays["train_images"])
        return
    if kind == "another data set":
        arrays = {"x_train": arrays["train_images"]}
    elif kind == "pickled":
        arrays["train_labels"] = np.array([{"a": 1}] * 6, dtype=object)
    elif kind == "several labels an image":
        arrays["train_labels"] = np.zeros((6, 14), dtype=np.uint8)
    elif kind == "eight classes":
        arrays["test_labels"] = np.full((6, 1), 7, dtype=np.uint8)
    elif kind == "floats":
        arrays["val_images"] = arrays["val_images"] / 255.0
    elif kind == "a label too few":
        arrays["val_labels"] = arrays["val_labels"][1:]
    elif kind == "volumes":
        arrays["val_images"] = np.zeros((6, 28, 28, 28), dtype=np.uint8)
    np.savez_compressed(path, **arrays)
    if kind == "cut short":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "flipped bytes":
        data = bytearray(path.read_bytes())
        data[2000:2100] = bytes(100)
        path.write_bytes(data)


@pytest.mark.parametrize(
    "kind",
    [
        "text",
        "a bare array",
        "another data set",
        "pickled",
        "several labels an image",
        "eight classes",
        "floats",
        "a label too few",
        "volumes",
        "cut short",
        "flipped bytes",
    ],
)
def test_a_broken_or_foreign_archive_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pneumoniamnist.npz"
    _broken(kind, path)
    with pytest.raises(DataError, match=r"pneumoniamnist\.npz") as caught:
        open_source(path)
    assert "\n" not in str(caught.value)
