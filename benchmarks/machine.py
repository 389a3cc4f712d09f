"""Describes the machine and the versions of the libraries."""

from __future__ import annotations

import platform
from importlib.metadata import version

from pneumo_edge._util import cores, extras
from pneumo_edge.benchmarks.results import Machine

_LIBRARIES = ("pneumo-edge", "numpy", "pillow")


def describe() -> Machine:
    """Describe this machine; takes about a second.

    Raises:
        MissingExtraError: psutil or py-cpuinfo is not installed.
    """
    cpuinfo, psutil = extras.need("cpuinfo", "bench"), extras.need("psutil", "bench")
    told = cpuinfo.get_cpu_info()
    return Machine(
        cpu=told.get("brand_raw") or platform.processor() or "unknown",
        architecture=platform.machine(),
        cores=cores.available(),
        memory_bytes=psutil.virtual_memory().total,
        system=platform.platform(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        flags=tuple(sorted(told.get("flags", ()))),
        quota=cores.quota(),
    )


def library_versions() -> dict[str, str]:
    """Versions of the libraries that every unit uses, by distribution name."""
    return {name: version(name) for name in _LIBRARIES}
