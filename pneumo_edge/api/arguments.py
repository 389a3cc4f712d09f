"""Arguments that the functions share: their types, and the checks before minutes of work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pneumo_edge import bundled
from pneumo_edge.errors import ArgumentError

#: A path, as text or as an object that has one (``pathlib.Path``, a run, an exported file).
PathArgument = str | os.PathLike[str]
#: Model files, folders that are searched for them, or names of bundled models; one or several.
Models = PathArgument | Sequence[PathArgument]
#: The splits that model files may be scored on.
SCORED_SPLITS = ("val", "test")
#: Called with each note, warning, or file that was skipped: one line without its newline.
Tell = Callable[[str], None]


def print_line(line: str) -> None:
    """Print a line on standard error, where there is one."""
    if sys.stderr:
        print(line, file=sys.stderr, flush=True)


def paths(given: PathArgument | Sequence[PathArgument]) -> list[Path]:
    """One path or several as a list."""
    return [Path(each) for each in _several(given)]


def model_paths(models: Models) -> list[Path]:
    """The files and folders that are meant, those of bundled models included.

    Raises:
        ModelFileError: A path is empty.
    """
    return [bundled.find(model) for model in _several(models)]


def check_name(parameter: str, name: str, allowed: Iterable[str]) -> None:
    """Refuse a name that is not one of those that there are.

    Raises:
        ArgumentError: It is not.
    """
    names = list(allowed)
    if name not in names:
        raise ArgumentError(f"{parameter} is {name!r}", f"one of {', '.join(names)}", "Give one of those names")


def check_least(parameter: str, number: float, least: int) -> None:
    """Refuse a number that is too small.

    Raises:
        ArgumentError: It is.
    """
    if number < least:
        raise ArgumentError(f"{parameter} is {number}", f"{least} or more", "Give a larger number")


def _several(given: PathArgument | Sequence[PathArgument]) -> list[PathArgument]:
    if isinstance(given, str | os.PathLike):
        return [given]
    if not given:
        raise ArgumentError("the list of paths is empty", "at least one path", "Name a file or a folder")
    return list(given)
