"""Classifies many images on several cores, with one thread and one classifier or engine per core."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from pneumo_edge._util import cores
from pneumo_edge.errors import ImageError
from pneumo_edge.runtime.classifier import Classifier, Prediction

if TYPE_CHECKING:
    from concurrent.futures import Future

Item = TypeVar("Item")
Result = TypeVar("Result")
#: Items per worker that are processed ahead of the next result, so that a slow item does not stop the others. The
#: number is small to limit memory.
_AHEAD = 4


def side_by_side(functions: Sequence[Callable[[Item], Result]], items: Iterable[Item]) -> Generator[Result, None, None]:
    """Apply equivalent functions to items, each function in one thread at a time.

    Args:
        functions: One for each item to process at a time, at least one.
        items: The items, read on demand.

    Yields:
        For each item, in the order given and as soon as it is known, the return value of one of the functions. An
        exception of the function is raised here.
    """
    if len(functions) == 1:
        yield from map(functions[0], items)
        return
    # Imported only here, because one image does not need it.
    from collections import deque

    waiting: deque[Future[Result]] = deque()
    workers = Workers(functions)
    try:
        for item in items:
            waiting.append(workers.submit(item))
            if len(waiting) > _AHEAD * len(functions):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        workers.close()


class Workers(Generic[Item, Result]):
    """Threads that apply equivalent functions to items, each function in one thread at a time.

    Args:
        functions: One for each item to process at a time, at least one.
    """

    def __init__(self, functions: Sequence[Callable[[Item], Result]]) -> None:
        # Imported only here, because one image does not need them.
        from concurrent.futures import ThreadPoolExecutor
        from queue import SimpleQueue

        self._idle: SimpleQueue[Callable[[Item], Result]] = SimpleQueue()
        for function in functions:
            self._idle.put(function)
        self._threads = ThreadPoolExecutor(len(functions))

    def submit(self, item: Item) -> Future[Result]:
        """Queue an item; it is processed when a function is free, in the order of the calls."""
        return self._threads.submit(self._work, item)

    def close(self) -> None:
        """Wait for the items in progress and cancel the others, so that an interrupt does not wait for all of them."""
        self._threads.shutdown(cancel_futures=True)

    def _work(self, item: Item) -> Result:
        mine = self._idle.get()
        try:
            return mine(item)
        finally:
            self._idle.put(mine)


def predict_each(
    classifier: Classifier, paths: Iterable[Path], workers: int = 1, *, explain: bool = False
) -> Generator[Prediction | ImageError, None, None]:
    """Classify image files in parallel.

    Reading, decoding and inference all happen in worker threads: Pillow and the engines let other threads run
    meanwhile. Each worker has its own classifier.

    Args:
        classifier: The classifier; the workers use copies of it.
        paths: Image files, read on demand.
        workers: How many images are classified at a time, from 1 to :data:`pneumo_edge._util.cores.MOST`.
        explain: Also return the heatmaps.

    Yields:
        For each path, in the order given and as soon as it is known, its prediction or the error.

    Raises:
        ModelFileError: The engine cannot run the model, or the model has no heatmap.
        ValueError: ``workers`` is out of range.
    """
    cores.check_count("workers", workers)
    classifiers = (classifier, *(classifier.copy() for _ in range(workers - 1)))
    return side_by_side([partial(_predict, each, explain) for each in classifiers], paths)


def _predict(classifier: Classifier, explain: bool, path: Path) -> Prediction | ImageError:
    try:
        return classifier.predict(path, explain=explain)
    except ImageError as error:
        return error
