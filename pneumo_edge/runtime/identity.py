"""Identifies the model file and the engine behind a prediction, for those who store predictions."""

from __future__ import annotations

from dataclasses import dataclass

from pneumo_edge._util import files
from pneumo_edge.runtime.classifier import Classifier


@dataclass(frozen=True)
class PredictorIdentity:
    """The predictor: a model file, by its SHA-256, on an engine."""

    model: str
    sha256: str
    engine: str
    version: str
    class_names: tuple[str, ...]
    #: None if the most probable class is the answer.
    positive_class: str | None
    #: Whether predictions have remarks: the file says when an answer is uncertain, or an image is out-of-distribution.
    remarks: bool
    #: Whether out-of-distribution images are refused.
    strict: bool

    @classmethod
    def of(cls, classifier: Classifier, strict: bool = False) -> PredictorIdentity:
        """Return the identity of a classifier."""
        spec, engine = classifier.spec, classifier.engine
        sha256 = files.sha256(classifier.path)
        positive, remarks = spec.decision.positive_class, bool(spec.conformal or spec.input_check)
        return cls(spec.name, sha256, engine.name, engine.version, spec.class_names, positive, remarks, strict)
