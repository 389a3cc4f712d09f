"""The trained Keras model: its reference probabilities, and its SavedModel. Runs in the child process."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge import extras

_BATCH = 64


@functools.lru_cache(maxsize=1)
def load(model: Path) -> Any:
    """Load a ``.keras`` file; the last one is kept."""
    return extras.need("keras", "convert").saving.load_model(model, compile=False)


@functools.lru_cache(maxsize=1)
def saved_model(model: Path) -> tempfile.TemporaryDirectory[str]:
    """Export a ``.keras`` file as a SavedModel with a batch of 1, for TensorFlow's own converters.

    Returns:
        The folder of the last one that was asked for; it is removed when the process ends.
    """
    keras = extras.need("keras", "convert")
    loaded = load(model)
    folder = tempfile.TemporaryDirectory()
    # A batch fixed to 1 keeps EfficientNetB0's squeeze-and-excite shapes static, so that one delegate
    # partition takes the whole graph. A SavedModel, because converting the concrete function of a Keras 3
    # model leaves its variables unfrozen, and the file then gives NaN.
    signature = keras.InputSpec(shape=(1, *loaded.input_shape[1:]), dtype="float32", name="image")
    loaded.export(folder.name, format="tf_saved_model", input_signature=[signature], verbose=False)
    return folder


def probabilities(model: Path, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What the Keras model says, which every converted file is held against.

    Args:
        model: A ``.keras`` file.
        pixels: uint8 of shape (images, height, width, 3), values 0 to 255.

    Returns:
        float32 of shape (images, classes).
    """
    keras_model = load(model)
    batches = (pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH))
    return np.concatenate([keras_model.predict_on_batch(batch.astype(np.float32)) for batch in batches])
