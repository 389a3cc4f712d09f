"""Tars and Parquet files as archives have them: with links, odd names, other column types, damage."""

from __future__ import annotations

import datetime
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pneumo_edge import Classifier
from pneumo_edge.errors import DataError
from pneumo_edge.scale import listing, stores
from tests.scale import archives

pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")

_IMAGE = archives.content(0)


def _names(source: object, column: str = "", day: str = "") -> list[str]:
    return [entry.name for entry, _ in listing.entries(listing.open_source(str(source), column, day))]


def _add(archive: tarfile.TarFile, name: str, content: bytes = _IMAGE, link: tuple[bytes, str] | None = None) -> None:
    member = tarfile.TarInfo(name)
    if link:
        member.type, member.linkname = link
        archive.addfile(member)
    else:
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        _add(archive, "x/soft.png", link=(tarfile.SYMTYPE, "../y/chain.png"))
        _add(archive, "y/chain.png", link=(tarfile.SYMTYPE, "0.png"))
        _add(archive, "y/0.png")
        _add(archive, "hard.png", link=(tarfile.LNKTYPE, "y/0.png"))
        _add(archive, "out.png", link=(tarfile.SYMTYPE, "/etc/passwd"))
        _add(archive, "loop.png", link=(tarfile.SYMTYPE, "loop.png"))
        _add(archive, "1.png", archives.content(1))
    return path


def test_links_in_a_tar_are_what_they_lead_to(classifier: Classifier, tmp_path: Path, linked: Path) -> None:
    found, manifest = archives.score_here(classifier, linked, tmp_path / "out")
    rows = {row["name"].removeprefix("a.tar/"): row for row in found}
    links = ["x/soft.png", "y/chain.png", "hard.png", "out.png", "loop.png"]
    assert list(rows) == ["y/0.png", "1.png", *links]
    expected = classifier.predict(_IMAGE)
    for name in ("y/0.png", *links[:3]):
        assert rows[name]["probabilities"] == list(expected.probabilities.values())
    assert manifest.errors == {"ImageError": 2}
    assert rows["out.png"]["error"].startswith("the link leads to no file of its tar")


def test_listing_of_links_continues(linked: Path) -> None:
    opened = listing.open_source(str(linked.parent))
    whole = list(listing.entries(opened))
    for number, (_, cursor) in enumerate(whole):
        assert list(listing.entries(opened, cursor)) == whole[number + 1 :]


def test_tars_that_were_joined_are_read_to_the_end(classifier: Classifier, tmp_path: Path) -> None:
    parts = []
    for number in range(3):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            _add(archive, f"{number}.png", archives.content(number))
        parts.append(stream.getvalue())
    (tmp_path / "joined.tar").write_bytes(b"".join(parts))
    found, manifest = archives.score_here(classifier, tmp_path / "joined.tar", tmp_path / "out")
    assert [row["name"] for row in found] == [f"joined.tar/{number}.png" for number in range(3)]
    assert not manifest.errors


def test_hidden_members_are_left_out_and_names_stay_within_the_tar(tmp_path: Path) -> None:
    names = ["./a.png", "/abs/b.png", "../../up/c.png", ".hidden.png", "__MACOSX/._a.png", "d/.x/e.png"]
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in names:
            _add(archive, name)
    assert _names(tmp_path / "a.tar") == ["a.tar/a.png", "a.tar/abs/b.png", "a.tar/up/c.png"]


def test_damaged_file_in_a_folder_costs_no_other(
    classifier: Classifier, tmp_path: Path, linked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = linked.parent
    archives.draw(folder, ["0.png", "private/1.png", "z.png"])
    for name, content in {
        "empty.tar": b"",
        "junk.tar": b"hello" * 1000,
        "zipped.tar.gz": b"\x1f\x8b",
        "p.parquet": b"",
    }.items():
        (folder / name).write_bytes(content)
    (folder / "b.tar").write_bytes(linked.read_bytes()[:5000])
    scandir = os.scandir

    def closed(path: Any) -> Any:
        if str(path).rstrip("/").endswith("private"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    found, _ = archives.score_here(classifier, folder, tmp_path / "out")
    unread = {
        row["name"]: row["error"] for row in found if row["error"] and "when the source was listed" in row["error"]
    }
    assert set(unread) == {"b.tar", "empty.tar", "junk.tar", "zipped.tar.gz", "p.parquet", "private/"}
    assert {"0.png", "z.png", "a.tar/1.png"} <= {row["name"] for row in found if not row["error"]}
    opened = listing.open_source(str(folder))
    whole = list(listing.entries(opened))
    for number, (_, cursor) in enumerate(whole):
        assert list(listing.entries(opened, cursor)) == whole[number + 1 :]


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "gz-as.tar"])
def test_compressed_tar_is_refused_by_a_true_sentence(name: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / name, "w:gz") as archive:
        _add(archive, "0.png")
    with pytest.raises(DataError, match="expected an uncompressed tar"):
        _names(tmp_path / name)


def test_rows_without_a_name_have_their_number(tmp_path: Path) -> None:
    table = archives.table(tmp_path / "t.parquet", {"image": [_IMAGE] * 3, "name": ["a", None, "c"]})
    assert _names(table) == ["t.parquet/a", "t.parquet/0000001", "t.parquet/c"]


def test_struct_with_a_path_alone_is_read_from_there(classifier: Classifier, tmp_path: Path) -> None:
    archives.draw(tmp_path, ["0.png"])
    pictures = [{"bytes": None, "path": "0.png"}, {"bytes": archives.content(1), "path": "other.png"}, None]
    pictures.append({"bytes": None, "path": None})
    table = archives.table(tmp_path / "t.parquet", {"image": pictures})
    found, manifest = archives.score_here(classifier, table, tmp_path / "out")
    names = ["0.png", "other.png", "0000002", "0000003"]
    assert [row["name"] for row in found] == [f"t.parquet/{name}" for name in names]
    assert manifest.errors == {"ImageError": 2}
    for row, content in zip(found, (_IMAGE, archives.content(1)), strict=False):
        assert row["probabilities"] == list(classifier.predict(content).probabilities.values())


def _encoded(values: list[Any]) -> Any:
    return pytest.importorskip("pyarrow").array(values).dictionary_encode()


def test_columns_encoded_by_a_dictionary_are_known(classifier: Classifier, tmp_path: Path) -> None:
    archives.draw(tmp_path, ["0.png", "1.png"])
    contents = [archives.content(0), archives.content(1)]
    images = archives.table(tmp_path / "i.parquet", {"image": _encoded(contents), "name": _encoded(["a", "b"])})
    paths = archives.table(tmp_path / "p.parquet", {"path": _encoded(["0.png", "1.png"])})
    found, _ = archives.score_here(classifier, images, tmp_path / "out")
    assert [row["name"] for row in found] == ["i.parquet/a", "i.parquet/b"]
    others, _ = archives.score_here(classifier, paths, tmp_path / "out2", column="path")
    assert [row["probabilities"] for row in found] == [row["probabilities"] for row in others]
    assert found[0]["probabilities"] == list(classifier.predict(contents[0]).probabilities.values())


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = [arrow.array([_IMAGE]), arrow.array([archives.content(1)])]
    parquet.write_table(arrow.Table.from_arrays(columns, names=["image", "image"]), tmp_path / "t.parquet")
    for column in ("", "image"):
        with pytest.raises(DataError, match="has two columns named 'image'"):
            _names(tmp_path / "t.parquet", column)


@pytest.mark.parametrize(
    ("day", "found"),
    [
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.datetime(2024, 1, 2, 3), "2024-01-02"),
        ("2024-01-02", "2024-01-02"),
        (20240102, None),
        (2024.5, None),
        ([1, 2], None),
    ],
)
def test_day_is_a_date_a_time_or_text(day: object, found: str | None, tmp_path: Path) -> None:
    table = archives.table(tmp_path / "t.parquet", {"image": [_IMAGE], "when": [day]})

    def days() -> list[str | None]:
        return [entry.day for entry, _ in listing.entries(listing.open_source(str(table), "", "when"))]

    if found:
        assert days() == [found]
    else:
        with pytest.raises(DataError, match=r"has no fitting column 'when' \(it holds values of another kind"):
            days()


@pytest.mark.parametrize(("column", "day"), [("x", ""), ("", "x")])
@pytest.mark.parametrize("source", ["", "0.png", "list.txt"])
def test_options_of_tables_are_refused_where_there_is_none(source: str, column: str, day: str, tmp_path: Path) -> None:
    archives.draw(tmp_path, ["0.png"])
    (tmp_path / "list.txt").write_text("0.png\n")
    with pytest.raises(DataError, match=r"has no Parquet file, which --(column|day) is for"):
        _names(tmp_path / source, column, day)


def test_list_may_begin_with_a_mark_of_utf8(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("0.png\n1.png\n", encoding="utf-8-sig")
    assert _names(tmp_path / "list.txt") == ["0.png", "1.png"]


def test_every_name_of_an_object_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ["/abs.png", "a/../i.png", "a/./i.png", "a//i.png", "i.png", ".hidden/i.png"]
    tree: Callable[..., Any] = lambda system, prefix, last: iter(listing._File(key) for key in keys)  # noqa: E731
    monkeypatch.setattr(listing, "_s3_tree", tree)
    monkeypatch.setattr(
        stores, "file_system", lambda protocol: type("S3", (), {"invalidate_cache": lambda self: None})()
    )
    source = listing.Source("s3://b", "s3://b", "tree")
    names = [entry.name for entry, _ in listing.entries(source)]
    assert names == ["s3://b//abs.png", "a/../i.png", "a/./i.png", "a//i.png", "i.png"]
