"""What may be written where: checks of output paths, made before the work and not after it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from pneumo_edge.errors import ArgumentError, printable


def check_file(out: Path, inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse a file to write that is a folder or one of the inputs, whatever it is called and linked.

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
                f"{out} is one of the inputs, {printable(known[same])}", "a file of its own", "Give another path"
            )


def check_folder(out: Path) -> None:
    """Refuse a folder to write into that is a file.

    Raises:
        ArgumentError: It is one.
    """
    # A link that leads nowhere is in the way, too.
    if os.path.lexists(out) and not out.is_dir():
        raise ArgumentError(
            f"{out} is a file, not a folder to write into", "a folder, or a path where nothing is", "Give another path"
        )


def identities(paths: Iterable[str | os.PathLike[str]]) -> dict[tuple[int, int], str | os.PathLike[str]]:
    """Files by what tells them apart whatever they are called, links and hard links included; those that are there."""
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):
            status = os.stat(path)  # noqa: PTH116 (it may be a text)
            found[status.st_dev, status.st_ino] = path
    return found
