from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pneumo_edge._util.scratch import Scratch, scratch
from pneumo_edge.benchmarks.protocol import BenchmarkSettings
from pneumo_edge.benchmarks.testset import prepare
from pneumo_edge.data.sources import open_source
from pneumo_edge.errors import DataError
from pneumo_edge.imaging import images
from pneumo_edge.scoring.decoding import InputSize
from tests.present import present

SIZE = InputSize(28, 30, "bilinear")


@pytest.fixture
def place() -> Iterator[Scratch]:
    with scratch() as opened:
        yield opened


def test_every_test_image_has_the_pixels_that_a_device_makes_of_it(phantom_folder: Path, place: Scratch) -> None:
    source = open_source(phantom_folder)
    sizes = [SIZE, InputSize(32, 32, "bilinear"), SIZE]
    prepared = prepare(source, sizes, place, BenchmarkSettings())
    assert set(prepared.pixels) == set(sizes)
    for size, path in prepared.pixels.items():
        pixels = np.load(path)
        for name, grey in zip(present(prepared.test_set).labels, pixels, strict=True):
            expected = images.load((phantom_folder / name).read_bytes(), size.height, size.width)
            np.testing.assert_array_equal(images.grey_to_rgb(grey), expected)


def test_labels_are_those_of_the_test_split_and_what_cannot_be_decoded_is_named(
    phantom_folder: Path, place: Scratch
) -> None:
    test_set = present(prepare(open_source(phantom_folder), [SIZE], place, BenchmarkSettings()).test_set)
    assert test_set.labels == {
        f"test/{class_name}/{index}.png": label
        for label, class_name in enumerate(("NORMAL", "PNEUMONIA"))
        for index in range(6)
    }
    assert list(test_set.left_out) == ["test/NORMAL/broken.png"]
    assert "truncated" in test_set.left_out["test/NORMAL/broken.png"]
    assert not test_set.real


def test_timed_images_are_drawn_from_the_seed_and_lie_as_files_with_the_same_bytes(
    phantom_folder: Path, place: Scratch
) -> None:
    source = open_source(phantom_folder)
    prepared = prepare(source, [SIZE], place, BenchmarkSettings(images=5))
    names = list(present(prepared.test_set).labels)
    assert len(prepared.timed) == 5
    for image in prepared.timed:
        assert Path(image.file).read_bytes() == (phantom_folder / names[image.index]).read_bytes()

    def indices(seed: int) -> list[int]:
        return [image.index for image in prepare(source, [SIZE], place, BenchmarkSettings(images=5, seed=seed)).timed]

    assert indices(0) == [image.index for image in prepared.timed]
    assert indices(1) != [image.index for image in prepared.timed]


def test_the_fingerprint_follows_content_and_label_and_not_names(phantom_folder: Path, place: Scratch) -> None:
    def fingerprint() -> str:
        return prepare(open_source(phantom_folder), [SIZE], place, BenchmarkSettings()).fingerprint

    before = fingerprint()
    image = phantom_folder / "test" / "NORMAL" / "3.png"
    image.rename(image.with_name("renamed.png"))
    assert fingerprint() == before
    image.with_name("renamed.png").rename(phantom_folder / "test" / "PNEUMONIA" / "renamed.png")
    assert fingerprint() != before


def test_a_split_that_allows_no_interval_is_refused(phantom_folder: Path, place: Scratch) -> None:
    for index in range(1, 6):
        (phantom_folder / "test" / "NORMAL" / f"{index}.png").unlink()
    with pytest.raises(DataError, match="1 test images of NORMAL"):
        prepare(open_source(phantom_folder), [SIZE], place, BenchmarkSettings())


def test_an_archive_of_pixels_serves_as_well_as_a_folder(tmp_path: Path, place: Scratch) -> None:
    generator = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = generator.integers(0, 256, (6, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.array([[0], [1]] * 3, dtype=np.uint8)
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays)
    size = InputSize(28, 28, "bilinear")
    prepared = prepare(open_source(tmp_path / "pneumoniamnist.npz"), [size], place, BenchmarkSettings())
    np.testing.assert_array_equal(np.load(prepared.pixels[size]), arrays["test_images"])
    for image in prepared.timed:
        pixels = images.load(Path(image.file).read_bytes(), 28, 28)
        np.testing.assert_array_equal(pixels[..., 0], arrays["test_images"][image.index])
