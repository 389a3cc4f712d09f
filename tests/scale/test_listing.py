from __future__ import annotations

import os
from pathlib import Path

import pytest

from pneumo_edge.errors import DataError
from pneumo_edge.scale import listing, plan
from pneumo_edge.scale.plan import Reader
from tests.scale import archives

pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = archives.draw(tmp_path_factory.mktemp("archive") / "images")
    (folder / "notes.txt").write_text("no image\n")
    (folder / ".hidden.png").write_bytes(archives.content(0))
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
    whole = list(listing.entries(opened))
    for number, (_, cursor) in enumerate(whole):
        assert list(listing.entries(opened, cursor)) == whole[number + 1 :]


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
    with pytest.raises(DataError, match="s3:// names no bucket"):
        listing.open_source("s3://")
