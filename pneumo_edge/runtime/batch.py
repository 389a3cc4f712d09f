"""Many images, judged on several cores, one thread and one classifier each."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from pathlib import Path

from pneumo_edge.errors import ImageError
from pneumo_edge.runtime.classifier import Classifier, Prediction

#: Images that are judged ahead of the one that is waited for, for each worker: so that a slow one holds nobody up,
#: and few enough that memory stays what it is.
_AHEAD = 4


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def predict_each(
    classifier: Classifier, paths: Iterable[Path], workers: int = 1
) -> Generator[Prediction | ImageError, None, None]:
    """Judge image files side by side.

    Reading, decoding and inference all happen in the workers, which are threads: Pillow and the engines let others
    run meanwhile. Each has a classifier of its own.

    Args:
        classifier: What judges; the workers' are copies of it.
        paths: Image files; taken as they are needed.
        workers: How many images are judged at a time, at least 1.

    Yields:
        For each path, in the order given and as soon as it is known, its prediction or the reason why there is none.

    Raises:
        ModelFileError: The model gave something that is not a probability.
    """
    if workers <= 1:
        yield from (_predict(classifier, path) for path in paths)
        return
    # Not at the top: one image should not wait for the import.
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor
    from queue import SimpleQueue

    idle: SimpleQueue[Classifier] = SimpleQueue()
    for each in (classifier, *(classifier.copy() for _ in range(workers - 1))):
        idle.put(each)

    def work(path: Path) -> Prediction | ImageError:
        mine = idle.get()
        try:
            return _predict(mine, path)
        finally:
            idle.put(mine)

    waiting: deque[Future[Prediction | ImageError]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for path in paths:
            waiting.append(pool.submit(work, path))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Without this an interrupt would wait until everything that was begun is judged.
        pool.shutdown(cancel_futures=True)


def _predict(classifier: Classifier, path: Path) -> Prediction | ImageError:
    try:
        return classifier.predict(path)
    except ImageError as error:
        return error
