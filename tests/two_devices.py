"""Fits a phase on one device and on two, in a process of its own, because TensorFlow's devices are set but once.

Prints a JSON object: ``apart`` is the largest difference of a weight between one device and two with the same batches,
``moved`` the largest difference between the weights before and after; ``resumed`` says whether a phase on two devices
that was interrupted ends bit for bit as one that was not.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge.evaluation.metrics import Scores
from pneumo_edge.training import devices
from pneumo_edge.training.phases import TrainingImages, fit_phase
from pneumo_edge.training.recipes import Phase

_PHASE = Phase(epochs=4, learning_rate=0.05, warmup_epochs=1, batch_size=16, ema=0.9)
_RNG = np.random.default_rng(0)
_FEATURES = _RNG.standard_normal((120, 5)).astype(np.float32)
_LABELS = (_FEATURES @ np.arange(5) + _RNG.standard_normal(120) > 0).astype(np.int64)
_TRAIN, _VAL = np.arange(80), np.arange(80, 120)


def _model(scope: Any, dropout: float) -> Any:
    import keras

    with scope:
        keras.utils.set_random_seed(3)
        features = keras.Input((5,))
        hidden = keras.layers.Dropout(dropout)(keras.layers.Dense(8, activation="relu")(features))
        return keras.Model(features, keras.layers.Dense(2, activation="softmax")(hidden))


def _fit(strategy: Any, folder: Path, phase: Phase, dropout: float, stop_after: int | None = None) -> Any:
    model = _model(strategy.scope() if strategy else contextlib.nullcontext(), dropout)
    alone = _model(contextlib.nullcontext(), dropout)
    validated = 0

    def validate() -> Scores:
        nonlocal validated
        if validated == stop_after:
            raise KeyboardInterrupt
        validated += 1
        alone.set_weights(model.get_weights())
        scores: Scores = alone.predict(_FEATURES[_VAL], verbose=0)[:, 1].astype(np.float64)
        return scores

    images = TrainingImages(_TRAIN, _LABELS[_TRAIN], lambda chosen, _: _FEATURES[chosen])
    fit_phase("test", model, phase, images, validate, _LABELS[_VAL], folder, seed=7)
    return model.get_weights()


def _apart(first: list[npt.NDArray[np.float32]], second: list[npt.NDArray[np.float32]]) -> float:
    return max(float(np.abs(one - other).max()) for one, other in zip(first, second, strict=True))


def main(folder: Path) -> None:
    strategy = devices.strategy(2)
    before = _model(contextlib.nullcontext(), 0.0).get_weights()
    one = _fit(None, folder / "one", _PHASE, 0.0)
    two = _fit(strategy, folder / "two", _PHASE, 0.0)
    scaled = devices.scaled(_PHASE, 2)
    whole = _fit(strategy, folder / "whole", scaled, 0.5)
    with contextlib.suppress(KeyboardInterrupt):
        _fit(strategy, folder / "interrupted", scaled, 0.5, stop_after=2)
    resumed = _fit(strategy, folder / "interrupted", scaled, 0.5)
    print(json.dumps({"apart": _apart(one, two), "moved": _apart(before, one), "resumed": _apart(whole, resumed) == 0}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
