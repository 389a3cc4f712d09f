"""Measures the disk space of an engine and its requirements, from the installer's records."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from pneumo_edge.benchmarks.supplement.records import Installation
from pneumo_edge.runtime.engines import EngineInfo

#: The name at the beginning of a requirement, and the marker of one that belongs to an extra.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r";.*\bextra\b")


def measure(engine: EngineInfo) -> Installation:
    """Sum the files of an engine's distribution and of all its direct and indirect requirements.

    Requirements that are not installed are skipped, because their markers are for other platforms.

    Args:
        engine: A row of the table of engines, installed.

    Raises:
        metadata.PackageNotFoundError: No distribution provides the engine's library.
    """
    brought_by = metadata.packages_distributions().get(engine.library)
    if not brought_by:
        raise metadata.PackageNotFoundError(engine.library)
    own = metadata.distribution(brought_by[0])
    needs: dict[str, int] = {}
    waiting = [*_requirements(own)]
    while waiting:
        name = waiting.pop()
        if name in needs or name == _normalised(own.metadata["Name"]):
            continue
        try:
            needed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        needs[name] = _size(needed)
        waiting += _requirements(needed)
    return Installation(engine.name, own.metadata["Name"], own.version, _size(own), dict(sorted(needs.items())))


def _requirements(distribution: metadata.Distribution) -> list[str]:
    """Names of the requirements of a distribution without any extra."""
    found = [_NAME.match(line) for line in distribution.requires or () if not _EXTRA.search(line)]
    return [_normalised(match[0]) for match in found if match]


def _normalised(name: str) -> str:
    """Normalise a name: https://packaging.python.org/specifications/name-normalization/."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _size(distribution: metadata.Distribution) -> int:
    """Size in bytes of all existing files in the installer's record."""
    files = {Path(str(distribution.locate_file(file))) for file in distribution.files or ()}
    return sum(file.stat().st_size for file in files if file.is_file())
