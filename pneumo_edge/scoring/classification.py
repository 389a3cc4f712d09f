"""Classifies every image of a set with a model file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pneumo_edge.errors import ModelFileError, NoAnswerError
from pneumo_edge.imaging.images import Pixels
from pneumo_edge.runtime.classifier import Classifier


@dataclass(frozen=True)
class Classified:
    """The probabilities for a set of images, in order.

    Attributes:
        probabilities: Probability of the positive class, 0 to 1, for each image; empty if there is no positive class.
        inference_ms: Median wall time of inference in milliseconds, while other processes may run.
        class_probabilities: Probability of every class in order, for each image; None if there is a positive class.
        out_of_distribution: Whether each image is; None if the file has no input check.
    """

    probabilities: tuple[float, ...]
    inference_ms: float
    class_probabilities: tuple[tuple[float, ...], ...] | None = None
    out_of_distribution: tuple[bool, ...] | None = None


def classify(classifier: Classifier, grey: Pixels, done: Callable[[], None], names: Sequence[str] = ()) -> Classified:
    """Classify every image once.

    Args:
        classifier: The model file on its engine.
        grey: uint8 array of shape (images, height, width), values 0 to 255, at the model's input size.
        done: Called after each image.
        names: Of the images, for the error; by default their numbers.

    Raises:
        ModelFileError: The model gives no probabilities for an image, and without it the images are not the same for
            all models.
    """
    positive = classifier.spec.decision.positive_class
    probabilities, of_classes, inference_ms, unlike = [], [], [], []
    for place, image in enumerate(grey):
        try:
            prediction = classifier.predict(Image.fromarray(image))
        except NoAnswerError as error:
            name = names[place] if names else f"image {place + 1} of {len(grey)}"
            raise ModelFileError(
                f"for {name} {error.given}", f"{error.expected}, for every image", error.remedy
            ) from error
        if positive is None:
            of_classes.append(tuple(prediction.probabilities.values()))
        else:
            probabilities.append(prediction.probabilities[positive])
        inference_ms.append(prediction.timings.inference)
        if prediction.out_of_distribution is not None:
            unlike.append(prediction.out_of_distribution)
        done()
    by_class = tuple(of_classes) if positive is None else None
    return Classified(tuple(probabilities), float(np.median(inference_ms)), by_class, tuple(unlike) or None)
