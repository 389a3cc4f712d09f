"""The table of engines: those of this package, and those that other packages add by an entry point.

A package adds an engine by an entry point of the group :data:`GROUP`. Its name is the engine's name, and its object is
an :class:`EngineInfo`:

.. code-block:: toml

    [project.entry-points."pneumo_edge.engines"]
    my-engine = "my_package.engine:ENGINE"
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pneumo_edge._util import extras
from pneumo_edge.spec import CONTAINERS, suffix_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from pathlib import Path

#: The group of entry points by which other packages add engines.
GROUP = "pneumo_edge.engines"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_PACKAGE = "pneumo_edge.runtime.engines"


@dataclass(frozen=True)
class EngineInfo:
    """A row of the table of engines.

    Attributes:
        name: Its name, for ``--engine`` and in results.
        module: The module with its functions ``load`` and ``load_any``, which is imported when the engine is used. A
            name that begins with a dot is of this package.
        library: The top-level module of the library that it needs, by which it is known to be installed.
        suffixes: The endings of the model files that it runs, of ``".tflite"`` and ``".onnx"``.
        extra: The extra of pneumo-edge that installs the library; "" for an engine of another package.
        newest_python: The last Python that its library has wheels for; None where there is no such limit.
        further: Whether it is used only where it is named, or where no other engine for the file is installed. No
            format has to pass its acceptance checks on it.
        package: The distribution that adds it by an entry point; "" for an engine of pneumo-edge.
        problem: Why it cannot be used, in words; "" for one that can.
    """

    name: str
    module: str
    library: str
    suffixes: tuple[str, ...]
    extra: str = ""
    newest_python: tuple[int, int] | None = None
    further: bool = False
    package: str = ""
    problem: str = ""

    @property
    def is_installed(self) -> bool:
        """Whether its library can be found; it is not imported."""
        return not self.problem and extras.is_installed(self.library)

    @property
    def requirement(self) -> str:
        """What pip installs for it."""
        return self.package or f'"pneumo-edge[{self.extra}]"'

    @property
    def version(self) -> str:
        """The version of the distribution that brings it, "unknown" where the installer has no record of it."""
        from importlib import metadata

        try:
            return metadata.version(self.package or self.library)
        except metadata.PackageNotFoundError:
            return "unknown"

    @property
    def full_module(self) -> str:
        """The full name of its module."""
        return importlib.util.resolve_name(self.module, _PACKAGE)

    def runs(self, path: Path) -> bool:
        """Whether it runs this kind of file, by the ending of its name."""
        return suffix_of(path) in self.suffixes


class EngineTable(Mapping[str, EngineInfo]):
    """Engines by name, in order of preference: those of this package, then those that other packages add.

    The entry points are read only when a name is not of this package or when all engines are listed: that takes longer
    than to classify an image.

    Args:
        own: The rows of this package.
    """

    def __init__(self, own: Iterable[EngineInfo]) -> None:
        self.own: Mapping[str, EngineInfo] = {row.name: row for row in own}

    def __getitem__(self, name: str) -> EngineInfo:
        return self.own[name] if name in self.own else self._added[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from self._added

    def __len__(self) -> int:
        return len(self.own) + len(self._added)

    @functools.cached_property
    def _added(self) -> Mapping[str, EngineInfo]:
        from importlib.metadata import entry_points

        found: dict[str, EngineInfo] = {}
        for point in entry_points(group=GROUP):
            package = point.dist.name if point.dist else point.module
            row = _read(point, package)
            if point.name in self.own or point.name in found:
                # The first one stays.
                row = _broken(f"{point.name} of {package}", package, "another engine has this name")
            found[row.name] = row
        return found


def _read(point: EntryPoint, package: str) -> EngineInfo:
    try:
        row = point.load()
    except (Exception, SystemExit) as error:  # the code of another package may raise anything
        return _broken(point.name, package, f"{point.value} does not import ({type(error).__name__}: {error})")
    if not isinstance(row, EngineInfo):
        reason = f"{point.value} is of type {type(row).__name__}, not an EngineInfo of {_PACKAGE}"
        return _broken(point.name, package, reason)
    if reason := _fault(point.name, row):
        return _broken(point.name, package, f"{point.value} {reason}")
    return replace(row, package=package, further=True, extra="", problem="")


def _broken(name: str, package: str, reason: str) -> EngineInfo:
    """The row of an engine that cannot be used; it is listed for every kind of file."""
    return EngineInfo(name, "", "", tuple(CONTAINERS), package=package, further=True, problem=reason)


def _fault(name: str, row: EngineInfo) -> str:
    """What is wrong with a row of another package; "" for nothing."""
    texts: dict[str, Any] = {"name": row.name, "module": row.module, "library": row.library}
    for field, value in texts.items():
        if not isinstance(value, str) or not value:
            return f"has the {field} {value!r}, not a text"
    if row.name != name or not _NAME.fullmatch(name):
        return f"has the name {row.name!r}, not the entry point's, of small letters, digits, dots and dashes"
    if row.module.startswith("."):
        return f"has the module {row.module!r}, not a full name"
    if not isinstance(row.suffixes, tuple) or not row.suffixes or not set(row.suffixes) <= set(CONTAINERS):
        return f"has the suffixes {row.suffixes!r}, not a tuple of {', '.join(CONTAINERS)}"
    return ""
