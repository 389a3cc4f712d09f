"""Measures how well a model file classifies the test split on an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pneumo_edge.benchmarks.results import AccuracySamples
from pneumo_edge.evaluation import metrics
from pneumo_edge.imaging.images import Pixels
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.scoring.classification import classify


@dataclass(frozen=True)
class Accuracy:
    """AUC and confusion matrix with 95 % intervals; decisions use the ModelSpec's threshold."""

    auc: metrics.Interval
    confusion: metrics.Confusion | metrics.ConfusionMatrix


def measure(classifier: Classifier, grey: Pixels, done: Callable[[], None]) -> AccuracySamples:
    """Classify every test image once, and record the engine and its delegate.

    Args:
        classifier: The model file on its engine.
        grey: uint8 array of shape (images, height, width), values 0 to 255, at the model's input size.
        done: Called after each image.

    Raises:
        ModelFileError: The model returned a value that is not a probability.
    """
    classified = classify(classifier, grey, done)
    engine, delegation = classifier.engine, classifier.engine.delegation
    return AccuracySamples(
        engine.version,
        delegation.to,
        delegation.partitions,
        classified.probabilities,
        classified.inference_ms,
        # Without a delegate there is nothing to count, and onnxruntime would have to profile the file.
        operators=sum(engine.read_graph().operators.values()) if delegation.partitions else None,
        delegated=sum(delegation.operators.values()) if delegation.partitions else None,
        class_probabilities=classified.class_probabilities,
    )


def summarise(labels: metrics.Labels, scores: metrics.Scores, threshold: float | None) -> Accuracy:
    """Compare probabilities with labels.

    Args:
        labels: 0 or 1, shape (images,), at least two of each; or the place of the class.
        scores: Probability of class 1, shape (images,), or of every class, shape (images, classes).
        threshold: As of :func:`pneumo_edge.evaluation.metrics.decide`.
    """
    return Accuracy(metrics.auc_interval(labels, scores), metrics.tabulate(labels, scores, threshold))
