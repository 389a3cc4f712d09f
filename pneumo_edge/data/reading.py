"""Reads the images of a data set once, in parallel and in order, with an error for each unusable image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pneumo_edge._util import cores
from pneumo_edge._util.progress import track
from pneumo_edge.data.sources import Sample, Source
from pneumo_edge.errors import ImageError

Result = TypeVar("Result")


def read_each(
    source: Source, samples: Sequence[Sample], work: Callable[[bytes], Result], description: str
) -> Iterator[tuple[Sample, Result | ImageError]]:
    """Call a function on the bytes of every image, in threads.

    Args:
        source: The data set.
        samples: The samples to read.
        work: The function for an image's bytes; Pillow and hashlib let other threads run meanwhile.
        description: Label of the progress bar.

    Yields:
        (sample, result) in the order of ``samples``; the result is the ImageError if the image could not be read or
        ``work`` raised one.
    """

    def read(sample: Sample) -> Result | ImageError:
        try:
            return work(source.read(sample))
        except ImageError as error:
            return error

    with ThreadPoolExecutor(cores.available()) as pool:
        try:
            results = pool.map(read, samples)
            yield from zip(track(samples, description), results, strict=True)
        finally:
            # Without this, an interrupt would wait until every image is read.
            pool.shutdown(cancel_futures=True)
