"""The record of what was done with each file, so that a killed watch neither loses nor repeats one.

It is an SQLite database. A file is known by its path, its size and the time of its last modification. It goes through
the states of :class:`State` in order. A verdict is recorded before it is written anywhere else, so that each later step
can be completed, or found to be complete, after a kill or a full disk.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pneumo_edge.errors import ResultsError

_VERSION = 1
_SCHEMA = """
CREATE TABLE files (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path BLOB NOT NULL,
    size INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    state TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    line TEXT,
    place INTEGER,
    target BLOB,
    UNIQUE (path, size, modified_ns)
);
CREATE INDEX by_state ON files (state, id) WHERE state != 'done';
"""
_FULL = ("full", "disk I/O error")
#: The range of SQLite's integers.
_LEAST_NS, _MOST_NS = -(2**63), 2**63 - 1


class State(StrEnum):
    """What was done with a file last."""

    #: It is being classified, or was when the process ended.
    BEGUN = "begun"
    #: The verdict is in the ledger.
    CLASSIFIED = "classified"
    #: It is in the results.
    WRITTEN = "written"
    #: The command has taken it.
    TOLD = "told"
    #: The file was moved, or stays where it is.
    DONE = "done"


@dataclass(frozen=True)
class File:
    """A file by what identifies it: a changed file is another one.

    Attributes:
        path: Its path.
        size: Its size in bytes.
        modified_ns: The time of its last modification, in nanoseconds since 1970.
    """

    path: Path
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path, status: os.stat_result) -> File:
        """The file at a path, from its status."""
        # File systems keep times that the database cannot, such as those of the year 2400.
        return cls(path, status.st_size, min(max(status.st_mtime_ns, _LEAST_NS), _MOST_NS))

    @property
    def key(self) -> tuple[bytes, int, int]:
        """The columns that identify it."""
        return os.fsencode(self.path), self.size, self.modified_ns


@dataclass(frozen=True)
class Entry:
    """A row of the ledger.

    Attributes:
        number: Its number, in the order in which files were begun.
        file: The file.
        state: What was done with it last.
        failed: Whether it could not be classified.
        line: The verdict as a line of JSON.
        place: The size of the results before the line was appended; None for other kinds of results.
        target: Where the file is moved to; None where that is not settled.
    """

    number: int
    file: File
    state: State
    failed: bool
    line: str
    place: int | None
    target: Path | None


class Ledger:
    """The database at a path.

    Args:
        path: The file; it is made where it is missing.

    Raises:
        ResultsError: The file is not a ledger, or of another version.
        OSError: It cannot be written, or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._naming():
            self._database = sqlite3.connect(path, isolation_level=None, timeout=10)
            # A reader may look at it meanwhile; a commit is one write at the end of the log.
            self._database.execute("PRAGMA journal_mode = WAL")
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if not version:
                self._database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
            elif version != _VERSION:
                raise self._refuse(f"a ledger of version {version}")

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def state(self, file: File) -> State | None:
        """What was done with a file; None for a new one."""
        with self._naming():
            query = "SELECT state FROM files WHERE path = ? AND size = ? AND modified_ns = ?"
            row = self._database.execute(query, file.key).fetchone()
        return State(row[0]) if row else None

    def begin(self, file: File) -> int:
        """Record that a file is about to be read.

        Returns:
            How often it was begun before without an end: its reading ended the process, or the process was killed.
        """
        statement = (
            "INSERT INTO files (path, size, modified_ns, state, tries) VALUES (?, ?, ?, 'begun', 1) "
            "ON CONFLICT DO UPDATE SET tries = tries + 1 RETURNING tries"
        )
        # Nothing is lost with it where the power fails.
        with self._naming(), self._hurried():
            return int(self._database.execute(statement, file.key).fetchone()[0]) - 1

    def give_back(self, file: File) -> None:
        """Forget that a file was begun: it is not whole yet."""
        self._change("DELETE FROM files WHERE path = ? AND size = ? AND modified_ns = ? AND state = 'begun'", file.key)

    def record(self, file: File, line: str, failed: bool, place: int | None) -> None:
        """Record the verdict of a file that was begun; it is on the disk when this returns."""
        with self._naming():
            self._database.execute(
                "UPDATE files SET state = 'classified', line = ?, failed = ?, place = ? "
                "WHERE path = ? AND size = ? AND modified_ns = ?",
                (line, failed, place, *file.key),
            )

    def number(self, file: File) -> int:
        """The number of a file that was begun."""
        query = "SELECT id FROM files WHERE path = ? AND size = ? AND modified_ns = ?"
        with self._naming():
            return int(self._database.execute(query, file.key).fetchone()[0])

    def aim(self, entry: Entry, target: Path) -> None:
        """Record where a file is about to be moved."""
        with self._naming():
            self._database.execute("UPDATE files SET target = ? WHERE id = ?", (os.fsencode(target), entry.number))

    def advance(self, entry: Entry, state: State) -> None:
        """Record that a step is complete. If the power fails before it is on the disk, the step is found complete."""
        self._change("UPDATE files SET state = ? WHERE id = ?", (state, entry.number))

    def finish(self, entry: Entry, *, forget: bool) -> None:
        """Record that nothing is left to do with a file.

        Args:
            entry: The file.
            forget: Whether it is no longer at its path, so that another file may come there.
        """
        if forget:
            self._change("DELETE FROM files WHERE id = ?", (entry.number,))
        else:
            self._change("UPDATE files SET state = 'done', line = NULL, target = NULL WHERE id = ?", (entry.number,))

    def entries(self, state: State, most: int, after: int = 0) -> list[Entry]:
        """The first files in a state, by their numbers, of those with a larger number than ``after``."""
        query = (
            "SELECT id, path, size, modified_ns, failed, line, place, target FROM files "
            "WHERE state = ? AND state != 'done' AND id > ? ORDER BY id LIMIT ?"
        )
        with self._naming():
            rows = self._database.execute(query, (state, after, most)).fetchall()
        return [
            Entry(
                number,
                File(Path(os.fsdecode(path)), size, modified),
                state,
                bool(failed),
                line,
                place,
                Path(os.fsdecode(target)) if target is not None else None,
            )
            for number, path, size, modified, failed, line, place, target in rows
        ]

    def _change(self, statement: str, values: tuple[object, ...]) -> None:
        with self._naming(), self._hurried():
            self._database.execute(statement, values)

    @contextlib.contextmanager
    def _hurried(self) -> Iterator[None]:
        """Leave to the system when a commit gets on the disk; a killed process loses nothing by that."""
        self._database.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            self._database.execute("PRAGMA synchronous = FULL")

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Turn errors of SQLite into those of the rest of the program."""
        try:
            yield
        except sqlite3.OperationalError as error:
            number = 28 if any(word in str(error) for word in _FULL) else 5
            raise OSError(number, f"the ledger cannot be used ({error})", os.fspath(self._path)) from error
        except sqlite3.DatabaseError as error:
            raise self._refuse(f"no ledger ({error})") from error

    def _refuse(self, found: str) -> ResultsError:
        return ResultsError(
            f"{self._path} is {found}", "the ledger of an earlier `pneumo-edge watch`", "Give another --out"
        )
