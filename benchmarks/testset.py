"""Prepares the images that models are measured on. They are decoded once, so every unit gets the same pixels."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

from pneumo_edge._util import scratch
from pneumo_edge._util.scratch import Scratch
from pneumo_edge.benchmarks.protocol import BenchmarkSettings, TimedImage
from pneumo_edge.benchmarks.results import TestSet
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.data.sources import Sample, Source, open_source
from pneumo_edge.scoring.decoding import InputSize, decode

#: Phantom images of each class for timing without a data set.
_PHANTOMS = 8


@dataclass(frozen=True)
class PreparedTestSet:
    """The test set, a ``.npy`` file with its pixels for each input size, and the images for timed calls.

    ``test_set`` is None where the images are phantom images for timing. ``fingerprint`` and ``count`` are those of the
    images in ``pixels``.
    """

    test_set: TestSet | None
    pixels: dict[InputSize, Path]
    timed: tuple[TimedImage, ...]
    fingerprint: str
    count: int


def prepare_phantoms(sizes: Iterable[InputSize], place: Scratch, settings: BenchmarkSettings) -> PreparedTestSet:
    """Draw a few phantom images for timing without a data set.

    Args:
        sizes: As for :func:`prepare`.
        place: As for :func:`prepare`.
        settings: As for :func:`prepare`.

    Raises:
        OSError: The scratch space, or the folder for temporary files, cannot be written.
    """
    sizes = list(sizes)
    if not sizes:
        return PreparedTestSet(None, {}, (), "", 0)
    with scratch.folder() as folder:
        source = open_source(make_phantom(folder / "phantom", settings.seed, _PHANTOMS, _PHANTOMS))
        return replace(prepare(source, sizes, place, settings), test_set=None)


def prepare(source: Source, sizes: Iterable[InputSize], place: Scratch, settings: BenchmarkSettings) -> PreparedTestSet:
    """Decode the test split.

    Args:
        source: The data set.
        sizes: Input sizes of the models.
        place: Scratch space for the pixels and the files of the timed images.
        settings: How many images are timed, and the seed of the random choice.

    Returns:
        The prepared test set; images that cannot be decoded are in ``test_set.left_out``.

    Raises:
        DataError: Fewer than two images of a class can be decoded.
        OSError: The scratch space cannot be written.
    """
    samples = [sample for sample in source.samples if sample.split == "test"]
    decoded = decode(source, samples, "test", sizes, place)
    return PreparedTestSet(
        TestSet(
            title=source.title,
            real=source.real,
            licence=source.licence,
            class_names=source.task.class_names,
            labels={sample.name: sample.label for sample in decoded.samples},
            patients={sample.name: sample.patient for sample in decoded.samples},
            left_out=decoded.left_out,
            fingerprint=decoded.fingerprint,
            positive_class=source.task.positive_class,
        ),
        decoded.pixels,
        _write_timed(source, decoded.samples, place, settings),
        decoded.fingerprint,
        len(decoded.samples),
    )


def _copy(content: bytes, stream: IO[bytes]) -> None:
    stream.write(content)


def _write_timed(
    source: Source, usable: Sequence[Sample], place: Scratch, settings: BenchmarkSettings
) -> tuple[TimedImage, ...]:
    chosen = random.Random(settings.seed).sample(range(len(usable)), min(settings.images, len(usable)))
    timed = []
    for index in chosen:
        name = f"{index:05d}{Path(usable[index].name).suffix}"
        path = place.put(name, partial(_copy, source.read(usable[index])))
        timed.append(TimedImage(index, str(path)))
    return tuple(timed)
