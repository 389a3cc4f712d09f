"""Limits of the service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pneumo_edge.errors import ServiceError
from pneumo_edge.imaging import images

#: Open files that are not connections: the model, the engine, an image library's own, and a margin.
_OTHER_FILES = 64
#: The service needs at least this many connections.
_FEWEST_CONNECTIONS = 8


@dataclass(frozen=True)
class Limits:
    """Limits that hold for any input.

    Attributes:
        body: Most bytes of a body.
        pixels: Most pixels of an image, checked before it is decoded.
        waiting: Images that may wait while others are classified, at least 0.
        seconds: Time limit for a body to arrive, for its classification, and for a client to read an answer, each.
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
        """Most bytes of all incomplete bodies together."""
        return 2 * self.body

    @property
    def discarded(self) -> int:
        """Most bytes that are read and discarded after a refusal, so that the client can read the answer."""
        return self.body + 64_000_000


def connections_within_file_limit() -> int:
    """Return the number of connections that the process's limit of open files allows.

    Raises:
        ServiceError: The limit allows too few.
    """
    limit = _file_limit()
    if limit is None:
        return 2**20
    # For each connection that is served, another may be closing.
    connections = (limit - _open_files() - _OTHER_FILES) // 2
    if connections < _FEWEST_CONNECTIONS:
        raise ServiceError(
            f"the limit of {limit} open files allows too few connections",
            f"at least {_FEWEST_CONNECTIONS}",
            "Raise the limit, for example with: ulimit -n 1024",
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
