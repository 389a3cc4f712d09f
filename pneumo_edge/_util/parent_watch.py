"""Ends a child process when its parent ends for any reason, by a pipe that only the parent holds open."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

#: Where a child of ours finds the pipe, as its descriptor.
_VARIABLE = "PNEUMO_EDGE_LIFELINE"


@dataclass(frozen=True)
class Lifeline:
    """The child's end of the pipe: what :class:`subprocess.Popen` gets as ``pass_fds``, and variables for the child."""

    pass_fds: tuple[int, ...]
    environment: Mapping[str, str]


@contextlib.contextmanager
def lifeline() -> Iterator[Lifeline]:
    """Hold the parent's end while the block runs; the child calls :func:`watch`."""
    if os.name != "posix":  # where a child inherits no descriptors
        yield Lifeline((), {})
        return
    reader, writer = os.pipe()
    try:
        yield Lifeline((reader,), {_VARIABLE: str(reader)})
    finally:
        os.close(writer)
        os.close(reader)


def watch(number: int = getattr(signal, "SIGKILL", signal.SIGTERM)) -> None:
    """End this process by a signal when its parent has ended, if the parent holds a pipe for it.

    Args:
        number: The signal.
    """
    # It is taken away, because children of this process do not inherit the descriptor.
    word = os.environ.pop(_VARIABLE, "")
    if not word:
        return

    def wait() -> None:
        os.read(int(word), 1)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait, daemon=True).start()
