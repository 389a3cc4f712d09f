"""Reads the images of a data set once, in parallel and in order, with an error for each unusable image."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from pneumo_edge._util import cores
from pneumo_edge._util.progress import track
from pneumo_edge.data.samples import Readable, Sample
from pneumo_edge.errors import ImageError

Result = TypeVar("Result")
#: Images that are read ahead.
_AHEAD = 256


def read_each(
    source: Readable, samples: Sequence[Sample], work: Callable[[bytes], Result], description: str
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
            # A few at a time: what is read ahead of a slow caller takes memory.
            ahead = iter(samples)
            waiting = deque(pool.submit(read, sample) for sample in islice(ahead, _AHEAD))
            for sample in track(samples, description):
                result = waiting.popleft().result()
                waiting.extend(pool.submit(read, following) for following in islice(ahead, 1))
                yield sample, result
        finally:
            # Without this, an interrupt would wait until every image is read.
            pool.shutdown(cancel_futures=True)
