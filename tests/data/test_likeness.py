from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pneumo_edge.backbones import SIDE
from pneumo_edge.cli import app
from pneumo_edge.data.audit import audit
from pneumo_edge.data.likeness import NEAR_BITS, find_alike, perceptual_hash
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.splits import Manifest
from pneumo_edge.data.tensors import prepare
from pneumo_edge.imaging import images

MakeFolder = Callable[[Mapping[str, bytes]], Path]
Picture = Callable[..., bytes]


def _recode(data: bytes, quality: int = 95, gamma: float = 1.0) -> bytes:
    stream = io.BytesIO()
    grey = Image.open(io.BytesIO(data)).point(lambda shade: 255 * (shade / 255) ** gamma)
    grey.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def test_the_hash_is_that_of_the_known_library(picture: Picture) -> None:
    imagehash = pytest.importorskip("imagehash")
    for seed in range(40):
        grey = images.decode(picture(seed))
        grey = grey.resize((60 + 7 * seed, 300 - 5 * seed))
        np.testing.assert_array_equal(perceptual_hash(grey), imagehash.phash(grey, hash_size=16).hash.ravel())


def test_pairs_are_found_whatever_their_number(picture: Picture) -> None:
    rng = np.random.default_rng(0)
    hashes = list(rng.random((2500, 256)) < 0.5)
    near = hashes[3].copy()
    near[:NEAR_BITS] ^= True
    far = hashes[7].copy()
    far[: NEAR_BITS + 1] ^= True
    assert list(find_alike([*hashes, near, far])) == [(3, 2500, NEAR_BITS)]
    assert list(find_alike([])) == []


def test_pictures_of_one_shade_are_not_alike_for_that() -> None:
    flat = [perceptual_hash(Image.new("L", (90, 80), shade)) for shade in (0, 7, 128, 255)]
    assert list(find_alike(flat)) == []


@pytest.fixture
def copied(make_folder: MakeFolder, picture: Picture) -> Path:
    """Thirty pictures of each class, each with two copies in other bytes, by names that tell nothing."""
    contents = {}
    for label, first in (("NORMAL", 0), ("PNEUMONIA", 500)):
        for i in range(30):
            original = picture(first + i)
            for copy, data in enumerate((original, _recode(original, gamma=0.8), _recode(original, quality=30))):
                contents[f"train/{label}/{i * 7919 % 1000:03}{'xyz'[copy]}.jpeg"] = data
        for i in range(3):
            contents[f"test/{label}/{i}.jpeg"] = picture(first + 400 + i)
    return make_folder(contents)


def _sides(manifest: Manifest) -> dict[tuple[int, str], set[str]]:
    sides: dict[tuple[int, str], set[str]] = {}
    for entry in manifest.entries:
        if entry.split != "test":
            sides.setdefault((entry.label, Path(entry.name).stem[:3]), set()).add(entry.split)
    return sides


def test_near_duplicates_stay_on_one_side_of_validation(copied: Path, tmp_path: Path) -> None:
    manifest = prepare(open_source(copied), tmp_path / "cache", 32, 32).manifest
    sides = _sides(manifest)
    assert len(sides) == 60
    assert all(len(splits) == 1 for splits in sides.values())
    assert manifest.counts["val"] == {"NORMAL": 9, "PNEUMONIA": 9}
    findings = audit(open_source(copied))
    assert findings.training_split
    assert findings.training_split.fingerprint == manifest.fingerprint
    assert len(findings.near_duplicates) == 180
    split_of = {entry.name: entry.split for entry in manifest.entries}
    assert all(pair.splits == (split_of[pair.names[0]],) for pair in findings.near_duplicates)


def test_the_audit_counts_over_the_drawn_split(make_folder: MakeFolder, healthy: dict[str, bytes]) -> None:
    # In Kaggle's val, which is drawn from anew, a near duplicate of a training image does no harm; in test it does.
    first, second = sorted(name for name in healthy if name.startswith("train/NORMAL"))[:2]
    root = make_folder(
        {
            **healthy,
            "val/NORMAL/IM-0900-0001.jpeg": _recode(healthy[first], 60),
            "test/NORMAL/IM-0901-0001.jpeg": _recode(healthy[second], 60),
        }
    )
    findings = audit(open_source(root))
    by_other = {pair.names: pair.splits for pair in findings.near_duplicates}
    (in_val,) = (splits for names, splits in by_other.items() if "val/NORMAL/IM-0900-0001.jpeg" in names)
    assert len(in_val) == 1
    (in_test,) = (splits for names, splits in by_other.items() if "test/NORMAL/IM-0901-0001.jpeg" in names)
    assert "test" in in_test
    assert len(in_test) == 2
    shown = CliRunner().invoke(app, ["data", "audit", str(root)]).stdout
    assert "Pairs of near duplicates by perceptual hash: 2 (across splits: 1, across classes: 0)" in shown


@pytest.mark.slow
def test_the_split_of_the_kermany_data_is_what_it_was(shared_data: Path, decoded: Path) -> None:
    # That of every published model file; none of these images is a near duplicate of another.
    source = open_source(shared_data / "chest_xray_224")
    manifest = prepare(source, decoded, SIDE, SIDE).manifest
    assert manifest.fingerprint == "abfdbe9520da41f6eea7a3240ed3e53091b2a16a72eb0dfa478a08b3faf2f862"
    assert source.passed_over == {}
