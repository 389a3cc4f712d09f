"""Decodes images once, so that every model file gets the same pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from pneumo_edge._util.scratch import Scratch
from pneumo_edge.data.reading import read_each
from pneumo_edge.data.sources import Sample, Source, SplitName
from pneumo_edge.errors import DataError, ImageError
from pneumo_edge.imaging import images
from pneumo_edge.scoring.classes import MIN_IMAGES
from pneumo_edge.spec import ModelSpec


@dataclass(frozen=True)
class DecodedImages:
    """Images that can be decoded, and their pixels in a ``.npy`` file for each input size.

    ``left_out`` maps the names of the others to the reason. ``fingerprint`` is a SHA-256 over label and file content of
    every image used, independent of its name.
    """

    samples: tuple[Sample, ...]
    left_out: dict[str, str]
    fingerprint: str
    pixels: dict[InputSize, Path]


@dataclass(frozen=True)
class InputSize:
    """The input size of a model. Models with the same input size share a file of pixels."""

    height: int
    width: int
    resize_filter: str
    smallest_decoded: int | None = None

    @property
    def name(self) -> str:
        """The name for a file."""
        return f"{self.height}x{self.width}-{self.resize_filter}-{self.smallest_decoded or 'full'}"

    @classmethod
    def of(cls, spec: ModelSpec) -> InputSize:
        """The input size in a ModelSpec."""
        return cls(spec.input.height, spec.input.width, spec.input.resize_filter, spec.smallest_decoded)


def decode(
    source: Source, samples: Sequence[Sample], split: SplitName, sizes: Iterable[InputSize], place: Scratch
) -> DecodedImages:
    """Decode some images of a data set.

    Args:
        source: The data set.
        samples: The images to decode.
        split: Their split, for messages.
        sizes: Input sizes of the models.
        place: Scratch space for the pixels.

    Raises:
        DataError: Fewer than two images of a class can be decoded.
        OSError: The scratch space cannot be written.
    """
    sizes = sorted(set(sizes), key=str)
    usable: list[Sample] = []
    digests: list[str] = []
    left_out: dict[str, str] = {}
    pixels: dict[InputSize, list[images.Pixels]] = {size: [] for size in sizes}
    for sample, result in read_each(source, samples, partial(_decode, sizes=sizes), f"Decoding the {split} images"):
        if isinstance(result, ImageError):
            left_out[sample.name] = str(result)
            continue
        digest, arrays = result
        usable.append(sample)
        digests.append(digest)
        for size, array in zip(sizes, arrays, strict=True):
            pixels[size].append(array)
    _check(source, usable, split)
    files = {size: place.put(f"{size.name}.npy", partial(_save, np.stack(pixels.pop(size)))) for size in sizes}
    return DecodedImages(tuple(usable), left_out, _fingerprint(usable, digests), files)


def _save(pixels: images.Pixels, stream: IO[bytes]) -> None:
    np.save(stream, pixels)


def _decode(data: bytes, sizes: list[InputSize]) -> tuple[str, list[images.Pixels]]:
    decoded = {smallest: images.decode(data, smallest) for smallest in {size.smallest_decoded for size in sizes}}
    arrays = [
        np.asarray(images.resize(decoded[size.smallest_decoded], size.height, size.width, size.resize_filter))
        for size in sizes
    ]
    return hashlib.sha256(data).hexdigest(), arrays


def _check(source: Source, usable: list[Sample], split: SplitName) -> None:
    for label, class_name in enumerate(source.task.class_names):
        found = sum(sample.label == label for sample in usable)
        if found < MIN_IMAGES:
            raise DataError(
                f"{source.title} has {found} {split} images of {class_name} that can be decoded",
                f"at least {MIN_IMAGES} of each class",
                f"Give a data set with a {split} split",
            )


def _fingerprint(usable: list[Sample], digests: list[str]) -> str:
    lines = sorted(f"{sample.label} {digest}" for sample, digest in zip(usable, digests, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
