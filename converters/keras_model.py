"""The trained Keras model: its reference probabilities, and its frozen graph. Runs in the child process."""

from __future__ import annotations

import functools
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
