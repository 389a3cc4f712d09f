"""Which optional extra brings which library, and the error that says so."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from pneumo_edge.errors import MissingExtraError


def need(module: str, extra: str, library: str | None = None) -> ModuleType:
    """Import a library that an extra of this distribution brings.

    Args:
        module: What to import, for example ``"onnxruntime"``.
        extra: The extra that installs it, for example ``"onnx"``.
        library: The library to blame where the module is one of this distribution that imports it; by
            default the module itself.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: The library is not installed or does not import.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:  # tflite-runtime 2.14, for one, raises SystemError when it meets numpy 2
        name = library or module
        state = f"does not import ({error})" if is_installed(name) else "is not installed"
        raise _missing(name, state, extra) from error


def check(module: str, extra: str) -> None:
    """Make sure that a library can be found, without the time that importing it takes.

    Args:
        module: As for :func:`need`.
        extra: As for :func:`need`.

    Raises:
        MissingExtraError: The library is not installed.
    """
    if not is_installed(module):
        raise _missing(module, "is not installed", extra)


def is_installed(module: str) -> bool:
    """Tell whether a module can be found, without importing it."""
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def _missing(name: str, state: str, extra: str) -> MissingExtraError:
    return MissingExtraError(
        given=f"the Python package {name} {state}",
        expected=f"the extra '{extra}' of pneumo-edge",
        remedy=f'Run: pip install "pneumo-edge[{extra}]"',
    )
