"""Keeps away from the user what libraries warn of and log.

What native code prints is the business of :mod:`pneumo_edge._util.native_output`.
"""

from __future__ import annotations

import logging
import threading
import warnings
from types import TracebackType
from typing import Any


class _Thread(threading.local):
    """How many blocks of :class:`Unheard` this thread is in, and its own filter for :mod:`warnings`."""

    def __init__(self) -> None:
        self.depth = 0
        self.ignored: Any = ("ignore", _WhateverThisThreadSays(), Warning, None, 0)


class _WhateverThisThreadSays:
    """Stands in a filter of :mod:`warnings` where a regular expression belongs."""

    def match(self, _text: str) -> bool:
        return _thread.depth > 0


_thread = _Thread()


def keep_unheard(*loggers: str) -> None:
    """Let nothing pass from now on that these loggers are told inside a block of :class:`Unheard`.

    Args:
        loggers: Names. Loggers below them in the hierarchy need to be named, too.
    """
    for name in loggers:
        logging.getLogger(name).addFilter(_is_heard)


def _is_heard(_record: logging.LogRecord) -> bool:
    return not _thread.depth


class Unheard:
    """While the block runs, discard the warnings and log records (:func:`keep_unheard`) of this thread alone.

    ``warnings.catch_warnings`` would silence all threads, and two of them may restore each other's filters. This takes
    about a microsecond and no lock, and leaves the filters as they were.
    """

    def __enter__(self) -> None:
        _thread.depth += 1
        # Filters that were set meanwhile come first.
        if warnings.filters[:1] != [_thread.ignored]:
            warnings.filters.insert(0, _thread.ignored)  # type: ignore[attr-defined]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _thread.depth -= 1
        while not _thread.depth and _thread.ignored in warnings.filters:
            warnings.filters.remove(_thread.ignored)  # type: ignore[attr-defined]
