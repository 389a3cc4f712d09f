"""What ``predict`` makes of folders: images by their content, and a word on everything else."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from pneumo_edge.cli import app

Run = Callable[..., Any]


def _predict(*words: object) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, words)])


def _judged(result: Result, folder: Path) -> list[str]:
    images = json.loads(result.stdout)["images"]
    return [Path(image["source"]).relative_to(folder).as_posix() for image in images if "label" in image]


def _said(result: Result) -> list[str]:
    """Lines on standard error, but that noise is unlike an X-ray."""
    return [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.effect_noise((64, 64), 60).save(folder / "a.png")
    return folder


def test_content_decides_and_what_is_no_image_is_told_at_the_end(folder: Path) -> None:
    for name, kind in (("b.jfif", "JPEG"), ("c.jpe", "JPEG"), ("IM000001", "PNG"), ("d.dat", "TIFF")):
        Image.effect_noise((64, 64), 60).save(folder / name, kind)
    for name in ("notes.txt", "labels.csv", "README"):
        (folder / name).write_text("x")
    result = _predict(folder, "--json")
    assert result.exit_code == 0
    assert _judged(result, folder) == ["IM000001", "a.png", "b.jfif", "c.jpe", "d.dat"]
    assert _said(result) == [f"note: {folder}: 3 files are not images: README, labels.csv, notes.txt"]


@pytest.mark.parametrize("option", ["--json", "--jsonl", "--csv", "--out"])
def test_every_output_ends_with_it(folder: Path, tmp_path: Path, option: str) -> None:
    (folder / "notes.txt").write_text("x")
    result = _predict(folder, *([option, tmp_path / "x.csv"] if option == "--out" else [option]))
    assert result.exit_code == 0
    assert _said(result) == [f"note: {folder}: 1 file is not an image: notes.txt"]
    assert "notes.txt" not in result.stdout


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("x.avif", b"\0\0\0\x1cftypavif", "AVIF"), ("x.heic", b"\0\0\0\x18ftypheic", "HEIC"),
        ("x.jxl", b"\xff\x0a\0\0", "JPEG XL"), ("x.jp2", b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        ("x.pgm", b"P5\n64 64\n255\n", "PNM"), ("x", b"\0\0\0\x1cftypavif", "AVIF"), ("x.txt", b"8BPS\0\1", "PSD"),
    ],
)  # fmt: skip
def test_formats_that_are_not_read_are_named(folder: Path, name: str, head: bytes, kind: str) -> None:
    (folder / name).write_bytes(head + bytes(500))
    result = _predict(folder, "--json")
    assert result.exit_code == 4
    assert _judged(result, folder) == ["a.png"]
    (line,) = _said(result)
    assert line.startswith(f"error: {folder / name}: this is {kind}, not an image of a supported format")


@pytest.mark.parametrize("name", ["x.png", "x.jfif", "x.avif", "x.ima"])
def test_what_its_ending_calls_an_image_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"no picture")
    result = _predict(folder, "--json")
    assert result.exit_code == 4
    (line,) = _said(result)
    assert line.startswith(f"error: {folder / name}: ")


def test_dicom_files_of_any_name_are_judged(folder: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")
    file = Path(pydicom.data.get_testdata_file("MR_small.dcm", download=False))
    names = ["1.2.840.113619.2.5", "IM000001", "a.png", "sub/I0000002", "x.ima"]
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(file, folder / name)
    result = _predict(folder, "--json")
    assert (result.exit_code, _said(result)) == (0, [])
    assert _judged(result, folder) == names


def test_what_a_mac_or_windows_leaves_is_passed_over_in_one_line(folder: Path) -> None:
    (folder / "__MACOSX").mkdir()
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/._a.png"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    result = _predict(folder, "--json")
    assert result.exit_code == 0
    assert _judged(result, folder) == ["a.png"]
    (line,) = _said(result)
    assert line == (
        f"note: {folder}: 5 are hidden or of the operating system: .DS_Store, ._a.png, Thumbs.db, __MACOSX, desktop.ini"
    )
    # A name that is given is judged, whatever it is.
    shutil.copy(folder / "a.png", folder / ".a.png")
    assert _predict(folder / ".a.png").exit_code == 0


def test_a_folder_without_images_is_an_error_that_says_what_there_is(folder: Path) -> None:
    (folder / "a.png").rename(folder / ".a.png")
    (folder / "notes.txt").write_text("x")
    result = _predict(folder)
    assert result.exit_code == 4
    first, *notes = _said(result)
    assert "the folder contains no images" in first
    assert sorted(line.rpartition(": ")[2] for line in notes) == [".a.png", "notes.txt"]


def test_linked_folders_are_judged_and_loops_end(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(folder / "a.png", tmp_path / "elsewhere" / "b.png")
    for name, target in (("day1", "../elsewhere"), ("day2", "../elsewhere"), ("loop", "."), ("up", "..")):
        (folder / name).symlink_to(target)
    result = _predict(folder, "--json")
    assert result.exit_code == 0
    assert _judged(result, folder) == ["a.png", "day1/b.png"]
    assert _said(result) == [
        f"note: {folder}: 2 links lead to folders that contain them: loop, up",
        f"note: {folder}: 1 link leads to a folder that is already read: day2",
    ]
    (tmp_path / "link").symlink_to("in")
    assert _judged(_predict(tmp_path / "link", "--json"), tmp_path / "link") == ["a.png", "day1/b.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_name_that_is_not_utf8_is_judged_and_shown_escaped(folder: Path, run: Run) -> None:
    shutil.copy(folder / "a.png", folder / os.fsdecode(b"caf\xe9.png"))
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    done = run("predict", folder, "--csv")
    assert done.code == 0
    assert len(done.out.splitlines()) == 3
    assert r"1 file is not an image: caf\udce9.txt" in done.err
