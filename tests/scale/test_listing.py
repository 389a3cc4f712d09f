from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pneumo_edge.cli import app
from pneumo_edge.errors import DataError
from pneumo_edge.scale import listing, plan, repeats
from pneumo_edge.scale.plan import Reader
from tests.scale import archives

parquet = pytest.importorskip("pyarrow.parquet", reason="the extra 'parquet' is not installed")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = archives.draw(tmp_path_factory.mktemp("archive") / "images")
    (folder / "notes.txt").write_text("no image\n")
    (folder / ".hidden.png").write_bytes(archives.content(0))
    archives.draw(folder / ".private", ["0.png"])
    (folder / "a" / "folder").symlink_to(folder / "b")
    (folder / "empty.tar").write_bytes(bytes(10240))
    archives.tar(folder, folder / "shard.tar")
    pixels = [archives.content(number) for number in range(5)]
    archives.table(folder / "table.parquet", {"image": pixels, "key": [f"k{number}" for number in range(5)]})
    (folder / "list.txt").write_text("".join(f"{name}\n\n" for name in archives.NAMES))
    return folder


def _names(source: object) -> list[str]:
    return [entry.name for entry, _ in listing.entries(listing.open_source(str(source)))]


def test_files_come_in_the_order_of_an_object_store(archive: Path) -> None:
    files = [name for name in _names(archive) if not name.startswith(("shard.tar", "table.parquet"))]
    assert files == sorted(archives.NAMES)


def test_tars_and_tables_in_a_folder_are_opened(archive: Path) -> None:
    names = _names(archive)
    assert [f"shard.tar/{name}" for name in archives.NAMES] == [name for name in names if name.startswith("shard.tar")]
    assert [f"table.parquet/k{number}" for number in range(5)] == names[-5:]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a/*.png", ["a/0.png", "a/1.png"]),
        ("**/[34].png", ["3.png", "4.png"]),
        ("a*/?.png", ["a-b/0.png", "a/0.png", "a/1.png"]),
        ("b/**", ["3.png", "4.png"]),
        ("b/[!3].png", ["4.png"]),
        ("b/[&&~4^].png", ["4.png"]),
        ("b/[[4!].png", ["4.png"]),
    ],
)
def test_pattern_chooses_files(archive: Path, pattern: str, found: list[str]) -> None:
    # Names begin where the pattern has its first wildcard.
    assert [name.removeprefix("b/") for name in _names(archive / pattern)] == [
        name.removeprefix("a/") if pattern.startswith("a/") else name for name in found
    ]


@pytest.mark.parametrize("source", ["", "list.txt", "shard.tar", "table.parquet"])
def test_listing_continues_after_any_image(archive: Path, source: str) -> None:
    opened = listing.open_source(str(archive / source))
    left_out: list[str] = []
    told: list[int] = []
    whole = []
    for each in listing.entries(opened, None, lambda name, why: left_out.append(f"{name}: {why}")):
        whole.append(each)
        told.append(len(left_out))
    for number, (_, cursor) in enumerate(whole):
        again: list[str] = []
        rest = listing.entries(opened, cursor, lambda name, why: again.append(f"{name}: {why}"))  # noqa: B023
        assert list(rest) == whole[number + 1 :]
        assert again == left_out[told[number] :]
    hidden, no_image = "hidden, or of the operating system", "no image"
    in_tar = [f"shard.tar/{name.removesuffix('.png')}.json: {no_image}" for name in archives.NAMES]
    others = [f".hidden.png: {hidden}", f".private/: {hidden}", "a/folder: a link to a folder"]
    others += ["empty.tar: a tar or Parquet file without images", f"list.txt: {no_image}", f"notes.txt: {no_image}"]
    expected = {"": sorted([*others, *in_tar]), "shard.tar": in_tar}
    assert left_out == expected.get(source, [])


def test_killed_listing_is_continued_and_gives_the_same_plan(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_PART_NAMES", 3)
    opened = listing.open_source(str(archive / "list.txt"))
    undisturbed = plan.make(str(tmp_path / "whole"), opened, 3, lambda images: None)

    def kill(images: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan.make(str(tmp_path / "killed"), opened, 3, kill)
    listed: list[int] = []
    assert plan.make(str(tmp_path / "killed"), opened, 3, listed.append) == undisturbed
    assert listed == [6, 7]
    reader = Reader(str(tmp_path / "killed"))
    names = [
        entry.name for number, part, _ in undisturbed.shards() for entry in reader.read(part.file, number - part.first)
    ]
    assert names == list(archives.NAMES)


def test_what_is_left_out_and_names_that_come_twice_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_this_process: None
) -> None:
    monkeypatch.setattr(plan, "_PART_NAMES", 2)
    archive, place = archives.draw(tmp_path / "in", [f"{number}.png" for number in range(5)]), tmp_path / "out"
    files = [f"{number}.txt" for number in range(5)] + [".x"]
    for name in files:
        (archive / name).write_text("no image")
    score = ["score", str(archive), "--out", str(place), "--shard-size", "2"]
    first, again = CliRunner().invoke(app, score), CliRunner().invoke(app, score)
    said = (
        "note: 6 files are left out: 1 hidden, or of the operating system (.x), 5 no image (0.txt, 1.txt, 2.txt, ...); "
        f"all of them are named in {place}/_plan/left-out-*.parquet\n"
    )
    assert said in first.stderr and said in again.stderr
    tables = [parquet.read_table(path) for path in sorted((place / "_plan").glob("left-out-*.parquet"))]
    assert sorted(name for table in tables for name in table["name"].to_pylist()) == sorted(files)

    (tmp_path / "list.txt").write_text("in/0.png\nin/1.png\n" * 2 + "in/1.png\nin/2.png\n")
    done = CliRunner().invoke(app, ["score", str(tmp_path / "list.txt"), "--out", str(tmp_path / "twice")])
    assert (
        "warning: 2 names come more than once in the source (in/0.png, in/1.png): 5 images have them, and each has a "
        "row of its own\n"
    ) in done.stderr
    manifest = json.loads(next((tmp_path / "twice").glob("model=*/_manifest.json")).read_bytes())
    assert (manifest["images"], manifest["repeated"]) == (6, 5)


@given(st.lists(st.sampled_from("abcdefghij"), max_size=30), st.integers(0, 30))
def test_names_that_come_twice_are_counted(names: list[str], middle: int) -> None:
    with repeats.Repeats() as counted:
        counted.add(names[:middle])
        counted.add(names[middle:])
        found = counted.found()
    twice = {name for name in names if names.count(name) > 1}
    assert (found.names, found.images) == (len(twice), sum(map(names.count, twice)))
    assert found.hashes == set(map(hash, twice))


def test_name_that_is_not_utf8_is_in_the_plan(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        archives.draw(tmp_path / "in", [name])
    except OSError:
        pytest.skip("this file system takes no such names")
    planned = plan.make(str(tmp_path / "out"), listing.open_source(str(tmp_path / "in")), 3, lambda images: None)
    (part,) = planned.parts
    assert [entry.name for entry in Reader(str(tmp_path / "out")).read(part.file, 0)] == [name]


@pytest.mark.parametrize(
    ("columns", "column", "said"),
    [
        ({"one": [b"x"], "two": [b"y"]}, "", "has no column that is known to hold images (it has one, two)"),
        ({"one": [b"x"]}, "two", "has no fitting column 'two'; expected one of one"),
        ({"number": [1]}, "number", "has no fitting column 'number'"),
    ],
)
def test_table_without_images_is_refused(tmp_path: Path, columns: dict[str, object], column: str, said: str) -> None:
    path = archives.table(tmp_path / "table.parquet", columns)
    with pytest.raises(DataError) as caught:
        list(listing.entries(listing.open_source(str(path), column)))
    assert said in str(caught.value)


def test_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        listing.open_source(str(tmp_path / "nothing"))
    with pytest.raises(DataError, match=r"the pattern \[z-a\].png cannot be used \(bad character range z-a\)"):
        listing.open_source(str(tmp_path / "[z-a].png"))
    with pytest.raises(DataError, match="s3:// names no bucket"):
        listing.open_source("s3://")
