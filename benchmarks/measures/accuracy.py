"""Measures how well a model file classifies the test split on an engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

from pneumo_edge.benchmarks.results import AccuracySamples
from pneumo_edge.evaluation import metrics
from pneumo_edge.imaging.images import Pixels
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.runtime.engines import AnyModel, Engine, tensors
from pneumo_edge.runtime.engines.tensors import Given
from pneumo_edge.scoring.classification import classify

#: Inferences of a file without a ModelSpec before it is timed.
ANY_CALLS = 8


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
        ModelFileError: The model gives no probabilities for an image.
    """
    classified = classify(classifier, grey, done)
    return replace(
        _samples(classifier.engine, classified.probabilities, classified.inference_ms),
        class_probabilities=classified.class_probabilities,
    )


def measure_any(model: AnyModel, given: Given, done: Callable[[], None]) -> AccuracySamples:
    """Run a model file without a ModelSpec, and record what ran it; nothing is known of its accuracy.

    Args:
        model: The model file on its engine.
        given: Values that inputs need.
        done: Called after each inference.

    Raises:
        ModelFileError: An input is without a shape, or the engine cannot run the file.
    """
    feeds = tensors.draw(model.inputs, model.shapes, given, 0)
    milliseconds = []
    for _ in range(ANY_CALLS):
        started = time.perf_counter()
        model.call(feeds)
        milliseconds.append(1e3 * (time.perf_counter() - started))
        done()
    return _samples(model, (), median(milliseconds))


def _samples(engine: Engine | AnyModel, probabilities: tuple[float, ...], inference_ms: float) -> AccuracySamples:
    delegation = engine.delegation
    return AccuracySamples(
        engine.version,
        delegation.to,
        delegation.partitions,
        probabilities,
        inference_ms,
        # Without a delegate there is nothing to count, and onnxruntime would have to profile the file.
        operators=sum(engine.read_graph().operators.values()) if delegation.partitions else None,
        delegated=sum(delegation.operators.values()) if delegation.partitions else None,
    )


def summarise(labels: metrics.Labels, scores: metrics.Scores, threshold: float | None) -> Accuracy:
    """Compare probabilities with labels.

    Args:
        labels: 0 or 1, shape (images,), at least two of each; or the place of the class.
        scores: Probability of class 1, shape (images,), or of every class, shape (images, classes).
        threshold: As of :func:`pneumo_edge.evaluation.metrics.decide`.
    """
    return Accuracy(metrics.auc_interval(labels, scores), metrics.tabulate(labels, scores, threshold))
