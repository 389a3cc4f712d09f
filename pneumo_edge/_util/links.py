"""The packages that are links in a checkout, and the error that says so where they are not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pneumo_edge.errors import InstallationError

#: In the repository ``pneumo_edge/NAME`` is a symbolic link to ``NAME``, which Git for Windows writes as a text file.
LINKED = ("benchmarks", "converters")


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Name the remedy where a linked package cannot be imported.

    Raises:
        InstallationError: One of :data:`LINKED` is not there.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        for name in LINKED:
            if error.name and error.name.startswith(f"pneumo_edge.{name}"):
                raise InstallationError(
                    f"pneumo_edge/{name} is not a package in this checkout",
                    f"a symbolic link to the folder {name}",
                    "Allow symbolic links (on Windows: developer mode), run `git config core.symlinks true` and "
                    "`git checkout -- pneumo_edge`, or install a wheel",
                ) from error
        raise
