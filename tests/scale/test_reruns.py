"""``score`` into a place where something is: of another run, damaged, edited, or of a source that has changed."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pneumo_edge.cli import app
from pneumo_edge.scale import listing, plan, stores
from tests.scale import archives

pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
pytestmark = pytest.mark.usefixtures("in_this_process")

_NAMES = [f"{number}.png" for number in range(7)]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return archives.draw(tmp_path / "in", _NAMES)


def _score(*words: object) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, words), "--workers", "1"])


def _scored(source: Path, place: Path, *words: object) -> Result:
    result = _score(source, "--out", place, "--shard-size", archives.SHARD_SIZE, *words)
    assert result.exit_code == 0, result.output
    return result


def _refused(source: Path, place: Path, *words: object) -> str:
    result = _score(source, "--out", place, "--shard-size", archives.SHARD_SIZE, *words)
    assert result.exit_code == 3, result.output
    return result.stderr.strip().splitlines()[-1]


def _shards(place: Path) -> list[Path]:
    return sorted(place.glob("model=*/0*.parquet"))


def _names(place: Path) -> list[str]:
    parquet = pytest.importorskip("pyarrow.parquet")
    return [name for file in _shards(place) for name in parquet.read_table(file)["name"].to_pylist()]


def test_of_two_runs_at_the_same_time_one_plan_is_that_of_both(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, make = tmp_path / "out", plan._document
    inside: list[Result] = []
    begun: list[plan.Plan] = []

    def another_meanwhile(found: plan.Plan) -> bytes:
        # Both have listed images, and neither has written anything.
        if not begun:
            begun.append(found)
            inside.append(_score(archive, "--out", place, "--shard-size", 2))
        return make(found)

    monkeypatch.setattr(plan, "_document", another_meanwhile)
    told = _refused(archive, place)
    assert "has shards of 2 images, not of 3" in told
    assert inside[0].exit_code == 0 and _names(place) == _NAMES


def test_of_two_runs_with_one_plan_none_is_refused(archive: Path, tmp_path: Path) -> None:
    opened, found = listing.open_source(str(archive)), []
    begun = threading.Barrier(4)

    def make() -> None:
        begun.wait()
        found.append(plan.make(str(tmp_path / "out"), opened, archives.SHARD_SIZE, lambda images: None))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len({each.parts for each in found}) == 1
    assert {path.name.partition("-")[0] for path in (tmp_path / "out" / "_plan").iterdir()} == {
        "listing.json",
        "part",
        "plan.json",
    }


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_file_is_created_once(place: str, tmp_path: Path) -> None:
    if place == "memory":
        pytest.importorskip("fsspec", reason="the extra 'scale' is not installed")
    path = f"{tmp_path}/x/plan.json" if place == "local" else f"memory://{tmp_path.name}/x/plan.json"
    store = stores.of(path)
    assert store.create(path, b"one")
    assert not store.create(path, b"two")
    assert store.read(path) == b"one"


def test_a_file_system_without_links_takes_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = str(tmp_path / "plan.json")
    assert stores.of(path).create(path, b"one")
    assert not stores.of(path).create(path, b"two")
    assert Path(path).read_bytes() == b"one" and [found.name for found in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize(
    ("change", "said", "closed"),
    [
        (lambda archive: archives.draw(archive, ["35.png"]), "8 images instead of 7; 35.png is new", False),
        (lambda archive: archives.draw(archive, ["9.png"]), "8 images instead of 7; 9.png is new", True),
        (lambda archive: (archive / "4.png").unlink(), "6 images instead of 7; 4.png is missing", True),
        (lambda archive: (archive / "6.png").unlink(), "6 images instead of 7; 6.png is missing", True),
        (lambda archive: os.utime(archive / "5.png", (1, 1)), "7 images; 5.png has changed", True),
    ],
    ids=["new", "new at the end", "gone", "gone at the end", "changed"],
)
def test_source_that_changed_is_told_and_what_was_planned_is_scored(
    archive: Path, tmp_path: Path, change: Any, said: str, closed: bool
) -> None:
    place = tmp_path / "out"
    _scored(archive, place)
    if not closed:
        (shard, *_) = _shards(place)
        shard.unlink()
    change(archive)
    told = _refused(archive, place)
    assert f"{archive} has changed since {place} was begun ({said}); expected the same source" in told
    assert _names(place) == _NAMES


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _rewrite(path: Path, edit: Any) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(path, partitioning=None)
    parquet.write_table(edit(table), path)


def _relabel(table: Any) -> Any:
    arrow = pytest.importorskip("pyarrow")
    labels = arrow.array(["PNEUMONIA" if label == "NORMAL" else "NORMAL" for label in table["label"].to_pylist()])
    return table.set_column(table.column_names.index("label"), "label", labels)


_DAMAGES = {
    "cut": (_cut, "it is no whole Parquet file"),
    "empty": (lambda path: path.write_bytes(b""), "it is no whole Parquet file"),
    "fewer rows": (lambda path: _rewrite(path, lambda table: table.slice(1)), "it has 2 rows instead of 3"),
    "labels": (lambda path: _rewrite(path, _relabel), "its rows were changed after it was written"),
    "no metadata": (
        lambda path: _rewrite(path, lambda table: table.replace_schema_metadata({})),
        "it lacks the metadata pneumo_edge.shard",
    ),
    "another shard": (
        lambda path: path.write_bytes(_shards(path.parents[1])[0].read_bytes()),
        "it has 3 rows of shard 0 instead of 3 of shard 1",
    ),
}


@pytest.mark.parametrize(
    ("damage", "closed"), [*((damage, True) for damage in _DAMAGES), ("empty", False), ("fewer rows", False)]
)
def test_damaged_or_edited_shard_is_named_and_scored_again(
    archive: Path, tmp_path: Path, damage: str, closed: bool
) -> None:
    place = tmp_path / "out"
    _scored(archive, place)
    (manifest,) = place.glob("model=*/_manifest.json")
    before = json.loads(manifest.read_bytes())
    if not closed:
        manifest.unlink()
    spoil, said = _DAMAGES[damage]
    shard = _shards(place)[1]
    spoil(shard)
    result = _scored(archive, place)
    assert f"warning: {shard}: {said}" in result.stderr
    assert "; its shard is scored again" in result.stderr
    after = json.loads(manifest.read_bytes())
    assert after["rows_sha256"] == before["rows_sha256"] and after["shards"] == before["shards"]
    assert _names(place) == _NAMES
    assert "warning" not in _scored(archive, place).stderr


def test_shard_whose_hash_was_edited_with_it_is_found_by_the_manifest(archive: Path, tmp_path: Path) -> None:
    place, other = tmp_path / "out", tmp_path / "other"
    _scored(archive, place)
    # A whole shard of the same images from elsewhere, with other rows.
    archives.draw(tmp_path / "other-in", ["a.png", "b.png", *_NAMES[2:]])
    _scored(tmp_path / "other-in", other)
    shard = _shards(place)[0]
    shard.write_bytes(_shards(other)[0].read_bytes())
    assert "its rows are not those that the manifest has" in _scored(archive, place).stderr
    assert _names(place) == _NAMES


def test_file_that_is_no_shard_is_named(archive: Path, tmp_path: Path) -> None:
    place = tmp_path / "out"
    _scored(archive, place)
    stray = _shards(place)[0].with_name("zz.parquet")
    stray.write_bytes(_shards(place)[0].read_bytes())
    assert f"{stray} is no shard of this data set" in _refused(archive, place)
    stray.unlink()
    _scored(archive, place)


@pytest.mark.parametrize("spoil", [_cut, lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_damaged_plan_is_told_and_made_again(archive: Path, tmp_path: Path, spoil: Any) -> None:
    place = tmp_path / "out"
    _scored(archive, place)
    _shards(place)[1].unlink()
    (part,) = (place / "_plan").glob("part-*.parquet")
    spoil(part)
    told = _refused(archive, place)
    assert f"{part} is missing or not as it was written" in told and f"Delete the folder {place / '_plan'}" in told
    for path in (place / "_plan").iterdir():
        path.unlink()
    (place / "_plan").rmdir()
    # What is scored stays.
    assert "3 images in" in _scored(archive, place).stdout
    assert _names(place) == _NAMES


def test_damaged_plan_document_is_told(archive: Path, tmp_path: Path) -> None:
    place = tmp_path / "out"
    _scored(archive, place)
    (place / "_plan" / "plan.json").write_bytes(b"")
    assert f"Delete the folder {place / '_plan'}" in _refused(archive, place)


def test_data_set_of_an_earlier_version_is_read_as_before(archive: Path, tmp_path: Path) -> None:
    place = tmp_path / "out"
    _scored(archive, place)
    document = place / "_plan" / "plan.json"
    document.write_text(json.dumps({**json.loads(document.read_bytes()), "schema_version": 1}))
    # Its listing followed other rules, so it is not compared.
    archives.draw(archive, ["9.png"])
    _scored(archive, place)


def test_other_options_are_named(archive: Path, tmp_path: Path) -> None:
    contents = [(archive / name).read_bytes() for name in _NAMES]
    source = archives.table(tmp_path / "t.parquet", {"image": contents, "name": _NAMES, "when": ["2024-01-01"] * 7})
    place = tmp_path / "out"
    _scored(source, place, "--day", "when")
    told: Sequence[str] = (_refused(source, place), _refused(source, place, "--day", "when", "--column", "image"))
    assert f"{place} was begun with --day when; expected --day when" in told[0]
    assert f"{place} was begun without --column; expected no --column" in told[1]
