"""What a service takes on at most."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pneumo_edge.errors import ServiceError
from pneumo_edge.imaging import images

#: Open files that are not connections: the model, the engine, an image library's own, and a margin.
_OTHER_FILES = 64
#: Fewer connections than this are no service.
_FEWEST_CONNECTIONS = 8


@dataclass(frozen=True)
class Limits:
    """Bounds that hold whatever is sent.

    Attributes:
        body: Most bytes of a body.
        pixels: Most pixels of an image, checked before it is decoded.
        waiting: Images that may wait beside those that are classified, at least 0.
        seconds: Time that a body may take to arrive, then again the time until its verdict, and the time that a client
            may take to read an answer.
        rate: Least bytes per second of a body, on average from its fifth second.
        connections: Connections that are served at a time; as many again may be closing.
    """

    body: int = 50_000_000
    pixels: int = images.MAX_PIXELS
    waiting: int = 8
    seconds: float = 30.0
    rate: float = 1000.0
    connections: int = 256

    @property
    def arriving(self) -> int:
        """Most bytes of all bodies together that have not arrived whole."""
        return 2 * self.body

    @property
    def discarded(self) -> int:
        """Most bytes that are read and thrown away behind a refusal, so that the client gets to read it."""
        return self.body + 64_000_000


def connections_within_file_limit() -> int:
    """Connections that the process's limit of open files leaves room for.

    Raises:
        ServiceError: It leaves room for next to none.
    """
    limit = _file_limit()
    if limit is None:
        return 2**20
    # Each connection that is served may stand beside one that is closing.
    connections = (limit - _open_files() - _OTHER_FILES) // 2
    if connections < _FEWEST_CONNECTIONS:
        raise ServiceError(
            f"the limit of {limit} open files leaves room for too few connections",
            f"room for at least {_FEWEST_CONNECTIONS}",
            "Raise it, for example with: ulimit -n 1024",
        )
    return connections


def _file_limit() -> int | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else limit


def _open_files() -> int:
    folder = Path("/proc/self/fd")
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else _OTHER_FILES
