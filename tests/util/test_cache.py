from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pneumo_edge._util import cache
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import prepare
from pneumo_edge.errors import DataError


def _folder(root: Path, shade: int) -> Path:
    for split, count in (("train", 12), ("test", 2)):
        for label, name in enumerate(("NORMAL", "PNEUMONIA")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.random.default_rng((shade, label, number)).integers(0, 256, (40, 40))
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"person{number}_{number}.png")
    return root


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_cache_keeps_to_its_bound_and_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "cache"
    sources = [open_source(_folder(tmp_path / str(shade), shade)) for shade in range(4)]
    prepare(sources[0], place, 64, 64)
    one = _size(place)
    assert f"Cache of images: {place}, 0 of 4,000 MB (PNEUMO_EDGE_CACHE, " in capsys.readouterr().err
    (place / "pneumoniamnist_224.npz").write_bytes(bytes(1000))
    (place / "features" / ("0" * 16)).mkdir(parents=True)
    (place / "features" / ("0" * 16) / "000000.npy").write_bytes(bytes(one))
    os.utime(place / "features" / ("0" * 16) / "000000.npy", (1, 1))
    os.utime(place / "features" / ("0" * 16), (1, 1))

    monkeypatch.setenv("PNEUMO_EDGE_CACHE_LIMIT", str(2 * one + one // 2))
    for number, source in enumerate(sources[1:]):
        kept = {path.name for path in place.glob("*.npy")}
        for name in kept:
            os.utime(place / name, (2 + number, 2 + number))
        # What was used last is not what goes.
        prepare(sources[number], place, 64, 64)
        assert prepare(source, place, 64, 64).grey.shape[1:] == (64, 64)
        assert len(kept & {path.name for path in place.glob("*.npy")}) == 1
        assert _size(place) - 1000 <= 2 * one + one // 2
    assert (place / "pneumoniamnist_224.npz").exists()
    assert not list((place / "features").iterdir())
    capsys.readouterr()
    prepare(sources[3], place, 64, 64)
    assert "kept in" not in capsys.readouterr().err


def test_what_is_needed_now_stays_however_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PNEUMO_EDGE_CACHE_LIMIT", "1")
    for shade in (1, 2):
        dataset = prepare(open_source(_folder(tmp_path / str(shade), shade)), tmp_path / "cache", 64, 64)
        assert int(dataset.grey[:].sum()) > 0
        assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_a_limit_is_a_number_of_bytes(text: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(cache.LIMIT_VARIABLE, text)
        if text.isascii() and text.isdigit() and len(text) <= 18:
            assert cache.limit() == int(text)
        else:
            with pytest.raises(DataError, match="a number of bytes"):
                cache.limit()


def test_a_cache_that_cannot_be_written_names_place_and_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    source = open_source(_folder(tmp_path / "data", 0))
    with pytest.raises(DataError, match=r"the cache .*file.cache cannot be written .*PNEUMO_EDGE_CACHE"):
        prepare(source, tmp_path / "file" / "cache", 64, 64)


def test_what_was_left_of_downloads_goes_when_it_is_old(tmp_path: Path) -> None:
    for name in ("tmpab12cd34", ".0123abcd-0123456789abcdef.npy", "mine.npz"):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / "tmp12345678").write_bytes(b"a download that is going on")
    cache.keep_within_limit(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.npz", "tmp12345678"]


@pytest.mark.parametrize(
    ("home", "said"),
    [("", "HOME is empty"), ("missing", "missing is missing or not"), ("file", "file is missing or not")],
)
def test_a_home_that_is_no_folder_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str, said: str
) -> None:
    for name in ("PNEUMO_EDGE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", home and str(tmp_path / home))
    with pytest.raises(DataError, match=rf"no home folder .*{said}.*PNEUMO_EDGE_CACHE"):
        cache.cache_folder()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_cache_is_made_below_a_home_that_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PNEUMO_EDGE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    prepare(open_source(_folder(tmp_path / "data", 0)), cache.cache_folder(), 64, 64)
    assert list((tmp_path / "home" / ".cache" / "pneumo-edge").glob("*.npy"))
