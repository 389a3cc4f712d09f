"""Writes files and folders that are either complete or absent."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pneumo_edge._util import processes

#: How a temporary name begins, before the process that has it; and what is in its place where the system tells none.
_TEMPORARY, _UNKNOWN = ".partial-", "0-0-0"
_LEFT = re.compile(rf"{re.escape(_TEMPORARY)}([0-9a-f]+-\d+-\d+)-[0-9a-f]{{8}}-.+", re.DOTALL)
#: The most bytes of a name.
_LONGEST = 255
#: The age at which that of a process elsewhere is taken for one that was left.
_OLD_SECONDS = 24 * 3600

#: What libraries say of a full disk whose exceptions do not.
_FULL = re.compile(r"errno = 28\b|No space left on device")


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its place when the block ends without an error.

    The block makes the file. Its temporary name ends with the final one, because several libraries choose the
    format by the ending. Those that killed processes left in the folder go first.

    Raises:
        OSError: The folder cannot be written, or the disk is full; the error names ``path``, which is as it was.
    """
    temporary = _temporary(path)
    with naming(path, temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    owner = processes.name(os.getpid()) or _UNKNOWN
    begin = f"{_TEMPORARY}{owner}-{secrets.token_hex(4)}-"
    # The end of a name that is as long as names can be.
    return path.with_name(begin + os.fsdecode(os.fsencode(path.name)[len(begin) - _LONGEST :]))


@functools.cache
def _sweep(folder: Path) -> None:
    """Remove what killed processes left, once for each folder: it may hold thousands of files."""
    with contextlib.suppress(OSError):
        left = [(path, found[1]) for path in folder.iterdir() if (found := _LEFT.fullmatch(path.name))]
        for path, owner in left:
            if time.time() - path.lstat().st_mtime > _OLD_SECONDS or processes.is_dead(owner):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Have what goes wrong with writing a file, a full disk above all, name its path.

    Args:
        path: What the user is told.
        temporary: What it is written under, which is not told.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # of numpy, which counts what it could not write, or of HDF5
            raise OSError(errno.EIO, f"not all of it could be written ({error})", os.fspath(path)) from error
        if error.filename is None or (temporary and os.fspath(error.filename) == os.fspath(temporary)):
            error.filename = os.fspath(path)
        raise
    except Exception as error:  # of HDF5 and Arrow
        if _FULL.search(str(error)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path)) from error
        raise


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a new folder beside ``target`` that takes its place when the block ends without an error.

    A link to a folder stays, and the folder is replaced.

    Raises:
        OSError: The folder cannot be written, or cannot be replaced: the current folder, one above it, or one where a
            file system is mounted. ``target`` is then as it was.
    """
    with naming(target):
        place = target.resolve()
        if place in (Path.cwd(), *Path.cwd().parents):
            raise OSError(errno.EBUSY, "the current folder cannot be replaced")
        temporary, old = _temporary(place), _temporary(place)
    with naming(target, temporary):
        temporary.mkdir(parents=True)
        _sweep(place.parent)
        try:
            yield temporary
            if place.exists():
                place.rename(old)
            try:
                temporary.rename(place)
            except OSError:
                if old.exists():
                    old.rename(place)
                raise
        finally:
            for left in (temporary, old):
                shutil.rmtree(left, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text so that a reader sees the old file or the new one, never a part.

    A byte of a file name that is not UTF-8 is written as its escape.
    """
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def flush(path: Path) -> None:
    """Have a file's content on the disk, so that no crash of the machine leaves it empty under its final name.

    Raises:
        OSError: The disk is full or fails.
    """
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
