"""ModelSpec: what a device must know to use a model file, written inside that file.

The records are in :mod:`~pneumo_edge.spec.model_spec`, how they are read in :mod:`~pneumo_edge.spec.reading`. Each kind
of model file is a module, :mod:`~pneumo_edge.spec.tflite` and :mod:`~pneumo_edge.spec.onnx`, and a row of the table in
:mod:`~pneumo_edge.spec.containers`. Files are written by :mod:`pneumo_edge.converters.metadata`.
"""

from __future__ import annotations

from pneumo_edge.spec.container_type import SPEC_NAME, Container
from pneumo_edge.spec.containers import CONTAINERS, MODEL_SUFFIXES, SUFFIXES_IN_WORDS, suffix_of
from pneumo_edge.spec.metadata import read_metadata
from pneumo_edge.spec.model_spec import (
    COMPONENTS,
    HEATMAP,
    MAX_OUTPUT_VALUES,
    MAX_SIDE,
    MAX_TEMPERATURE,
    OWN_MODEL,
    PROBABILITY,
    RANDOM_WEIGHTS,
    SCHEMA_VERSION,
    CalibrationSpec,
    ConformalSpec,
    DataSpec,
    DecisionSpec,
    DecodingSpec,
    HistogramSpec,
    InputCheckSpec,
    InputSpec,
    MixedPrecisionSpec,
    ModelSpec,
    OutputSpec,
    ScalingSpec,
    Scores,
    TrainingSpec,
    ValidationDistributionSpec,
    VerificationSpec,
    data_use,
    is_trained_elsewhere,
)
from pneumo_edge.spec.onnx import ONNX
from pneumo_edge.spec.reading import MAX_BYTES, model_sha256, no_spec, parse, read
from pneumo_edge.spec.tflite import TFLITE

__all__ = [
    "COMPONENTS",
    "CONTAINERS",
    "HEATMAP",
    "MAX_BYTES",
    "MAX_OUTPUT_VALUES",
    "MAX_SIDE",
    "MAX_TEMPERATURE",
    "MODEL_SUFFIXES",
    "ONNX",
    "OWN_MODEL",
    "PROBABILITY",
    "RANDOM_WEIGHTS",
    "SCHEMA_VERSION",
    "SPEC_NAME",
    "SUFFIXES_IN_WORDS",
    "TFLITE",
    "CalibrationSpec",
    "ConformalSpec",
    "Container",
    "DataSpec",
    "DecisionSpec",
    "DecodingSpec",
    "HistogramSpec",
    "InputCheckSpec",
    "InputSpec",
    "MixedPrecisionSpec",
    "ModelSpec",
    "OutputSpec",
    "ScalingSpec",
    "Scores",
    "TrainingSpec",
    "ValidationDistributionSpec",
    "VerificationSpec",
    "data_use",
    "is_trained_elsewhere",
    "model_sha256",
    "no_spec",
    "parse",
    "read",
    "read_metadata",
    "suffix_of",
]
