"""Events of the system about new files, by watchdog."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)

_KINDS = [DirCreatedEvent, DirMovedEvent, FileClosedEvent, FileCreatedEvent, FileMovedEvent]


def observe(root: Path, tell: Callable[[Path, bool], None]) -> Any:
    """Tell of each file that is made, closed after writing, or moved into a folder.

    Args:
        root: The folder; the folders in it are watched, too.
        tell: Called in a thread of its own, with the path, and whether the program that wrote the file is done with it.

    Returns:
        The observer, which is running.

    Raises:
        OSError: The system has no more watches.
    """

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            moved = event.event_type == "moved"
            path = event.dest_path if moved else event.src_path
            if path:
                tell(Path(os.fsdecode(path)), moved or event.event_type == "closed")

    observer = _observer()
    observer.schedule(Handler(), os.fspath(root), recursive=True, event_filter=_KINDS)
    observer.start()
    return observer


def _observer() -> Any:
    if sys.platform == "linux":
        from watchdog.observers.inotify import InotifyObserver

        # Also tells that a file was moved here from elsewhere, which is whole; by default that is a new file.
        return InotifyObserver(generate_full_events=True)
    from watchdog.observers import Observer

    return Observer()
