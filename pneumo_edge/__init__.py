"""Chest X-ray classification on edge devices: train, convert, prove, run, measure.

Research software; not a medical device.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pneumo_edge.errors import PneumoEdgeError
    from pneumo_edge.runtime.classifier import Classifier, Prediction
    from pneumo_edge.spec import ModelSpec

__version__ = "0.1.0"
__all__ = ["Classifier", "ModelSpec", "PneumoEdgeError", "Prediction", "__version__"]

_MODULES = {
    "Classifier": "pneumo_edge.runtime.classifier",
    "ModelSpec": "pneumo_edge.spec",
    "PneumoEdgeError": "pneumo_edge.errors",
    "Prediction": "pneumo_edge.runtime.classifier",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for, so that the command line's help does not wait for numpy."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_MODULES[name]), name)
    return value
