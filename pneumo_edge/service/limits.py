"""What a service takes on at most."""

from __future__ import annotations

from dataclasses import dataclass

from pneumo_edge import images


@dataclass(frozen=True)
class Limits:
    """Bounds that are kept to whatever is sent: ``body`` in bytes, ``waiting`` in images beside those being judged.

    ``pixels`` is the size of an image, refused before it is decoded; ``seconds`` the time that a body may take to
    arrive, and then again the time until its verdict. A service holds at most workers + ``waiting`` bodies in memory.
    """

    body: int = 50_000_000
    pixels: int = images.MAX_PIXELS
    waiting: int = 8
    seconds: float = 30.0
