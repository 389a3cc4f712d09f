"""A data set as pixels: every image is decoded once, by the same code as on the device, and cached."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import files
from pneumo_edge._util.cache import keep_within_limit, use, writing
from pneumo_edge.data.likeness import Bits, perceptual_hash
from pneumo_edge.data.reading import read_each
from pneumo_edge.data.sources import Source, SplitName
from pneumo_edge.data.splits import RULE_VERSION, Entry, Manifest, adopt, make_manifest
from pneumo_edge.errors import ImageError
from pneumo_edge.imaging import images

#: Part of the cache's key: raise it when the code from bytes to pixels changes.
_PREPROCESSING_VERSION = "1"
#: The same for the content of a manifest.
_MANIFEST_VERSION = "2"
#: Bytes that are read of the pixels before their pages are given back to the system.
_MOST_MAPPED = 2**27
#: Images that are read at once.
_MOST_READ = 1024
#: A multiple of 64, as numpy has it.
_HEADER_BYTES = 128


class GreyImages:
    """Grey images in a file that is mapped, of which memory holds those that were read last.

    It is indexed like a uint8 array of shape (images, height, width), by a number, a slice or an array of numbers along
    the first axis, and gives a copy.

    Args:
        pixels: The array, as ``np.load`` maps it.
        rows: Which of its images, in their order; by default all.
    """

    def __init__(self, pixels: npt.NDArray[np.uint8], rows: npt.NDArray[np.intp] | None = None) -> None:
        self._pixels = pixels
        self._rows = np.arange(len(pixels)) if rows is None else rows
        self._read = 0
        self._offset = int(getattr(pixels, "offset", 0))
        mapped = getattr(pixels, "_mmap", None)
        self._mapped = mapped if isinstance(mapped, mmap.mmap) and hasattr(mapped, "madvise") else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(images, height, width)."""
        return len(self._rows), self._pixels.shape[1], self._pixels.shape[2]

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """uint8, values 0 to 255."""
        return self._pixels.dtype

    def at(self, rows: npt.NDArray[np.intp]) -> GreyImages:
        """Some of the images, in the order of ``rows``; none is read."""
        return GreyImages(self._pixels, self._rows[rows])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int | np.intp | slice | list[int] | npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
        chosen = self._rows[index]
        found = np.empty((*np.shape(chosen), *self.shape[1:]), dtype=np.uint8)
        rows = np.atleast_1d(chosen)
        flat = found.reshape(len(rows), *self.shape[1:])
        for start in range(0, len(rows), _MOST_READ):
            part = flat[start : start + _MOST_READ]
            self._ask_for(rows[start : start + _MOST_READ])
            part[:] = self._pixels[rows[start : start + _MOST_READ]]
            self._read += part.nbytes
            if self._read > _MOST_MAPPED and self._mapped:
                # Pages of the file that were read count as this process's memory until they are given back.
                self._read = 0
                self._mapped.madvise(mmap.MADV_DONTNEED)
        return found

    def _ask_for(self, rows: npt.NDArray[np.intp]) -> None:
        """Let the system read rows from the disk side by side; without it, each waits for the one before."""
        if self._mapped:
            size = int(np.prod(self.shape[1:]))
            for begin in (self._offset + rows * size).tolist():
                page = begin - begin % mmap.PAGESIZE
                self._mapped.madvise(mmap.MADV_WILLNEED, page, begin + size - page)

    def __array__(self, dtype: npt.DTypeLike = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[:].astype(dtype) if dtype is not None else self[:]


@dataclass(frozen=True)
class Dataset:
    """Manifest and pixels of a data set.

    ``grey`` has the pixels in the order of ``manifest.entries``, read from the cache file as they are asked for.
    ``paths`` has the paths of a table and of separate test images, see :class:`~pneumo_edge.data.samples.Source`.
    """

    manifest: Manifest
    grey: GreyImages
    paths: Mapping[str, str] = field(default_factory=dict)

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
        """Return pixels of images as a model takes them: uint8, (images, height, width, 3), 0 to 255."""
        return images.grey_to_rgb(self.grey[indices])


def prepare(source: Source, cache: Path, height: int, width: int, split: Manifest | None = None) -> Dataset:
    """Decode a data set, draw its validation split, and cache both.

    Images that cannot be decoded are left out, each with its reason in ``manifest.left_out``.

    Args:
        source: The data set.
        cache: Folder for the decoded pixels; the same data set is decoded once.
        height: Height of the pixels.
        width: Width of the pixels.
        split: The manifest of a run. Its split is used if the data set has all its images; if not, the fingerprint
            differs.

    Raises:
        DataError: Too little of the data set is usable, or the cache cannot be written.
    """
    digests = {
        sample.name: "" if isinstance(digest, ImageError) else digest
        for sample, digest in read_each(
            source, source.samples, lambda data: hashlib.sha256(data).hexdigest(), "Reading images"
        )
    }
    key = _cache_key(source, digests, height, width)
    pixels_path, manifest_path = cache / f"{key}.npy", cache / f"{key}.json"
    if not (pixels_path.exists() and manifest_path.exists()):
        with writing(cache):
            with files.atomic(pixels_path) as temporary, temporary.open("wb+") as stream:
                manifest = _decode_to(stream, source, digests, height, width)
            manifest.save(manifest_path)
            keep_within_limit(cache, (pixels_path, manifest_path))
    use((pixels_path, manifest_path))
    # These can differ for the same samples.
    manifest = replace(
        Manifest.load(manifest_path),
        patient_pattern=source.patient_pattern,
        options=dict(source.options),
        passed_over=source.passed_over,
        task=source.task,
    )
    return _split_as(Dataset(manifest, GreyImages(np.load(pixels_path, mmap_mode="r")), source.paths), split)


def _split_as(dataset: Dataset, split: Manifest | None) -> Dataset:
    """Return the same images in the split of a run, if that split differs and has no other images."""
    drawn = dataset.manifest
    if split is None or split.fingerprint == drawn.fingerprint or not (adopted := adopt(split, drawn)):
        return dataset
    row_of = {entry.name: row for row, entry in enumerate(drawn.entries)}
    rows = np.array([row_of[entry.name] for entry in adopted.entries], dtype=np.intp)
    return Dataset(adopted, dataset.grey.at(rows), dataset.paths)


def _decode_to(stream: IO[bytes], source: Source, digests: dict[str, str], height: int, width: int) -> Manifest:
    """Decode a data set into a ``.npy`` file, image by image, so that memory never holds more than a few."""
    hashes: dict[str, Bits] = {}
    left_out: dict[str, str] = {}
    row_of: dict[str, int] = {}
    stream.write(_npy_header((len(digests), height, width)))
    for sample, result in read_each(
        source, source.samples, lambda data: _decode(data, height, width), "Decoding images"
    ):
        if isinstance(result, ImageError):
            left_out[sample.name] = str(result)
        else:
            pixels, hashes[sample.name] = result
            row_of[sample.name] = len(row_of)
            stream.write(pixels.tobytes())
    manifest = make_manifest(source, digests, left_out, hashes)
    for row, entry in enumerate(manifest.entries):
        # Images that were left out after they had been decoded leave gaps.
        if row_of[entry.name] != row:
            stream.seek(_HEADER_BYTES + row_of[entry.name] * height * width)
            pixels_of_one = stream.read(height * width)
            stream.seek(_HEADER_BYTES + row * height * width)
            stream.write(pixels_of_one)
    stream.truncate(_HEADER_BYTES + len(manifest.entries) * height * width)
    stream.seek(0)
    stream.write(_npy_header((len(manifest.entries), height, width)))
    return manifest


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """The head of a ``.npy`` file of uint8, version 1.0, of the same length for every shape."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    magic = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
    return magic + text.ljust(_HEADER_BYTES - 11).encode() + b"\n"


def _decode(data: bytes, height: int, width: int) -> tuple[images.Pixels, Bits]:
    grey = images.decode(data)
    return np.asarray(images.resize(grey, height, width), dtype=np.uint8), perceptual_hash(grey)


def _cache_key(source: Source, digests: dict[str, str], height: int, width: int) -> str:
    size = f"{height}x{width}"
    head = (_PREPROCESSING_VERSION, _MANIFEST_VERSION, RULE_VERSION, source.title, str(source.real), size)
    # Includes the patients, because another pattern finds other patients in the same names.
    lines = (
        f"{sample.name} {sample.label} {digests[sample.name]} {sample.patient} {sample.original}"
        for sample in source.samples
    )
    return hashlib.sha256("\n".join((*head, *lines)).encode()).hexdigest()[:16]
