"""Finds names that a source has more than once, in memory that does not grow with their number."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from pneumo_edge._util import files

#: Temporary files, each for the hashes with one remainder, and the bytes of one that stay in memory.
_FILES, _BYTES = 64, 2**18
#: Hashes of repeated names that are given, so that some of the names can be looked for.
_GIVEN = 100


@dataclass(frozen=True)
class Found:
    """How many names come more than once, how many images have them, and some of the names by their hash."""

    names: int
    images: int
    hashes: frozenset[int]


class Repeats:
    """Counts names by their hashes, which lie in temporary files; as a context, these are gone with the block.

    Of 10^8 different names, two have the same hash with a probability of 0.0003.
    """

    def __enter__(self) -> Repeats:
        self._stack = ExitStack()
        opened = (tempfile.SpooledTemporaryFile(_BYTES) for _ in range(_FILES))  # noqa: SIM115 (as contexts)
        self._files = [self._stack.enter_context(file) for file in opened]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def add(self, names: Iterable[str]) -> None:
        """Count names.

        Raises:
            OSError: The temporary folder is full; the error names it.
        """
        hashes = np.fromiter(map(hash, names), np.int64)
        places = hashes % _FILES
        with files.naming(Path(tempfile.gettempdir())):
            for place in np.unique(places):
                self._files[place].write(hashes[places == place].tobytes())

    def found(self) -> Found:
        """What came more than once.

        Raises:
            OSError: As :meth:`add`.
        """
        names = images = 0
        given: list[int] = []
        for file in self._files:
            with files.naming(Path(tempfile.gettempdir())):
                file.seek(0)
            hashes, counts = np.unique(np.frombuffer(file.read(), np.int64), return_counts=True)
            repeated = counts > 1
            names += int(repeated.sum())
            images += int(counts[repeated].sum())
            given += hashes[repeated][: _GIVEN - len(given)].tolist()
        return Found(names, images, frozenset(given))
