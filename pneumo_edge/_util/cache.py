"""The cache of downloads and decoded data sets: its place, and its limit."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from pneumo_edge.errors import DataError, printable

#: Overrides the place of the cache, and how many bytes it may hold.
CACHE_VARIABLE, LIMIT_VARIABLE = "PNEUMO_EDGE_CACHE", "PNEUMO_EDGE_CACHE_LIMIT"
#: A dozen data sets of 6,000 images each.
DEFAULT_LIMIT = 4 * 10**9
#: What is kept of a data set by its key, and of its features; downloads have other names, and stay.
_DECODED, _FEATURES = re.compile(r"[0-9a-f]{16}\.(npy|json)"), "features"
#: What a killed process left of writing or downloading one, and how old it is when it is taken for that.
_LEFT, _LEFT_SECONDS = re.compile(r"\.[0-9a-f]{8}-[0-9a-f]{16}\.(npy|json)|tmp\w{8}"), 24 * 3600


def cache_folder() -> Path:
    """``$PNEUMO_EDGE_CACHE``, or ``pneumo-edge`` in the user's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``).

    Raises:
        DataError: There is no such variable, and the user's home is unknown or is no folder: it is not made here.
    """
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "pneumo-edge"
    return _home() / ".cache" / "pneumo-edge"


def _home() -> Path:
    if os.environ.get("HOME") == "":  # of which Python makes the root folder
        raise _no_home("HOME is empty")
    try:
        home = Path.home()
    except RuntimeError as error:
        raise _no_home("no HOME, and no entry in passwd") from error
    if not home.is_dir():
        raise _no_home(f"{printable(home)} is missing or not a folder")
    return home


def _no_home(reason: str) -> DataError:
    return DataError(
        f"this user has no home folder for the cache ({reason})",
        f"a folder for the cache in the environment variable {CACHE_VARIABLE}",
        f"Set {CACHE_VARIABLE} to a folder that can be written",
    )


def limit() -> int:
    """How many bytes the cache may hold: ``$PNEUMO_EDGE_CACHE_LIMIT``, or :data:`DEFAULT_LIMIT`.

    Raises:
        DataError: The variable is not a number of bytes.
    """
    given = os.environ.get(LIMIT_VARIABLE, "")
    if given and not re.fullmatch(r"[0-9]{1,18}", given):
        raise DataError(f"{LIMIT_VARIABLE} is {given!r}", "a number of bytes such as 4000000000", "Correct or unset it")
    return int(given) if given else DEFAULT_LIMIT


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn write errors of the cache into an error that names its folder and the variable that moves it.

    Raises:
        DataError: It cannot be written, or its disk is full.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the cache {folder} cannot be written ({error.strerror or error})",
            "a writable folder with free space",
            f"Set the environment variable {CACHE_VARIABLE} to such a folder",
        ) from error


def use(paths: Iterable[Path]) -> None:
    """Note that files of the cache were used: what was not for the longest time goes first."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.utime(path)


def keep_within_limit(folder: Path, needed: Iterable[Path] = ()) -> None:
    """Remove what was not used for the longest time until the cache is within its limit, and say where it is.

    Downloads stay, and do not count: nobody wants to fetch them twice.

    Args:
        folder: The cache.
        needed: Files that stay however large they are.

    Raises:
        DataError: The limit in the environment is none.
    """
    most, kept = limit(), set(needed)
    _remove_what_was_left(folder)
    entries = sorted(_entries(folder), key=lambda entry: entry[0])
    size = sum(of_entry for _, of_entry, _ in entries)
    for _, of_entry, files in entries:
        if size > most and kept.isdisjoint(files):
            for path in files:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            size -= of_entry
    print(
        f"Cache of images: {folder}, {size / 1e6:,.0f} of {most / 1e6:,.0f} MB ({CACHE_VARIABLE}, {LIMIT_VARIABLE})",
        file=sys.stderr,
        flush=True,
    )


def _entries(folder: Path) -> Iterator[tuple[float, int, list[Path]]]:
    """What can be made again: when it was last used, its bytes, and its files."""
    by_key: dict[str, list[Path]] = {}
    for path in folder.glob("*"):
        if _DECODED.fullmatch(path.name):
            by_key.setdefault(path.stem, []).append(path)
    for files in [*by_key.values(), *([path] for path in (folder / _FEATURES).glob("*"))]:
        # A folder's own times change with every look into it.
        inside = [each for path in files for each in ((path.is_dir() and list(path.glob("*"))) or [path])]
        with contextlib.suppress(FileNotFoundError):
            found = [each.stat() for each in inside]
            yield max(max(each.st_atime, each.st_mtime) for each in found), sum(each.st_size for each in found), files


def _remove_what_was_left(folder: Path) -> None:
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):
            if _LEFT.fullmatch(path.name) and time.time() - path.stat().st_mtime > _LEFT_SECONDS:
                path.unlink()
