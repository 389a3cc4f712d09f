"""Finds the files of a folder, and waits until each is whole; the oldest comes first.

Events of the system tell of new files at once. The folder is also listed at the start, when events were lost, and now
and then. Only the oldest of the files that wait are kept in memory, so that memory does not grow with their number.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from pneumo_edge.imaging import folders

#: Of the files that wait, at most twice as many are in memory; for the others, the folder is listed again.
MOST_WAITING = 2_000
#: Entries that are listed between two looks at the events.
_AT_ONCE = 200
#: Endings of the names under which other programs write files that are not whole.
PARTIAL = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".download", ".lock", ".swp")
_AGE = attrgetter("age")


@dataclass
class Waiting:
    """A file that waits.

    Attributes:
        path: Its path.
        age: The time of its last modification, in nanoseconds since 1970; then its path, so that no two are alike.
        closed: Whether an event told that a program closed it, or moved it here.
        ready_at: When it is looked at, by the monotonic clock in seconds.
        tries: How often it was looked at in vain.
        found: Size and times when it was looked at last.
        since: Since when these are so, by the monotonic clock in seconds.
    """

    path: Path
    age: tuple[int, bytes]
    closed: bool = False
    ready_at: float = 0.0
    tries: int = 0
    found: tuple[int, int, int] | None = None
    since: float = 0.0

    def unchanged(self, status: os.stat_result) -> float:
        """Seconds since the file was first found to be as it is now: the times of a file are of any clock."""
        found = status.st_size, status.st_mtime_ns, status.st_ctime_ns
        if found != self.found:
            self.found, self.since = found, time.monotonic()
        return time.monotonic() - self.since


class Inbox:
    """The files of a folder and of the folders in it that wait to be classified.

    Args:
        root: The folder. Links to other folders are not followed.
        leave_out: Folders and files that are not looked at.
        poll: List the folder this often, in seconds, and use no events; None to use events.
        is_known: Whether nothing is left to do with a file.
        tell: Called with each line for a person.

    Raises:
        OSError: The folder cannot be read.
    """

    def __init__(
        self,
        root: Path,
        leave_out: frozenset[Path],
        poll: float | None,
        is_known: Callable[[Path, os.stat_result], bool],
        tell: Callable[[str], None],
    ) -> None:
        self._root, self._leave_out, self._poll, self._is_known = root, leave_out, poll, is_known
        self._identity = _identity(root)
        self._tell_person = tell
        self._unreadable: set[Path] = set()
        self._waiting: dict[Path, Waiting] = {}
        self._events: SimpleQueue[tuple[Path, bool]] = SimpleQueue()
        self._listing: Iterator[Path] | None = self._list()
        #: Whether older files may be among those that are not in memory.
        self._incomplete = True
        #: Whether there may be files that are not in memory.
        self._missed = False
        self._listed_at = time.monotonic()
        self._observer: Any = None

    @property
    def number(self) -> int:
        """Files that wait in memory."""
        return len(self._waiting)

    def start(self) -> str:
        """Begin to listen to events.

        Returns:
            Why there are no events; "" where there are.
        """
        if self._poll is not None:
            return ""
        from pneumo_edge.service.watch.events import observe

        try:
            self._observer = observe(self._root, self._tell)
        except OSError as error:
            self._poll = 1.0
            return error.strerror or str(error)
        return ""

    def stop(self) -> None:
        """Stop listening."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()

    def next(self, seconds: float, every: float) -> Waiting | None:
        """The oldest file that may be whole.

        Args:
            seconds: How long to wait for one.
            every: How often the folder is listed beside the events, in seconds.

        Returns:
            The file, which no longer waits; None after the time.

        Raises:
            OSError: The folder cannot be read, or another one is in its place, of which there are no events.
        """
        if _identity(self._root) != self._identity:
            raise OSError(errno.ESTALE, "another folder is in its place", os.fspath(self._root))
        until = time.monotonic() + seconds
        while True:
            self._take_events()
            now = time.monotonic()
            if self._listing is None and now - self._listed_at >= self._pause(every):
                self._listing, self._incomplete, self._missed = self._list(), self._missed, False
            if self._listing is not None:
                self._list_on()
                if self._listing is not None and self._incomplete:
                    continue
            ready = [each for each in self._waiting.values() if each.ready_at <= now]
            if ready:
                chosen = min(ready, key=_AGE)
                return self._waiting.pop(chosen.path)
            if now >= until:
                return None
            if self._listing is None:
                moments = [until, self._listed_at + self._pause(every)]
                self._wait(min([*moments, *(each.ready_at for each in self._waiting.values())]) - now)

    def retry(self, waiting: Waiting, seconds: float) -> None:
        """Look at a file again later."""
        waiting.tries += 1
        waiting.ready_at = time.monotonic() + seconds
        self._waiting.setdefault(waiting.path, waiting)

    def _pause(self, every: float) -> float:
        if self._missed and len(self._waiting) < MOST_WAITING // 2:
            return 0.0
        return every if self._poll is None else self._poll

    def _tell(self, path: Path, closed: bool) -> None:
        self._events.put((path, closed))

    def _wait(self, seconds: float) -> None:
        with contextlib.suppress(Empty):
            self._add(*self._events.get(timeout=max(0.0, seconds)))

    def _take_events(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                self._add(*self._events.get_nowait())

    def _add(self, path: Path, closed: bool) -> None:
        """Let a file wait of which an event told."""
        inside = path.relative_to(self._root).parts
        if (
            _is_whole(path.name)
            and not any(map(folders.is_hidden, inside))
            and self._leave_out.isdisjoint((path, *path.parents))
        ):
            self._add_wanted(path, closed)

    def _add_wanted(self, path: Path, closed: bool) -> None:
        known = self._waiting.get(path)
        if known:
            known.closed |= closed
            known.ready_at = 0.0
            return
        try:
            status = path.lstat()
        except OSError:  # it has gone
            return
        if stat.S_ISDIR(status.st_mode):
            # What came into it before it was watched had no events.
            self._listing = self._list()
        elif stat.S_ISREG(status.st_mode) and not self._is_known(path, status):
            self._waiting[path] = Waiting(path, (status.st_mtime_ns, os.fsencode(path)), closed)
            if len(self._waiting) >= 2 * MOST_WAITING:
                oldest = heapq.nsmallest(MOST_WAITING, self._waiting.values(), key=_AGE)
                self._waiting = {each.path: each for each in oldest}
                self._missed = True

    def _list_on(self) -> None:
        assert self._listing is not None
        for _ in range(_AT_ONCE):
            path = next(self._listing, None)
            if path is None:
                self._listing, self._listed_at = None, time.monotonic()
                return
            self._add_wanted(path, False)

    def _list(self) -> Iterator[Path]:
        pending = [self._root]
        while pending:
            folder = pending.pop()
            try:
                listing = os.scandir(folder)
            except FileNotFoundError:
                if folder == self._root:
                    raise
                continue
            except OSError as error:
                if folder == self._root:
                    raise
                if folder not in self._unreadable:
                    self._unreadable.add(folder)
                    self._tell_person(f"error: {folder} cannot be read ({error.strerror}); what is in it waits")
                continue
            self._unreadable.discard(folder)
            with listing:
                for entry in listing:
                    path = folder / entry.name
                    if entry.is_dir(follow_symlinks=False):
                        if not folders.is_hidden(entry.name) and path not in self._leave_out:
                            pending.append(path)
                    elif (
                        path not in self._waiting
                        and path not in self._leave_out
                        and _is_whole(entry.name)
                        and not folders.is_hidden(entry.name)
                    ):
                        yield path


def _is_whole(name: str) -> bool:
    """Whether a name is not one that programs give a file which they still write."""
    return not name.lower().endswith(("~", *PARTIAL))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
