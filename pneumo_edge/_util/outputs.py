"""Checks output paths before any work is done."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from pneumo_edge.errors import ArgumentError, printable


def check_file(out: Path, inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse a file to write that is a folder or one of the inputs, also under another name or link.

    Args:
        out: The file.
        inputs: Files that are read.

    Raises:
        ArgumentError: It is one of those.
    """
    if out.is_dir():
        raise ArgumentError(f"{out} is a folder, not a file to write", "the path of a file", "Give another path")
    # Where there is no such file it is none of the inputs, however many they are.
    if found := identities([out]):
        known = identities(inputs)
        for same in found.keys() & known.keys():
            raise ArgumentError(
                f"{out} is one of the inputs, {printable(known[same])}", "another file", "Give another path"
            )


def check_folder(out: Path) -> None:
    """Refuse a folder to write into that is a file.

    Raises:
        ArgumentError: It is one.
    """
    # A link that leads nowhere is in the way, too.
    if os.path.lexists(out) and not out.is_dir():
        raise ArgumentError(
            f"{out} is a file, not a folder to write into", "a folder, or a new path", "Give another path"
        )


def absent(folder: Path) -> list[Path]:
    """The folder and those above it that do not exist, the deepest first."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, the deepest first, up to one that is not empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def identities(paths: Iterable[str | os.PathLike[str]]) -> dict[tuple[int, int], str | os.PathLike[str]]:
    """Return the existing files by an identity that is the same for all names, links and hard links of a file."""
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.stat(path)  # noqa: PTH116 (it may be a text)
            found[status.st_dev, status.st_ino] = path
    return found
