"""Types of the arguments that the functions share, and checks that run before any long work."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pneumo_edge import bundled
from pneumo_edge.data.datasource import DataSource
from pneumo_edge.errors import ArgumentError

#: A path, as text or as an object that has one (``pathlib.Path``, a run, an exported file).
PathArgument = str | os.PathLike[str]
#: A data set: its path, or a data source, which also says how it is read.
DataArgument = PathArgument | DataSource
#: Model files, folders with model files, or names of bundled models; one or several.
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
    """Return one path or several as a list."""
    return [Path(each) for each in _several(given)]


def model_paths(models: Models) -> list[Path]:
    """Return the files and folders, with names of bundled models replaced by their paths.

    Raises:
        ModelFileError: A path is empty.
    """
    return [bundled.find(model) for model in _several(models)]


def check_name(parameter: str, name: str, allowed: Iterable[str]) -> None:
    """Check that a name is one of those allowed.

    Raises:
        ArgumentError: The name is not allowed.
    """
    names = list(allowed)
    if name not in names:
        raise ArgumentError(f"{parameter} is {name!r}", f"one of {', '.join(names)}", "Give one of those names")


def whole(parameter: str, number: object, least: int, most: int | None = None) -> int:
    """Return a whole number within bounds as ``int``; numpy integers are accepted.

    Raises:
        ArgumentError: The value is not a whole number, or is out of bounds.
    """
    try:
        found = None if isinstance(number, bool) else operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        found = None
    if found is None or found < least or (most is not None and found > most):
        bounds = f"from {least} to {most}" if most is not None else f"of {least} or more"
        raise ArgumentError(f"{parameter} is {number!r}", f"a whole number {bounds}", "Give such a number")
    return found


def check_number(parameter: str, number: object, least: float, most: float) -> None:
    """Check that a value is a number from ``least`` to ``most``.

    Raises:
        ArgumentError: The value is not a number, or is out of bounds.
    """
    # Written so that NaN fails it.
    if not isinstance(number, int | float) or not least <= number <= most:
        raise ArgumentError(f"{parameter} is {number!r}", f"a number from {least:g} to {most:g}", "Give such a number")


def _several(given: PathArgument | Sequence[PathArgument]) -> list[PathArgument]:
    if isinstance(given, str | os.PathLike):
        return [given]
    found = list(given) if isinstance(given, Iterable) else [given]
    if not found:
        raise ArgumentError("the list of paths is empty", "at least one path", "Give a file or a folder")
    for each in found:
        if not isinstance(each, str | os.PathLike):
            raise ArgumentError(f"{each!r} is not a path", "a path, or a list of paths", "Give a file or a folder")
    return found
