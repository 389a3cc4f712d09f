"""Which optional extra brings which library, and the error that says so."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from pneumo_edge.errors import MissingExtraError


def need(module: str, extra: str) -> ModuleType:
    """Import a library that an extra of this distribution brings.

    Args:
        module: Import name, for example ``"onnxruntime"``.
        extra: The extra that installs it, for example ``"onnx"``.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: The library is not installed or does not import.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, SystemError, AttributeError) as error:
        # tflite-runtime 2.14 raises SystemError or AttributeError when it meets numpy 2.
        state = "does not import" if is_installed(module) else "is not installed"
        reason = f" ({error})" if is_installed(module) else ""
        raise MissingExtraError(
            given=f"the Python package {module} {state}{reason}",
            expected=f"the extra '{extra}' of pneumo-edge",
            remedy=f'Run: pip install "pneumo-edge[{extra}]"',
        ) from error


def is_installed(module: str) -> bool:
    """Tell whether a module can be found, without importing it."""
    return importlib.util.find_spec(module.partition(".")[0]) is not None
