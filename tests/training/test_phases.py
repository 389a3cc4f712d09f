from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumo_edge.evaluation.metrics import Scores
from pneumo_edge.training.phases import Epoch, TrainingImages, class_weights, fit_phase
from pneumo_edge.training.recipes import Phase

pytestmark = pytest.mark.slow

_PHASE = Phase(epochs=6, learning_rate=0.05, warmup_epochs=1, weight_decay=0.01, batch_size=16, patience=10)
_RNG = np.random.default_rng(0)
_FEATURES = _RNG.standard_normal((120, 5)).astype(np.float32)
_LABELS = (_FEATURES @ np.arange(5) + _RNG.standard_normal(120) > 0).astype(np.int64)
_TRAIN, _VAL = np.arange(80), np.arange(80, 120)


def _model() -> Any:
    keras = pytest.importorskip("keras", reason="the extra 'train' is not installed")
    keras.utils.set_random_seed(3)
    features = keras.Input((5,))
    hidden = keras.layers.Dense(8, activation="relu")(features)
    return keras.Model(features, keras.layers.Dense(2, activation="softmax")(hidden))


def _fit(model: Any, folder: Path, phase: Phase = _PHASE, stop_after: int | None = None) -> tuple[Epoch, ...]:
    validated = 0

    def validate() -> Scores:
        nonlocal validated
        if validated == stop_after:
            raise KeyboardInterrupt
        validated += 1
        scores: Scores = model.predict(_FEATURES[_VAL], verbose=0)[:, 1].astype(np.float64)
        return scores

    images = TrainingImages(_TRAIN, _LABELS[_TRAIN], lambda chosen: _FEATURES[chosen])
    return fit_phase("test", model, phase, images, validate, _LABELS[_VAL], folder, seed=7)


def _without_time(rows: tuple[Epoch, ...]) -> list[Epoch]:
    return [replace(row, seconds=0.0) for row in rows]


@pytest.mark.parametrize("stop_after", [0, 1, 4])
def test_an_interrupted_phase_ends_as_if_it_had_not_been(stop_after: int, tmp_path: Path) -> None:
    whole = _model()
    expected = _fit(whole, tmp_path / "whole")

    with pytest.raises(KeyboardInterrupt):
        _fit(_model(), tmp_path / "halves", stop_after=stop_after)
    resumed = _model()
    rows = _fit(resumed, tmp_path / "halves")

    assert [row.epoch for row in rows] == list(range(_PHASE.epochs))
    for row, wanted in zip(_without_time(rows), _without_time(expected), strict=True):
        assert row.val_loss == pytest.approx(wanted.val_loss, abs=1e-4)
        assert row.loss == pytest.approx(wanted.loss, abs=1e-4)
    for weights, wanted_weights in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(weights, wanted_weights, atol=1e-3)


def test_a_finished_phase_is_not_fitted_again(tmp_path: Path) -> None:
    model = _model()
    rows = _fit(model, tmp_path)
    assert _fit(model, tmp_path, stop_after=0) == rows


def test_early_stopping_leaves_the_best_epoch(tmp_path: Path) -> None:
    diverging = replace(_PHASE, epochs=12, learning_rate=3.0, patience=2)
    model = _model()
    rows = _fit(model, tmp_path, diverging)
    best = min(rows, key=lambda row: row.val_loss)
    assert len(rows) <= best.epoch + 1 + diverging.patience + 1
    scores = model.predict(_FEATURES[_VAL], verbose=0)[:, 1]
    picked = np.where(_LABELS[_VAL] == 1, scores, 1 - scores).clip(1e-7)
    assert -np.log(picked).mean() == pytest.approx(best.val_loss, rel=1e-3)


def test_only_the_last_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    _fit(_model(), tmp_path)
    assert len(list(tmp_path.glob("*.weights.h5"))) <= 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_class_weights_balance_the_classes() -> None:
    weights = class_weights(np.array([0, 1, 1, 1]))
    assert weights[0] * 1 == pytest.approx(weights[1] * 3)
    assert (weights[0] + 3 * weights[1]) / 4 == pytest.approx(1)
