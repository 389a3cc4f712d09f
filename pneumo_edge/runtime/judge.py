"""What gave a verdict, as whoever keeps verdicts needs to know it."""

from __future__ import annotations

from dataclasses import dataclass

from pneumo_edge import files
from pneumo_edge.runtime.classifier import Classifier


@dataclass(frozen=True)
class Judge:
    """What gave the verdicts: a model file, by its SHA-256, on an engine."""

    model: str
    sha256: str
    engine: str
    version: str
    class_names: tuple[str, ...]
    positive_class: str

    @classmethod
    def of(cls, classifier: Classifier) -> Judge:
        """The judge that a classifier is."""
        spec, engine = classifier.spec, classifier.engine
        sha256 = files.sha256(classifier.path)
        return cls(spec.name, sha256, engine.name, engine.version, spec.class_names, spec.decision.positive_class)
