from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pneumo_edge.data import tensors
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import prepare
from pneumo_edge.errors import DataError
from pneumo_edge.imaging import images

Medmnist = tuple[Path, dict[str, npt.NDArray[np.uint8]]]
MakeFolder = Callable[[dict[str, bytes]], Path]
Picture = Callable[..., bytes]
#: Ten patients, and so another split than is drawn.
_COARSE = r"^(?:IM-\d\d\d|person\d+_virus_)(\d)"


def _image(mode: str, size: tuple[int, int], kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture
def bad_files(picture: Picture) -> dict[str, tuple[bytes, str]]:
    """Content and a word of the reason by name."""
    frames = [Image.new("L", (64, 64), shade) for shade in (0, 99)]
    animated = io.BytesIO()
    frames[0].save(animated, "GIF", save_all=True, append_images=frames[1:])
    return {
        "train/NORMAL/empty.jpeg": (b"", "empty"),
        "train/NORMAL/truncated.jpeg": (picture(1)[:-500], "truncated"),
        "train/NORMAL/text.jpeg": (b"this is a letter", "not an image"),
        "train/NORMAL/tiny.png": (_image("L", (1, 1), "PNG"), "1x1"),
        "train/PNEUMONIA/deep.png": (_image("I;16", (64, 64), "PNG"), "8 bits"),
        "train/PNEUMONIA/cmyk.jpeg": (_image("CMYK", (64, 64), "JPEG"), "CMYK"),
        "test/NORMAL/film.gif": (animated.getvalue(), "several frames"),
        "test/NORMAL/scan.dcm": (b"\0" * 128 + b"DICM", "DICOM"),
    }


def test_pixels_are_those_that_a_device_computes(
    tmp_path: Path, make_folder: MakeFolder, healthy: dict[str, bytes]
) -> None:
    dataset = prepare(open_source(make_folder(healthy)), tmp_path / "cache", 48, 64)
    assert dataset.grey.shape == (48, 48, 64)
    assert dataset.grey.dtype == np.uint8
    everything = np.arange(len(dataset.grey))
    for entry, rgb in zip(dataset.manifest.entries, dataset.rgb(everything), strict=True):
        np.testing.assert_array_equal(rgb, images.load(healthy[entry.name], 48, 64))


def test_pixels_of_images_that_are_left_out_late_leave_no_gap(
    tmp_path: Path, make_folder: MakeFolder, healthy: dict[str, bytes], bad_files: dict[str, tuple[bytes, str]]
) -> None:
    # A broken file, and copies of test images, which are known only when all have been read.
    copies = {f"train/NORMAL/A{i}.jpeg": healthy[f"test/NORMAL/IM-010{i}-0001.jpeg"] for i in (1, 2)}
    broken = {name: data for name, (data, _) in bad_files.items()}
    contents = {**healthy, **copies, **broken}
    dataset = prepare(open_source(make_folder(contents)), tmp_path / "cache", 48, 64)
    assert len(dataset.grey) == len(dataset.manifest.entries) == len(healthy)
    for entry, rgb in zip(dataset.manifest.entries, dataset.rgb(np.arange(len(dataset.grey))), strict=True):
        np.testing.assert_array_equal(rgb, images.load(contents[entry.name], 48, 64))


def test_pages_that_were_read_are_given_back_and_read_again(
    tmp_path: Path, make_folder: MakeFolder, healthy: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = prepare(open_source(make_folder(healthy)), tmp_path / "cache", 48, 64)
    before = dataset.grey[:]
    monkeypatch.setattr(tensors, "_MOST_MAPPED", 0)
    np.testing.assert_array_equal(dataset.grey[:], before)
    chosen = np.array([5, 1, 5])
    np.testing.assert_array_equal(dataset.grey[chosen], before[chosen])
    np.testing.assert_array_equal(dataset.grey.at(chosen)[1:], before[[1, 5]])
    assert dataset.grey.at(chosen).shape == (3, 48, 64)
    np.testing.assert_array_equal(dataset.grey[7], before[7])


def test_indices_and_labels_go_with_the_manifest(
    tmp_path: Path, make_folder: MakeFolder, healthy: dict[str, bytes]
) -> None:
    dataset = prepare(open_source(make_folder(healthy)), tmp_path / "cache", 32, 32)
    assert {split: len(dataset.indices(split)) for split in ("train", "val", "test")} == {
        "train": 36,
        "val": 4,
        "test": 8,
    }
    tested = dataset.indices("test")
    assert dataset.labels(tested).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert all(entry.name.startswith("test/") for entry in dataset.entries(tested))


def test_bad_files_are_left_out_by_name_with_the_reason_and_nothing_stops(
    tmp_path: Path, make_folder: MakeFolder, healthy: dict[str, bytes], bad_files: dict[str, tuple[bytes, str]]
) -> None:
    root = make_folder({**healthy, **{name: data for name, (data, _) in bad_files.items()}})
    dataset = prepare(open_source(root), tmp_path / "cache", 32, 32)
    assert dataset.manifest.left_out.keys() == bad_files.keys()
    for name, (_, word) in bad_files.items():
        assert word in dataset.manifest.left_out[name]
    assert {entry.name for entry in dataset.manifest.entries} == healthy.keys()


def test_a_broken_link_is_left_out(tmp_path: Path, make_folder: MakeFolder, healthy: dict[str, bytes]) -> None:
    root = make_folder(healthy)
    (root / "train/NORMAL/gone.jpeg").symlink_to(tmp_path / "nowhere")
    dataset = prepare(open_source(root), tmp_path / "cache", 32, 32)
    assert "no such file" in dataset.manifest.left_out["train/NORMAL/gone.jpeg"]


def test_nothing_usable_is_refused(tmp_path: Path, make_folder: MakeFolder) -> None:
    root = make_folder({f"train/{c}/{i}.jpeg": b"x" for c in ("NORMAL", "PNEUMONIA") for i in range(9)})
    with pytest.raises(DataError, match="images of each class"):
        prepare(open_source(root), tmp_path / "cache", 32, 32)
    assert not list((tmp_path / "cache").glob("*"))


def test_the_second_time_nothing_is_decoded(
    tmp_path: Path, make_folder: MakeFolder, healthy: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(healthy)
    first = prepare(open_source(root), tmp_path / "cache", 32, 32)
    monkeypatch.setattr(images, "decode", lambda data: pytest.fail("an image was decoded again"))
    second = prepare(open_source(root), tmp_path / "cache", 32, 32)
    assert second.manifest == first.manifest
    np.testing.assert_array_equal(second.grey, first.grey)


def test_a_mended_file_and_another_size_are_noticed(
    tmp_path: Path, make_folder: MakeFolder, healthy: dict[str, bytes]
) -> None:
    name = "train/NORMAL/IM-0003-0001.jpeg"
    root = make_folder({**healthy, name: b"broken"})
    broken = prepare(open_source(root), tmp_path / "cache", 32, 32)
    (root / name).write_bytes(healthy[name])
    mended = prepare(open_source(root), tmp_path / "cache", 32, 32)
    assert broken.manifest.left_out.keys() == {name}
    assert mended.manifest.left_out == {}
    assert mended.manifest.fingerprint != broken.manifest.fingerprint
    assert prepare(open_source(root), tmp_path / "cache", 48, 48).grey.shape == (48, 48, 48)


def test_other_labels_for_the_same_pixels_are_noticed(medmnist: Medmnist, tmp_path: Path) -> None:
    path, arrays = medmnist
    first = prepare(open_source(path), tmp_path / "cache", 28, 28)
    np.testing.assert_array_equal(first.grey[first.indices("test")], arrays["test_images"])
    np.savez(path, **{key: 1 - array if key.endswith("labels") else array for key, array in arrays.items()})
    second = prepare(open_source(path), tmp_path / "cache", 28, 28)
    assert second.labels(second.indices("test")).tolist() == [1, 0, 1, 0]


def test_an_interrupt_leaves_no_cache_that_looks_whole(
    tmp_path: Path, make_folder: MakeFolder, healthy: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, decode = make_folder(healthy), images.decode
    calls = iter(range(1000))

    def interrupted(data: bytes) -> Image.Image:
        if next(calls) == 30:
            raise KeyboardInterrupt
        return decode(data)

    monkeypatch.setattr(images, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(open_source(root), tmp_path / "cache", 32, 32)
    assert not list((tmp_path / "cache").glob("*"))
    monkeypatch.setattr(images, "decode", decode)
    assert len(prepare(open_source(root), tmp_path / "cache", 32, 32).grey) == 48


def test_a_run_keeps_its_split_where_another_would_be_drawn(
    tmp_path: Path, make_folder: MakeFolder, healthy: dict[str, bytes], picture: Picture
) -> None:
    # Drawn by another rule, before files were renamed and others came to lie beside them.
    root = make_folder(healthy)
    earlier = prepare(open_source(root, _COARSE), tmp_path / "cache", 32, 32)
    (root / "train/NORMAL/IM-0003-0001.jpeg").rename(root / "train/NORMAL/new.jpeg")
    make_folder({"valid/NORMAL/IM-0700-0001.jpeg": picture(700)})
    drawn = prepare(open_source(root), tmp_path / "cache", 32, 32)
    kept = prepare(open_source(root), tmp_path / "cache", 32, 32, earlier.manifest)
    assert drawn.manifest.fingerprint != earlier.manifest.fingerprint == kept.manifest.fingerprint
    np.testing.assert_array_equal(kept.grey, earlier.grey)
    assert [(entry.split, entry.sha256) for entry in kept.manifest.entries] == [
        (entry.split, entry.sha256) for entry in earlier.manifest.entries
    ]
    assert "train/NORMAL/new.jpeg" in {entry.name for entry in kept.manifest.entries}
    assert kept.manifest.left_out == {"valid/NORMAL/IM-0700-0001.jpeg": "not in the run's split"}

    (root / "train/NORMAL/IM-0004-0001.jpeg").unlink()
    lacking = prepare(open_source(root), tmp_path / "cache", 32, 32, earlier.manifest)
    assert lacking.manifest.fingerprint not in (earlier.manifest.fingerprint, drawn.manifest.fingerprint)


def test_another_pattern_for_patients_is_another_split_in_the_cache(
    tmp_path: Path, make_folder: MakeFolder, healthy: dict[str, bytes]
) -> None:
    root = make_folder(healthy)
    plain, other, again = (
        prepare(open_source(root, pattern), tmp_path / "cache", 32, 32).manifest for pattern in ("", _COARSE, "")
    )
    assert other.patient_pattern == _COARSE
    assert plain == again != other
