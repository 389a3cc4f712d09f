"""Where verdicts are written: lines of one file, or Parquet files by day.

Both may be asked to write the same verdicts again after a kill or a full disk, and then have each once.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pneumo_edge._util import files
from pneumo_edge.service.watch.ledger import Entry

#: A verdict: what ``Prediction.to_dict`` gives or an error, with what identifies the file.
Verdict = Mapping[str, Any]
#: Writes verdicts of one model into a file of the kind of its ending.
WritePart = Callable[[Sequence[Verdict], Path], None]

#: Verdicts of one Parquet file, and how long they wait for it, in seconds.
PART_ROWS, PART_SECONDS = 1_000, 60.0


class Results(Protocol):
    """A kind of results."""

    #: The most verdicts that are given to :meth:`write` at a time.
    most: int

    def place(self) -> int | None:
        """What the ledger records with the next verdict: where it is written."""
        ...

    def is_due(self, entries: Sequence[Entry], at_end: bool) -> bool:
        """Whether verdicts are written now, or wait for more."""
        ...

    def write(self, entries: Sequence[Entry]) -> int:
        """Write the first of these verdicts.

        Returns:
            How many; they are on the disk.

        Raises:
            OSError: The disk is full, for one. The verdicts are given again.
        """
        ...


class Lines:
    """JSON Lines, appended to a file."""

    most = 1

    def __init__(self, path: Path) -> None:
        self._path = path

    def place(self) -> int:
        """The size of the file."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def is_due(self, entries: Sequence[Entry], at_end: bool) -> bool:
        """Always: a line is written at once."""
        return bool(entries)

    def write(self, entries: Sequence[Entry]) -> int:
        """Append a line, unless all of it is there; see :class:`Results`."""
        entry = entries[0]
        line = entry.line.encode() + b"\n"
        with files.naming(self._path):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
            try:
                size = os.fstat(descriptor).st_size
                place = size if entry.place is None or size < entry.place else entry.place
                tail = os.pread(descriptor, len(line) + 1, place)
                if not line.startswith(tail):
                    # The file is another one, such as that of a new day after its name was given away.
                    place, tail = size, b""
                if tail != line:
                    os.ftruncate(descriptor, place)
                    _write_all(descriptor, line, place)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if not size:
                _sync_folder(self._path.parent)
        return 1


class Parts:
    """Parquet files in a folder for each day, ``day=2026-11-30/verdicts-000000000001.parquet``.

    Args:
        folder: The folder of all.
        write_part: Writes one file.
    """

    most = PART_ROWS

    def __init__(self, folder: Path, write_part: WritePart) -> None:
        self._folder, self._write_part = folder, write_part
        self._waits_since: float | None = None

    def place(self) -> None:
        """None: a file of verdicts is named by the first of them."""

    def is_due(self, entries: Sequence[Entry], at_end: bool) -> bool:
        """Whether there are enough for a file, or the first has waited long enough."""
        if not entries:
            self._waits_since = None
            return False
        if self._waits_since is None:
            self._waits_since = time.monotonic()
        return at_end or len(entries) >= PART_ROWS or time.monotonic() - self._waits_since >= PART_SECONDS

    def write(self, entries: Sequence[Entry]) -> int:
        """Write a file of the verdicts that are of the day and the model of the first; see :class:`Results`."""
        self._waits_since = None
        verdicts = [json.loads(entry.line) for entry in entries]
        # A watch that was killed may have had another model.
        kinds = [(verdict["classified_at"][:10], verdict["model_sha256"]) for verdict in verdicts]
        count = next((place for place, kind in enumerate(kinds) if kind != kinds[0]), len(kinds))
        # If the process ends before the ledger knows of it, the same name is written again, with all that it had.
        path = self._folder / f"day={kinds[0][0]}" / f"verdicts-{entries[0].number:012}.parquet"
        self._write_part(verdicts[:count], path)
        with files.naming(path):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            _sync_folder(path.parent)
        return count


def _write_all(descriptor: int, data: bytes, place: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, place)
        data, place = data[written:], place + written


def _sync_folder(folder: Path) -> None:
    """Have a new name in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
