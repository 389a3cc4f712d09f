"""What ends a child process when its parent has ended, however that ended: a pipe that only the parent holds open."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

#: Where a command of ours finds the pipe, as its descriptor.
VARIABLE = "PNEUMO_EDGE_LIFELINE"


@dataclass(frozen=True)
class Lifeline:
    """The child's end of the pipe: what :class:`subprocess.Popen` gets as ``pass_fds``, and a word for the child."""

    pass_fds: tuple[int, ...]
    word: str


@contextlib.contextmanager
def held() -> Iterator[Lifeline]:
    """Hold the parent's end while the block runs; the child is given the word, and calls :func:`watch` with it."""
    if os.name != "posix":  # where a child inherits no descriptors
        yield Lifeline((), "")
        return
    reader, writer = os.pipe()
    try:
        yield Lifeline((reader,), str(reader))
    finally:
        os.close(writer)
        os.close(reader)


def watch(word: str, number: int = getattr(signal, "SIGKILL", signal.SIGTERM)) -> None:
    """End this process by a signal when the parent has ended.

    Args:
        word: From the parent; without one, nothing is watched.
        number: The signal.
    """
    if not word:
        return

    def wait() -> None:
        os.read(int(word), 1)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait, daemon=True).start()
