from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pneumo_edge.api.datasets import open_data
from pneumo_edge.cli import app
from pneumo_edge.data.sources import PHANTOM_MARKER, FolderSource, Source, open_source
from pneumo_edge.data.tensors import prepare
from pneumo_edge.errors import DataError

MakeFolder = Callable[[Mapping[str, bytes]], Path]
Picture = Callable[..., bytes]


def _counts(source: Source) -> dict[tuple[str, int], int]:
    return Counter((sample.split, sample.label) for sample in source.samples)


@pytest.mark.parametrize(
    ("folder", "split", "label", "kind"),
    [
        ("valid/NORMAL", "val", 0, ""),
        ("validation/PNEUMONIA", "val", 1, ""),
        ("TRAIN/Normal", "train", 0, ""),
        ("Testing/pneumonia", "test", 1, ""),
        ("train/Bacterial Pneumonia", "train", 1, "bacteria"),
        ("train/PNEUMONIA_VIRUS", "train", 1, "virus"),
        ("test/BACTERIA", "test", 1, "bacteria"),
        ("train/Viral-Pneumonia", "train", 1, "virus"),
    ],
)
def test_folders_that_mean_a_split_and_a_class_are_used(
    make_folder: MakeFolder, healthy: dict[str, bytes], folder: str, split: str, label: int, kind: str
) -> None:
    source = open_source(make_folder({**healthy, f"{folder}/film.png": b"x"}))
    (sample,) = (sample for sample in source.samples if sample.name.endswith("film.png"))
    assert (sample.name, sample.split, sample.label, sample.kind) == (f"{folder}/film.png", split, label, kind)
    assert source.read(sample) == b"x"
    assert source.passed_over == {}


def test_a_data_set_may_have_such_names_alone(make_folder: MakeFolder, healthy: dict[str, bytes]) -> None:
    renamed = {
        name.replace("train/", "Training/").replace("NORMAL/", "normal/"): data for name, data in healthy.items()
    }
    assert _counts(open_source(make_folder(renamed))) == _counts_of(healthy)


def _counts_of(healthy: dict[str, bytes]) -> dict[tuple[str, int], int]:
    return Counter((name.split("/")[0], int("PNEUMONIA" in name)) for name in healthy)


@pytest.fixture
def strange(make_folder: MakeFolder, healthy: dict[str, bytes], picture: Picture) -> Path:
    """A data set with what does not belong to it."""
    png = picture(1, kind="PNG")
    return make_folder(
        {
            **healthy,
            "train/COVID19/1.png": png, "train/COVID19/deep/2.png": png, "test/Tuberculosis/1.png": png,
            "unlabelled/1.png": png, "train/loose.png": png, "loose.dcm": b"\0" * 128 + b"DICM",
            "README.txt": b"about", "train/NORMAL/notes.txt": b"about", "train/NORMAL/Thumbs.db": b"\xd0\xcf",
            "__MACOSX/train/._NORMAL": b"x", "train/PNEUMONIA/._person1_virus_1.jpeg": b"x", "test/.DS_Store": b"x",
        }
    )  # fmt: skip


@pytest.mark.parametrize("inner", ["NORMAL/PNEUMONIA", "PNEUMONIA/more/normal", "NORMAL/test", "PNEUMONIA/Valid/x"])
def test_a_folder_that_contradicts_the_one_around_it_is_not_used(
    make_folder: MakeFolder, healthy: dict[str, bytes], inner: str
) -> None:
    files = {**healthy, f"train/{inner}/person30_bacteria_1.jpeg": b"x", "train/PNEUMONIA/bacteria/deep/1.png": b"x"}
    source = open_source(make_folder(files))
    assert {sample.name for sample in source.samples} == {*healthy, "train/PNEUMONIA/bacteria/deep/1.png"}
    ((name, why),) = source.passed_over.items()
    assert f"train/{inner}/".startswith(name)
    assert "has the name of another class or a split" in why


def test_what_means_nothing_is_named(strange: Path, healthy: dict[str, bytes]) -> None:
    source = open_source(strange)
    assert {sample.name for sample in source.samples} == set(healthy)
    why = source.passed_over
    assert "its 2 images are not used" in why["train/COVID19/"]
    assert "neither of the classes NORMAL, PNEUMONIA" in why["test/Tuberculosis/"]
    assert "not one of the splits" in why["unlabelled/"]
    assert why["train/loose.png"] == why["loose.dcm"] == "is not in a class folder"
    assert why["train/NORMAL/notes.txt"] == "no image"
    assert why.keys() == {
        "train/COVID19/", "test/Tuberculosis/", "unlabelled/", "train/loose.png", "loose.dcm", "README.txt",
        "train/NORMAL/notes.txt", "train/NORMAL/Thumbs.db", "__MACOSX/", "train/PNEUMONIA/._person1_virus_1.jpeg",
        "test/.DS_Store",
    }  # fmt: skip


def test_audit_and_manifest_name_them_and_so_do_the_other_readers(
    strange: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = CliRunner().invoke(app, ["data", "audit", str(strange), "--json", str(tmp_path / "audit.json")])
    assert "train/COVID19/: the folder is neither of the classes" in result.stdout
    expected = open_source(strange).passed_over
    assert json.loads((tmp_path / "audit.json").read_text())["passed_over"] == expected
    for _ in range(2):  # decoded, and from the cache
        assert prepare(open_source(strange), tmp_path / "cache", 32, 32).manifest.passed_over == expected
    capsys.readouterr()
    open_data(strange, None)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines[:3]] == ["test/Tuberculosis/", "train/COVID19/", "unlabelled/"]
    assert lines[3] == "note: 3 files are not used: loose.dcm, train/loose.png, train/NORMAL/notes.txt"
    assert len(lines) == 4


def test_of_two_classes_of_other_names_it_is_asked_which_is_positive(make_folder: MakeFolder) -> None:
    with pytest.raises(DataError, match=r"has the classes COVID19, NORMAL; .*--positive NORMAL"):
        open_source(make_folder({"train/NORMAL/1.png": b"x", "train/COVID19/1.png": b"x"}))


def test_the_marker_of_phantoms_is_no_stray_file(make_folder: MakeFolder, healthy: dict[str, bytes]) -> None:
    assert open_source(make_folder({**healthy, PHANTOM_MARKER: b"drawn"})).passed_over == {}


def test_what_lies_beside_kaggles_nested_folder_is_named(make_folder: MakeFolder, healthy: dict[str, bytes]) -> None:
    nested = {f"chest_xray/{name}": data for name, data in healthy.items()}
    source = open_source(make_folder({**nested, "more/1.png": b"x"}))
    assert source.passed_over == {"../more/": "is beside chest_xray, which is used instead"}


# Links


def test_folders_that_are_links_are_read(make_folder: MakeFolder, healthy: dict[str, bytes], tmp_path: Path) -> None:
    root = make_folder(healthy)
    for folder in ("test", "train/PNEUMONIA"):
        shutil.move(root / folder, tmp_path / folder.replace("/", "-"))
        (root / folder).symlink_to(tmp_path / folder.replace("/", "-"))
    (root / "train" / "NORMAL" / "loop").symlink_to("..")
    source = open_source(root)
    assert {sample.name for sample in source.samples} == set(healthy)
    assert all(source.read(sample) == healthy[sample.name] for sample in source.samples)
    assert source.passed_over == {"train/NORMAL/loop/": "links to a folder that contains it"}


@pytest.mark.parametrize("link", ["val", "train/NORMAL/more", "valid"])
def test_a_folder_that_is_reached_twice_is_read_once_and_never_trained_on_where_it_is_for_test(
    make_folder: MakeFolder, healthy: dict[str, bytes], link: str
) -> None:
    root = make_folder(healthy)
    (root / link).symlink_to(root / "test" / "NORMAL" if link.startswith("train") else root / "test")
    source = open_source(root)
    assert _counts(source) == _counts_of(healthy)
    assert set(source.passed_over.values()) == {"links to a folder that is already read"}


def test_of_two_links_to_one_folder_test_has_it(
    make_folder: MakeFolder, healthy: dict[str, bytes], tmp_path: Path
) -> None:
    root = make_folder(healthy)
    shutil.move(root / "test", tmp_path / "kept")
    (root / "test").symlink_to(tmp_path / "kept")
    (root / "val").symlink_to(tmp_path / "kept")
    assert _counts(open_source(root)) == _counts_of(healthy)


# Names that are not UTF-8


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_files_whose_names_are_not_utf8_are_used(
    make_folder: MakeFolder, healthy: dict[str, bytes], picture: Picture, tmp_path: Path
) -> None:
    root = make_folder(healthy)
    folder = root / "train" / "NORMAL"
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(picture(7, kind="PNG"))
    # A file that has the escaped name of the other for its own, and a folder.
    (folder / "caf\\xe9.png").write_bytes(picture(8, kind="PNG"))
    (folder / os.fsdecode(b"\xff")).mkdir()
    (folder / os.fsdecode(b"\xff") / "a.png").write_bytes(picture(9, kind="PNG"))
    (root / "train" / os.fsdecode(b"C\xf6vid")).mkdir()
    source = FolderSource(root)
    names = {sample.name for sample in source.samples} - set(healthy)
    assert names == {"train/NORMAL/caf\\xe9.png", "train/NORMAL/caf\\xe9.png#2", "train/NORMAL/\\xff/a.png"}
    read = {source.read(sample) for sample in source.samples if sample.name in names}
    assert read == {picture(seed, kind="PNG") for seed in (7, 8, 9)}
    manifest = prepare(source, tmp_path / "cache", 32, 32).manifest
    assert names <= {entry.name for entry in manifest.entries}
    assert manifest.left_out == {}
    result = CliRunner().invoke(app, ["data", "audit", str(root)])
    assert result.exit_code == 0
    assert "Unusable, left out of training: 0 of 51" in result.stdout
    assert "train/C\\xf6vid/" in result.stdout
