"""The contestants of the speed comparison: ``python contestants.py NAME MODEL`` classifies paths from standard input.

Each contestant imports only its own libraries, so the program also runs in an environment without pneumo-edge. For
each line, a path, it prints a line of JSON with ``ns`` (wall time from path to probability) and ``probability`` (of
the second class). Before, it prints an empty line when it is ready.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

Predict = Callable[[str], float]


def pneumo_edge(model: str) -> Predict:
    """This project's classifier."""
    from pneumo_edge import Classifier

    classifier = Classifier(model)
    positive = str(classifier.spec.decision.positive_class)
    return lambda path: classifier.predict(path).probabilities[positive]


def full(model: str) -> Predict:
    """A minimal script with Pillow and the bare interpreter: every pixel of the file is decoded."""
    return _script(model, None)


def equal(model: str) -> Predict:
    """The same script with the reduced decoding of the classifier."""
    from pathlib import Path

    from pneumo_edge.runtime.classifier import read_spec

    return _script(model, read_spec(Path(model)).smallest_decoded)


def _script(model: str, smallest: int | None) -> Predict:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image

    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]["index"]
    _, height, width, _ = given["shape"]

    def predict(path: str) -> float:
        image = Image.open(path)
        if smallest and min(image.size) >= 2 * smallest:
            image.draft("L", (smallest, smallest))
        grey = np.asarray(image.convert("L").resize((width, height), Image.Resampling.BILINEAR))
        interpreter.set_tensor(given["index"], np.stack([grey] * 3, axis=-1)[None].astype(given["dtype"], copy=False))
        interpreter.invoke()
        return float(interpreter.get_tensor(answer)[0, 1])

    return predict


def mediapipe(model: str) -> Predict:
    """MediaPipe Tasks' ImageClassifier, which does not accept grey images."""
    import mediapipe as mp
    import numpy as np
    from mediapipe.tasks.python import BaseOptions
    from mediapipe.tasks.python.vision import ImageClassifier, ImageClassifierOptions
    from PIL import Image

    options = ImageClassifierOptions(base_options=BaseOptions(model_asset_path=model))
    classifier = ImageClassifier.create_from_options(options)

    def predict(path: str) -> float:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        image = mp.Image(image_format=mp.ImageFormat.SRGB, data=pixels)
        categories = classifier.classify(image).classifications[0].categories
        return float({category.index: category.score for category in categories}[1])

    return predict


def keras(model: str) -> Predict:
    """The trained Keras model, used as in the Keras guides."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras as library

    network = library.models.load_model(model)
    _, height, width, _ = network.input_shape

    def predict(path: str) -> float:
        image = library.utils.load_img(path, target_size=(height, width), interpolation="bilinear")
        pixels = library.utils.img_to_array(image)[None]
        return float(network.predict(pixels, verbose=0)[0, 1])

    return predict


CONTESTANTS: dict[str, Callable[[str], Predict]] = {
    row.__name__: row for row in (pneumo_edge, full, equal, mediapipe, keras)
}


def main(name: str, model: str) -> None:
    """Classify the paths on standard input."""
    if hasattr(os, "sched_setaffinity"):
        # One core for all, because not every library has an option for the number of threads.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    predict = CONTESTANTS[name](model)
    print(flush=True)
    for line in sys.stdin:
        path = line.rstrip("\n")
        started = time.perf_counter_ns()
        probability = predict(path)
        print(json.dumps({"ns": time.perf_counter_ns() - started, "probability": probability}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
