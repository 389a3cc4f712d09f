"""Chest X-ray classification on edge devices: train, convert, prove, run, measure.

Research software; not a medical device.
"""

from pneumo_edge.errors import PneumoEdgeError
from pneumo_edge.runtime.classifier import Classifier, Prediction
from pneumo_edge.spec import ModelSpec

__version__ = "0.1.0"
__all__ = ["Classifier", "ModelSpec", "PneumoEdgeError", "Prediction", "__version__"]
