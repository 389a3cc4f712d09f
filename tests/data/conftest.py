from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

Medmnist = tuple[Path, dict[str, npt.NDArray[np.uint8]]]
Picture = Callable[..., bytes]
MakeFolder = Callable[[Mapping[str, bytes]], Path]


@pytest.fixture
def picture() -> Picture:
    """Bytes of a grey image file with random blobs, another one for every seed."""

    def make(seed: int, brightness: float = 128, contrast: float = 40, kind: str = "JPEG") -> bytes:
        coarse = np.random.default_rng(seed).standard_normal((24, 24)).astype(np.float32)
        blobs = np.asarray(Image.fromarray(coarse).resize((96, 80), Image.Resampling.BICUBIC))
        pixels = np.clip(brightness + contrast * blobs, 0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind)
        return stream.getvalue()

    return make


@pytest.fixture
def medmnist(tmp_path: Path) -> Medmnist:
    """The path and the arrays of a small MedMNIST archive."""
    rng, path = np.random.default_rng(0), tmp_path / "pneumoniamnist.npz"
    arrays = {}
    for split, count in (("train", 20), ("val", 4), ("test", 4)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, np.newaxis]
    np.savez(path, **arrays)
    return path, arrays


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """A folder with the given files."""

    def make(contents: Mapping[str, bytes]) -> Path:
        root = tmp_path / "xrays"
        for name, data in contents.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return root

    return make


@pytest.fixture
def healthy(picture: Picture) -> dict[str, bytes]:
    """A data set of 20 training and 4 test images of each class, each of a patient of its own."""
    contents = {}
    for split, first, count in (("train", 1, 20), ("test", 101, 4)):
        for i in range(first, first + count):
            contents[f"{split}/NORMAL/IM-{i:04d}-0001.jpeg"] = picture(i)
            contents[f"{split}/PNEUMONIA/person{i}_virus_{i}.jpeg"] = picture(1000 + i)
    return contents
