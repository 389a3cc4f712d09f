"""Images for this process and its children, in files that do not outlive it, however it ends.

Where the system lets children open what their parent has open (Linux), the files have no name: with the last process
that holds them they are gone, after a ``kill -9`` or a power failure too. Elsewhere they lie in a folder that is
locked while its process lives, and the next start removes those of dead processes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from pneumo_edge._util import files, locks

_PREFIX = "pneumo-edge-scratch-"
#: Folders of versions that left them behind, by the verb that made them.
_FORMER = {f"pneumo-edge-{verb}-": verb for verb in ("benchmark", "evaluate", "supplement")}
#: Of a folder that is not locked yet, and holds nothing.
_NEW = ".pneumo-edge-new-"
_PROC = Path("/proc")


class Scratch:
    """Keeps files for as long as it is open; :func:`scratch` makes it."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._folder: Path | None = None

    def put(self, name: str, write: Callable[[IO[bytes]], object]) -> Path:
        """Write a file.

        Args:
            name: What it is called where it has to have a name.
            write: Writes it to a binary stream.

        Returns:
            A path by which this process and its children read it. It is not to be resolved.

        Raises:
            OSError: It cannot be written, or the disk is full; the error names the temporary folder.
        """
        with files.naming(Path(tempfile.gettempdir())):
            if not _are_readable_by_number():
                path = self.folder / name
                with path.open("wb") as named:
                    write(named)
                return path
            stream = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (as a context)
            write(stream)
            stream.flush()
            return _PROC / str(os.getpid()) / "fd" / str(stream.fileno())

    @property
    def folder(self) -> Path:
        """A folder for files that hold nothing of an image, and so may outlive the process until the next start."""
        if self._folder is None:
            self._folder = self._stack.enter_context(folder())
        return self._folder


@contextlib.contextmanager
def scratch() -> Iterator[Scratch]:
    """Give a place for files that is gone when the block ends; what dead processes of this user left goes first."""
    _sweep(Path(tempfile.gettempdir()))
    with contextlib.ExitStack() as stack:
        yield Scratch(stack)


def _sweep(parent: Path) -> None:
    """Remove what processes of this user that have ended left in a folder."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        for path in parent.iterdir():
            if path.name.startswith((_PREFIX, *_FORMER)):
                _remove_if_left(path)


def _are_readable_by_number() -> bool:
    opened = _PROC / str(os.getpid()) / "fd"
    # It is another's where this process may not be looked into, not even by its children.
    return opened.is_dir() and opened.stat().st_uid == os.geteuid()


@contextlib.contextmanager
def folder(parent: Path | None = None) -> Iterator[Path]:
    """Give a new folder that is gone when the block ends, or when the next such folder is made.

    Args:
        parent: Where it is made; by default in the temporary folder.
    """
    _sweep(parent or Path(tempfile.gettempdir()))
    # It gets its name when it is locked, so that no other process takes it for a dead one's.
    made = Path(tempfile.mkdtemp(prefix=_NEW, dir=parent))
    path = made.with_name(f"{_PREFIX}{made.name.removeprefix(_NEW)}")
    descriptor = os.open(made, os.O_RDONLY) if os.name == "posix" else None
    try:
        if descriptor is not None:
            locks.take(descriptor)
        made.rename(path)
        yield path
    finally:
        for each in (made, path):
            shutil.rmtree(each, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _remove_if_left(path: Path) -> None:
    """Remove a folder of this user that no live process uses; doubtful ones stay."""
    with contextlib.suppress(OSError):
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            verbs = [verb for prefix, verb in _FORMER.items() if path.name.startswith(prefix)]
            if locks.take(descriptor) and not any(map(_may_be_running, verbs)):
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(descriptor)


def _may_be_running(verb: str) -> bool:
    """Whether another process of this user may be a former version at that verb, which locked nothing."""
    if not (_PROC / "self").exists():
        return True
    for each in _PROC.iterdir():
        with contextlib.suppress(OSError):
            if each.name.isdecimal() and int(each.name) != os.getpid() and each.stat().st_uid == os.geteuid():
                words = [Path(os.fsdecode(word)).name for word in (each / "cmdline").read_bytes().split(b"\0")]
                if verb in words and not {"pneumo-edge", "pneumo_edge"}.isdisjoint(words):
                    return True
    return False
