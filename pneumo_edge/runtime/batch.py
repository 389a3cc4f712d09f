"""Many images, judged on several cores, one thread and one classifier or engine each."""

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
#: Items that are worked on ahead of the one that is waited for, for each worker: so that a slow one holds nobody up,
#: and few enough that memory stays what it is.
_AHEAD = 4


def side_by_side(functions: Sequence[Callable[[Item], Result]], items: Iterable[Item]) -> Generator[Result, None, None]:
    """Apply equivalent functions to items, each function in one thread at a time.

    Args:
        functions: As many as items shall be worked on at a time, at least one.
        items: Taken as they are needed.

    Yields:
        For each item, in the order given and as soon as it is known, what one of the functions returns; what it
        raises is raised here.
    """
    if len(functions) == 1:
        yield from map(functions[0], items)
        return
    # Not at the top: one image should not wait for the import.
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
        functions: As many as items shall be worked on at a time, at least one.
    """

    def __init__(self, functions: Sequence[Callable[[Item], Result]]) -> None:
        # Not at the top: one image should not wait for the imports.
        from concurrent.futures import ThreadPoolExecutor
        from queue import SimpleQueue

        self._idle: SimpleQueue[Callable[[Item], Result]] = SimpleQueue()
        for function in functions:
            self._idle.put(function)
        self._threads = ThreadPoolExecutor(len(functions))

    def submit(self, item: Item) -> Future[Result]:
        """Have an item worked on when a function is free, in the order of the calls."""
        return self._threads.submit(self._work, item)

    def close(self) -> None:
        """Wait for what was begun, and leave the rest: otherwise an interrupt would wait for all of it."""
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
    """Judge image files side by side.

    Reading, decoding and inference all happen in the workers, which are threads: Pillow and the engines let others
    run meanwhile. Each has a classifier of its own.

    Args:
        classifier: What judges; the workers' are copies of it.
        paths: Image files; taken as they are needed.
        workers: How many images are judged at a time, from 1 to :data:`pneumo_edge._util.cores.MOST`.
        explain: Give the heatmaps, too.

    Yields:
        For each path, in the order given and as soon as it is known, its prediction or the reason why there is none.

    Raises:
        ModelFileError: As :meth:`Classifier.predict`.
        ValueError: ``workers`` is not within that.
    """
    cores.check_count("workers", workers)
    classifiers = (classifier, *(classifier.copy() for _ in range(workers - 1)))
    return side_by_side([partial(_predict, each, explain) for each in classifiers], paths)


def _predict(classifier: Classifier, explain: bool, path: Path) -> Prediction | ImageError:
    try:
        return classifier.predict(path, explain=explain)
    except ImageError as error:
        return error
