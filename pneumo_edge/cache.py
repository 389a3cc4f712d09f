"""Where downloads and decoded data sets are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

#: Overrides the place of the cache.
CACHE_VARIABLE = "PNEUMO_EDGE_CACHE"


def cache_folder() -> Path:
    """``$PNEUMO_EDGE_CACHE``, or ``pneumo-edge`` in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``)."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pneumo-edge"
