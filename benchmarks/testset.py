"""The images that models are measured on: decoded once, so that every unit gets the same pixels and the same files."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from pneumo_edge._util.scratch import Scratch
from pneumo_edge.benchmarks.protocol import Settings, TimedImage
from pneumo_edge.benchmarks.results import TestSet
from pneumo_edge.data.reading import read_each
from pneumo_edge.data.sources import CLASS_NAMES, Sample, Source, SplitName
from pneumo_edge.errors import DataError, ImageError
from pneumo_edge.imaging import images
from pneumo_edge.spec import ModelSpec

#: An interval of the AUC takes at least two images of each class.
_MIN_IMAGES = 2


@dataclass(frozen=True)
class DecodedImages:
    """Images that can be decoded, and their pixels in a ``.npy`` file for each input size.

    ``left_out`` maps the names of the others to the reason. ``fingerprint`` is a SHA-256 over label and
    file content of every image used, whatever its name.
    """

    samples: tuple[Sample, ...]
    left_out: dict[str, str]
    fingerprint: str
    pixels: dict[InputSize, Path]


@dataclass(frozen=True)
class PreparedTestSet:
    """The test set, its pixels in a ``.npy`` file for each input size, and the images for timed calls."""

    test_set: TestSet
    pixels: dict[InputSize, Path]
    timed: tuple[TimedImage, ...]


@dataclass(frozen=True)
class InputSize:
    """The pixels that a model takes; models of one size share a file."""

    height: int
    width: int
    resize_filter: str
    smallest_decoded: int | None = None

    @property
    def name(self) -> str:
        """For a file."""
        return f"{self.height}x{self.width}-{self.resize_filter}-{self.smallest_decoded or 'full'}"

    @classmethod
    def of(cls, spec: ModelSpec) -> InputSize:
        """What a ModelSpec says."""
        return cls(spec.input.height, spec.input.width, spec.input.resize_filter, spec.smallest_decoded)


def prepare(source: Source, sizes: Iterable[InputSize], place: Scratch, settings: Settings) -> PreparedTestSet:
    """Decode the test split.

    Args:
        source: The data set.
        sizes: Input sizes of the models.
        place: Where the pixels and the files of the timed images go.
        settings: How many images are timed, and the seed of their choice.

    Returns:
        The prepared test set; images that cannot be decoded are in ``test_set.left_out``.

    Raises:
        DataError: Fewer than two images of a class can be decoded.
        OSError: The place cannot be written.
    """
    samples = [sample for sample in source.samples if sample.split == "test"]
    decoded = decode(source, samples, "test", sizes, place)
    return PreparedTestSet(
        TestSet(
            title=source.title,
            real=source.real,
            licence=source.licence,
            class_names=CLASS_NAMES,
            labels={sample.name: sample.label for sample in decoded.samples},
            patients={sample.name: sample.patient for sample in decoded.samples},
            left_out=decoded.left_out,
            fingerprint=decoded.fingerprint,
        ),
        decoded.pixels,
        _write_timed(source, decoded.samples, place, settings),
    )


def decode(
    source: Source, samples: Sequence[Sample], split: SplitName, sizes: Iterable[InputSize], place: Scratch
) -> DecodedImages:
    """Decode some images of a data set.

    Args:
        source: The data set.
        samples: Which of its images.
        split: What they are, for people.
        sizes: Input sizes of the models.
        place: Where the pixels go.

    Raises:
        DataError: Fewer than two images of a class can be decoded.
        OSError: The place cannot be written.
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


def _copy(content: bytes, stream: IO[bytes]) -> None:
    stream.write(content)


def _decode(data: bytes, sizes: list[InputSize]) -> tuple[str, list[images.Pixels]]:
    decoded = {smallest: images.decode(data, smallest) for smallest in {size.smallest_decoded for size in sizes}}
    arrays = [
        np.asarray(images.resize(decoded[size.smallest_decoded], size.height, size.width, size.resize_filter))
        for size in sizes
    ]
    return hashlib.sha256(data).hexdigest(), arrays


def _check(source: Source, usable: list[Sample], split: SplitName) -> None:
    for label, class_name in enumerate(CLASS_NAMES):
        found = sum(sample.label == label for sample in usable)
        if found < _MIN_IMAGES:
            raise DataError(
                f"{source.title} has {found} {split} images of {class_name} that can be decoded",
                f"at least {_MIN_IMAGES} of each class",
                f"Give a data set with a {split} split",
            )


def _write_timed(
    source: Source, usable: Sequence[Sample], place: Scratch, settings: Settings
) -> tuple[TimedImage, ...]:
    chosen = random.Random(settings.seed).sample(range(len(usable)), min(settings.images, len(usable)))
    timed = []
    for index in chosen:
        name = f"{index:05d}{Path(usable[index].name).suffix}"
        path = place.put(name, partial(_copy, source.read(usable[index])))
        timed.append(TimedImage(index, str(path)))
    return tuple(timed)


def _fingerprint(usable: list[Sample], digests: list[str]) -> str:
    lines = sorted(f"{sample.label} {digest}" for sample, digest in zip(usable, digests, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
