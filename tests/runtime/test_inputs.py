"""What a classifier takes as an image, and what it says of anything else."""

from __future__ import annotations

import array
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pneumo_edge import Classifier
from pneumo_edge.errors import ImageError, ImageTooLargeError, ModelFileError
from pneumo_edge.imaging import images

_NAMES = ("str", "os.PathLike", "bytes", "bytearray", "memoryview", "binary file object", "Pillow image", "uint8 array")


@pytest.fixture(scope="module")
def classifier(tiny_models: Path) -> Classifier:
    return Classifier(tiny_models / "tiny-fp32.tflite")


@pytest.fixture(scope="module")
def pixels() -> npt.NDArray[np.uint8]:
    """Noise, so that other strides, channels or a turn show."""
    return np.random.default_rng(0).integers(0, 256, (150, 130, 3)).astype(np.uint8)


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


class _Reader:
    """A file object that can neither tell nor rewind, and gives as much as it likes."""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(min(size, 99) if size > 0 else 99)


class _BytesPath(os.PathLike[bytes]):
    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> bytes:
        return os.fsencode(self._path)


def test_an_image_has_one_verdict_however_it_is_given(
    classifier: Classifier, pixels: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    data, path = _png(pixels), tmp_path / "x-ray.png"
    path.write_bytes(data)
    at_its_end, locked = io.BytesIO(data), pixels.copy()
    at_its_end.seek(0, io.SEEK_END)
    locked.flags.writeable = False
    with path.open("rb") as file, path.open("rb", buffering=0) as raw, tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(data)
        given: list[Any] = [
            path, str(path), _BytesPath(path), data, bytearray(data), memoryview(data), io.BytesIO(data), at_its_end,
            file, raw, spooled, _Reader(data), Image.open(path), pixels, locked, np.asfortranarray(pixels),
            pixels[::-1].copy()[::-1], np.repeat(pixels, 2, axis=1)[:, ::2],
        ]  # fmt: skip
        found = [classifier.predict(each) for each in given]
    assert len({each.probabilities["PNEUMONIA"] for each in found}) == 1
    assert {each.source for each in found} >= {str(path), "bytearray", "BytesIO", "ndarray", "PngImageFile"}


def test_a_grey_array_is_the_picture_itself(classifier: Classifier, pixels: npt.NDArray[np.uint8]) -> None:
    grey = pixels[..., 0]
    expected = classifier.predict(Image.fromarray(grey)).probabilities
    assert classifier.predict(grey).probabilities == expected
    assert classifier.predict(np.stack([grey] * 3, axis=-1)).probabilities == expected


def test_anything_else_is_a_type_error_that_names_what_is_taken(
    classifier: Classifier, pixels: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    text = tmp_path / "x-ray.txt"
    text.write_text("text")
    with text.open() as in_text_mode:
        others: list[Any] = [
            None, 7, 1.5, True, [1], {}, object(), pixels.tolist(), array.array("B", b"12"), np.uint8(7),
            pixels.astype(float), pixels.astype(bool), pixels.astype(np.int8), pixels[np.newaxis], pixels[..., :2],
            np.concatenate([pixels, pixels[..., :1]], axis=-1), pixels.transpose(2, 0, 1), pixels[0, 0],
            pixels[0, 0, 0], np.array(7, np.uint8), pixels.view(np.ma.MaskedArray), io.StringIO("x"), in_text_mode,
        ]  # fmt: skip
        for given in others:
            with pytest.raises(TypeError) as caught:
                classifier.predict(given)
            assert all(name in str(caught.value) for name in _NAMES), given
            assert len(str(caught.value).splitlines()) == 1


def test_what_cannot_be_read_is_an_image_error(
    classifier: Classifier, pixels: npt.NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x-ray.png").write_bytes(_png(pixels))
    closed = (tmp_path / "x-ray.png").open("rb")
    closed.close()
    with (tmp_path / "other").open("wb") as written:
        for given, found in (
            (closed, "closed file"), (written, "cannot be read"), (io.BytesIO(), "is empty"),
            (np.zeros((0, 9), np.uint8), "is empty"), (np.zeros((9, 9), np.uint8), "9x9 pixels"), (bytearray(), "b''"),
            (memoryview(b"text"), "not an image"),
        ):  # fmt: skip
            with pytest.raises(ImageError, match=found):
                classifier.predict(given)
    monkeypatch.setattr(images, "MAX_BYTES", 1000)
    with pytest.raises(ImageTooLargeError, match="more than 1,000 bytes"):
        unbounded: Any = _Reader(_png(pixels))
        classifier.predict(unbounded)


def test_an_empty_path_is_said_to_be_empty(classifier: Classifier) -> None:
    with pytest.raises(ImageError, match="the path is empty"):
        classifier.predict("")
    with pytest.raises(ModelFileError, match="the path of the model is empty"):
        Classifier("")


def test_a_file_object_stays_open(classifier: Classifier, pixels: npt.NDArray[np.uint8]) -> None:
    stream = io.BytesIO(_png(pixels))
    first = classifier.predict(stream)
    assert classifier.predict(stream).probabilities == first.probabilities
    assert not stream.closed
