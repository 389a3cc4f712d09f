"""Chest X-ray classification on edge devices: train, export, run, evaluate, benchmark.

The functions and classes below are imported when they are first used: importing this package imports no library, and
:class:`Classifier` takes numpy, Pillow and an engine. What is where:

=============  ========================================================================================
``api``        the functions behind :func:`train`, :func:`train_study`, :func:`export`, :func:`adopt`,
               :func:`evaluate`, :func:`benchmark`, :func:`score`
``task``       what a network classifies: class names, which of them is positive
``backbones``  the table of networks
``scaling``    what is done to pixels before the first layer
``keras_file`` Keras models that were trained elsewhere
``saved_model`` SavedModels, as Keras models
``formats``    the table of kinds of model files
``spec``       :class:`ModelSpec`, which every model file carries
``imaging``    from the bytes of an image file to pixels; DICOM; heatmaps
``runtime``    :class:`Classifier`: one image, many images, one file per engine
``data``       data sets, their audit, splits by patient
``training``   recipes, and the loop that runs them
``runs``       the record of a training run
``studies``    the table of a study: several networks with several seeds
``converters`` how a run becomes model files, and how these are verified
``evaluation`` metrics, intervals, comparisons, prediction sets
``scoring``    model files scored on a split; model cards
``benchmarks`` measures model files, and decides which claims hold
``scale``      archives of images scored in shards, on processes or a cluster
``kit``        what a port to another language needs, and the check of such a port
``bundled``    the trained models in this package
``service``    the HTTP service
``web``        the site that classifies in the browser
``cli``        the command line, one file per verb
``errors``     every error that a user can act on, and the exit codes
=============  ========================================================================================

Research software; not a medical device.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Before they are imported: onnxruntime and Ray send data about their use to their makers unless they are told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

if TYPE_CHECKING:
    from pneumo_edge.api.adopt import adopt
    from pneumo_edge.api.benchmark import benchmark
    from pneumo_edge.api.evaluate import evaluate
    from pneumo_edge.api.export import export
    from pneumo_edge.api.score import score
    from pneumo_edge.api.study import train_study
    from pneumo_edge.api.train import train
    from pneumo_edge.data.datasource import DataSource
    from pneumo_edge.errors import PneumoEdgeError
    from pneumo_edge.runtime.classifier import Classifier, Prediction
    from pneumo_edge.spec import ModelSpec

__version__ = "0.1.0"
__all__ = [
    "Classifier", "DataSource", "ModelSpec", "PneumoEdgeError", "Prediction", "__version__",
    "adopt", "benchmark", "evaluate", "export", "score", "train", "train_study",
]  # fmt: skip

_MODULES = {
    "Classifier": "pneumo_edge.runtime.classifier",
    "DataSource": "pneumo_edge.data.datasource",
    "ModelSpec": "pneumo_edge.spec",
    "PneumoEdgeError": "pneumo_edge.errors",
    "Prediction": "pneumo_edge.runtime.classifier",
    "train_study": "pneumo_edge.api.study",
    **{name: f"pneumo_edge.api.{name}" for name in ("adopt", "benchmark", "evaluate", "export", "score", "train")},
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for, so that the command line's help does not wait for numpy."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pneumo_edge._util import links

    with links.explained():
        globals()[name] = value = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
