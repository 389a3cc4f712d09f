"""Which kind of processor this is, as far as engines choose their integer kernels by it."""

from __future__ import annotations

import contextlib
import importlib
import platform
from collections.abc import Collection
from pathlib import Path

_ARCHITECTURES = {"x86_64": "x86-64", "amd64": "x86-64", "aarch64": "arm64"}
#: For each architecture the instruction sets that make a kind, best first: numpy's name and ours.
_KINDS = {
    "x86-64": (
        ("AVX512VNNI", "AVX512-VNNI"),
        ("AVX_VNNI", "AVX-VNNI"),
        ("AVX512F", "AVX512"),
        ("AVX2", "AVX2"),
        ("SSE41", "SSE4.1"),
    ),
    "arm64": (("ASIMDDP", "dot product"),),
}
_CPUINFO = Path("/proc/cpuinfo")


def kind() -> str:
    """This processor's kind, for example ``"x86-64 with AVX512-VNNI"``."""
    machine = platform.machine().lower()
    return name(_ARCHITECTURES.get(machine, machine), _features())


def name(architecture: str, features: Collection[str]) -> str:
    """The kind of a processor of an architecture that has these features, by numpy's names."""
    for feature, called in _KINDS.get(architecture, ()):
        if feature in features:
            return f"{architecture} with {called}"
    return architecture


def adds_in_16_bits() -> bool:
    """Whether products of uint8 and int8 are added in 16 bits here, as on x86-64 without VNNI."""
    here = kind()
    return here.startswith("x86-64") and not here.endswith("VNNI")


def _features() -> set[str]:
    """What the processor has; an emulated one too, which /proc/cpuinfo does not show."""
    features: dict[str, bool] = {}
    for module in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):
        with contextlib.suppress(ImportError, AttributeError):
            features = importlib.import_module(module).__cpu_features__
            break
    found = {feature for feature, has in features.items() if has}
    # Numpy does not look for this one.
    with contextlib.suppress(OSError):
        if "AVX2" in found and "avx_vnni" in _CPUINFO.read_text(errors="replace").split():
            found.add("AVX_VNNI")
    return found
