"""Splits that are drawn: the same for everyone who has the same files, and never through a patient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pneumo_edge.data import drawn
from pneumo_edge.data.datasource import DataSource, parse_shares, split_classes
from pneumo_edge.data.sources import Source, open_source
from pneumo_edge.data.splits import make_manifest
from pneumo_edge.errors import ArgumentError, DataError

MakeFolder = Callable[[Mapping[str, bytes]], Path]
Picture = Callable[..., bytes]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"


@pytest.fixture
def contents(picture: Picture) -> dict[str, bytes]:
    """Twenty images of each of two classes; the names tell no patient."""
    return {f"{name}/{i}.png": picture(i + 100 * k) for k, name in enumerate(("COVID", "HEALTHY")) for i in range(20)}


def _open(root: Path, split: str = "60/20/20", **options: str) -> Source:
    return open_source(DataSource(str(root), positive="COVID", split=split, **options))


def _splits(source: Source) -> dict[bytes, str]:
    return {source.read(sample): sample.split for sample in source.samples}


def test_the_shares_are_kept_in_each_class(make_folder: MakeFolder, contents: dict[str, bytes]) -> None:
    source = _open(make_folder(contents))
    counts = make_manifest(source, {each.name: each.name for each in source.samples}, {}).counts
    assert counts == {
        "train": {"HEALTHY": 12, "COVID": 12}, "val": {"HEALTHY": 4, "COVID": 4}, "test": {"HEALTHY": 4, "COVID": 4},
    }  # fmt: skip
    assert source.rule.startswith("60/20/20 % of each class to train, val, test")
    assert "patients unknown" in source.rule


def test_content_decides_where_no_patient_is_known_and_not_the_name(
    make_folder: MakeFolder, contents: dict[str, bytes], tmp_path: Path
) -> None:
    first = _splits(_open(make_folder(contents)))
    renamed = tmp_path / "renamed"
    for number, (name, data) in enumerate(sorted(contents.items(), key=lambda item: item[1])):
        path = renamed / name.split("/")[0].lower() / f"other{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert _splits(open_source(DataSource(str(renamed), positive="covid", split="60/20/20"))) == first
    assert _splits(_open(tmp_path / "xrays", "20/20/60")) != first


def test_patients_copies_and_near_duplicates_stay_together(
    make_folder: MakeFolder, contents: dict[str, bytes], picture: Picture
) -> None:
    shown = {f"COVID/p{i}_{k}.png": picture(1000 + 10 * i + k) for i in range(8) for k in range(3)}
    # The same picture once more, by another patient and in another format.
    near = {"COVID/p90_0.png": picture(1000, kind="PNG"), "COVID/p91_0.png": picture(1011)}
    source = _open(make_folder({**contents, **shown, **near}), patient_pattern=r"(p\d+)_")
    split_of: dict[str, set[str]] = {}
    for sample in source.samples:
        patient = {"p90": "p0", "p91": "p1"}.get(sample.patient, sample.patient)
        split_of.setdefault(patient, set()).add(sample.split)
    assert all(len(splits) == 1 for splits in split_of.values())
    assert {split for splits in split_of.values() for split in splits} == {"train", "val", "test"}
    assert "for 40 of 66 images the patient is not known" in source.rule


def test_images_are_compared_once(
    make_folder: MakeFolder, contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(contents)
    first = _splits(_open(root))
    monkeypatch.setattr(drawn, "perceptual_hash", lambda grey: pytest.fail("they were compared before"))
    assert _splits(_open(root)) == first


def test_a_cache_that_cannot_be_written_stops_nothing(
    make_folder: MakeFolder, contents: dict[str, bytes], cache: Path
) -> None:
    cache.write_text("a file, not a folder")
    assert set(_splits(_open(make_folder(contents))).values()) == {"train", "val", "test"}


def test_what_cannot_be_read_is_left_out_by_name(make_folder: MakeFolder, contents: dict[str, bytes]) -> None:
    source = _open(make_folder({**contents, "COVID/broken.png": b"\x89PNG\r\n\x1a\n"}))
    assert {"COVID/broken.png"} < {sample.name for sample in source.samples}


def test_two_shares_leave_test_images_alone(make_folder: MakeFolder, contents: dict[str, bytes]) -> None:
    split = {("train/" if i % 4 else "test/") + name: data for i, (name, data) in enumerate(sorted(contents.items()))}
    root = make_folder(split)
    source = _open(root, "50/50")
    assert {each.split for each in source.samples if each.name.startswith("test/")} == {"test"}
    assert sum(each.split == "val" for each in source.samples) == pytest.approx(15, abs=1)
    with pytest.raises(DataError, match="which has 10 test images"):
        _open(root)


def test_shares_are_percent() -> None:
    assert parse_shares("80/10/10") == (0.8, 0.1, 0.1)
    assert parse_shares("87.5 / 12.5") == (0.875, 0.125)


@pytest.mark.parametrize("text", ["80/30", "a/b", "100", "70/10/10/10", "-10/110", ""])
def test_shares_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="sum to 100"):
        DataSource("x", split=text)


def test_classes_are_read_with_their_new_names() -> None:
    assert split_classes(r"A, b c=C ,x\,y\=z=d") == [("A", "A"), ("b c", "C"), ("x,y=z", "d")]
    assert split_classes(DataSource("x", classes=["a,b", "c=d"]).classes or "") == [("a,b", "a,b"), ("c", "d")]  # type: ignore[arg-type]
    for text in ("", "A,,B", "A=", "=B", "A=B=C"):
        with pytest.raises(ArgumentError, match="separated by commas"):
            split_classes(text)
