"""A data set as pixels: every image decoded once, by the one way that the device has too, and cached."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pneumo_edge import files, images
from pneumo_edge.data.sources import Sample, Source, SplitName
from pneumo_edge.data.splits import Entry, Manifest, make_manifest
from pneumo_edge.errors import ImageError
from pneumo_edge.progress import track

#: Part of the cache's key: raise it when the way from bytes to pixels changes.
_PREPROCESSING_VERSION = "1"


@dataclass(frozen=True)
class Dataset:
    """Manifest and pixels of a data set.

    ``grey`` is a uint8 array of shape (images, height, width), values 0 to 255, in the order of
    ``manifest.entries``, mapped from the cache file rather than held in memory.
    """

    manifest: Manifest
    grey: npt.NDArray[np.uint8]

    def indices(self, split: SplitName) -> npt.NDArray[np.intp]:
        """Indices of a split's images."""
        return np.array([i for i, entry in enumerate(self.manifest.entries) if entry.split == split], dtype=np.intp)

    def labels(self, indices: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
        """Labels of images, shape (images,)."""
        return np.array([self.manifest.entries[i].label for i in indices], dtype=np.int64)

    def entries(self, indices: Iterable[int]) -> list[Entry]:
        """Manifest entries of images."""
        return [self.manifest.entries[i] for i in indices]

    def rgb(self, indices: npt.NDArray[np.intp]) -> images.Pixels:
        """Pixels of images as a model takes them: uint8, (images, height, width, 3), 0 to 255."""
        return images.grey_to_rgb(self.grey[indices])


def prepare(source: Source, cache: Path, height: int, width: int) -> Dataset:
    """Decode a data set, draw its validation split, and cache both.

    Images that cannot be decoded are left out, each with its reason in ``manifest.left_out``.

    Args:
        source: The data set.
        cache: Folder for the decoded pixels; the same data set is decoded once.
        height: Height of the pixels.
        width: Width of the pixels.

    Raises:
        DataError: Too little of the data set is usable.
        OSError: The cache cannot be written.
    """
    samples = source.samples
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = dict(track(pool.map(lambda s: _digest(source, s), samples), "Reading images", len(samples)))
        key = _cache_key(source, digests, height, width)
        pixels_path, manifest_path = cache / f"{key}.npy", cache / f"{key}.json"
        if not (pixels_path.exists() and manifest_path.exists()):
            decoded: dict[str, images.Pixels] = {}
            left_out: dict[str, str] = {}
            jobs = pool.map(lambda s: _decode(source, s, height, width), samples)
            for sample, result in zip(track(samples, "Decoding images"), jobs, strict=True):
                if isinstance(result, ImageError):
                    left_out[sample.name] = str(result)
                else:
                    decoded[sample.name] = result
            manifest = make_manifest(source, digests, left_out)
            with files.atomic(pixels_path) as temporary:
                np.save(temporary, np.stack([decoded[entry.name] for entry in manifest.entries]))
            manifest.save(manifest_path)
    return Dataset(Manifest.load(manifest_path), np.load(pixels_path, mmap_mode="r"))


def _digest(source: Source, sample: Sample) -> tuple[str, str]:
    try:
        return sample.name, hashlib.sha256(source.read(sample)).hexdigest()
    except ImageError:
        return sample.name, ""


def _decode(source: Source, sample: Sample, height: int, width: int) -> images.Pixels | ImageError:
    try:
        grey = images.resize(images.decode(source.read(sample)), height, width)
    except ImageError as error:
        return error
    return np.asarray(grey, dtype=np.uint8)


def _cache_key(source: Source, digests: dict[str, str], height: int, width: int) -> str:
    head = (_PREPROCESSING_VERSION, source.title, str(source.real), f"{height}x{width}")
    lines = (f"{name} {digest}" for name, digest in sorted(digests.items()))
    return hashlib.sha256("\n".join((*head, *lines)).encode()).hexdigest()[:16]
