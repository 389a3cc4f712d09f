from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumo_edge.errors import TrainingError
from pneumo_edge.evaluation.metrics import Scores
from pneumo_edge.training.phases import Epoch, TrainingImages, class_weights, epoch_order, fit_phase
from pneumo_edge.training.recipes import Phase

pytestmark = pytest.mark.slow

_PHASE = Phase(epochs=6, learning_rate=0.05, warmup_epochs=1, batch_size=16, patience=10)
_AVERAGED = replace(_PHASE, patience=None, ema=0.9, balanced=True)
_RNG = np.random.default_rng(0)
_FEATURES = _RNG.standard_normal((120, 5)).astype(np.float32)
_LABELS = (_FEATURES @ np.arange(5) + _RNG.standard_normal(120) > 0).astype(np.int64)
_TRAIN, _VAL = np.arange(80), np.arange(80, 120)


def _model(dropout: float = 0.0) -> Any:
    keras = pytest.importorskip("keras", reason="the extra 'train' is not installed")
    keras.utils.set_random_seed(3)
    features = keras.Input((5,))
    hidden = keras.layers.Dropout(dropout)(keras.layers.Dense(8, activation="relu")(features))
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

    images = TrainingImages(_TRAIN, _LABELS[_TRAIN], lambda chosen, _: _FEATURES[chosen])
    return fit_phase("test", model, phase, images, validate, _LABELS[_VAL], folder, seed=7)


def _val_loss(model: Any) -> float:
    scores = model.predict(_FEATURES[_VAL], verbose=0)[:, 1]
    picked = np.where(_LABELS[_VAL] == 1, scores, 1 - scores).clip(1e-7)
    return float(-np.log(picked).mean())


def _without_time(rows: tuple[Epoch, ...]) -> list[Epoch]:
    return [replace(row, seconds=0.0) for row in rows]


@pytest.mark.parametrize("phase", [_PHASE, _AVERAGED], ids=["best epoch", "moving average"])
@pytest.mark.parametrize("stop_after", [0, 1, 4])
def test_an_interrupted_phase_ends_as_if_it_had_not_been(phase: Phase, stop_after: int, tmp_path: Path) -> None:
    whole = _model(dropout=0.3)
    expected = _fit(whole, tmp_path / "whole", phase)

    with pytest.raises(KeyboardInterrupt):
        _fit(_model(dropout=0.3), tmp_path / "halves", phase, stop_after=stop_after)
    resumed = _model(dropout=0.3)
    rows = _fit(resumed, tmp_path / "halves", phase)

    assert [row.epoch for row in rows] == list(range(_PHASE.epochs))
    assert _without_time(rows) == _without_time(expected)
    for weights, wanted_weights in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, wanted_weights)


def test_a_checkpoint_without_generators_is_resumed_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    h5py = pytest.importorskip("h5py")
    with pytest.raises(KeyboardInterrupt):
        _fit(_model(dropout=0.3), tmp_path, stop_after=2)
    (latest,) = tmp_path.glob("latest-*.weights.h5")
    with h5py.File(latest, "a") as stored:
        del stored["pneumo_edge_seed_generators"]
    rows = _fit(_model(dropout=0.3), tmp_path)
    assert len(rows) == _PHASE.epochs
    assert "without the state of dropout" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["state.json", "latest-001.weights.h5"])
def test_a_damaged_checkpoint_is_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _fit(_model(), tmp_path, stop_after=2)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:60])
    with pytest.raises(TrainingError, match=r"the checkpoint .* cannot be read"):
        _fit(_model(), tmp_path)


def test_a_finished_phase_is_not_fitted_again(tmp_path: Path) -> None:
    model = _model()
    rows = _fit(model, tmp_path)
    assert _fit(model, tmp_path, stop_after=0) == rows


def test_early_stopping_leaves_the_best_epoch(tmp_path: Path) -> None:
    diverging = replace(_PHASE, epochs=12, learning_rate=3.0, patience=2)
    model = _model()
    rows = _fit(model, tmp_path, diverging)
    best = min(rows, key=lambda row: row.val_loss)
    assert len(rows) <= best.epoch + 1 + 2 + 1
    assert _val_loss(model) == pytest.approx(best.val_loss, rel=1e-3)


def test_without_patience_the_last_epoch_is_kept(tmp_path: Path) -> None:
    model = _model()
    rows = _fit(model, tmp_path, replace(_PHASE, epochs=8, learning_rate=3.0, patience=None))
    assert len(rows) == 8
    assert rows[-1].val_loss > min(row.val_loss for row in rows), "the last epoch is also the best, which shows nothing"
    assert _val_loss(model) == pytest.approx(rows[-1].val_loss, rel=1e-3)


def test_the_moving_average_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    model = _model()
    rows = _fit(model, tmp_path / "slow", replace(_AVERAGED, ema=0.999))
    start = _val_loss(_model())
    plain = _fit(_model(), tmp_path / "plain", replace(_AVERAGED, ema=None))
    assert _val_loss(model) == pytest.approx(rows[-1].val_loss, rel=1e-3)
    # An average over a thousand steps has hardly left the start after thirty; the weights themselves have.
    assert abs(rows[-1].val_loss - start) < 0.2 * abs(plain[-1].val_loss - start)
    # What is fitted is not touched by the average of what was.
    assert rows[-1].loss == pytest.approx(plain[-1].loss, abs=1e-3)


def test_only_the_last_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    _fit(_model(), tmp_path)
    assert len(list(tmp_path.glob("*.weights.h5"))) <= 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_class_weights_balance_the_classes() -> None:
    weights = class_weights(np.array([0, 1, 1, 1]))
    assert weights[0] * 1 == pytest.approx(weights[1] * 3)
    assert (weights[0] + 3 * weights[1]) / 4 == pytest.approx(1)


def test_a_balanced_epoch_draws_the_commoner_class_anew() -> None:
    labels = np.array([0] * 5 + [1] * 20)
    first, second = (epoch_order(labels, True, seed=1, epoch=epoch) for epoch in (0, 1))
    for order in (first, second):
        assert sorted(labels[order]) == [0] * 5 + [1] * 5
        assert len(set(order)) == 10
    assert set(first) != set(second)
    np.testing.assert_array_equal(first, epoch_order(labels, True, seed=1, epoch=0))
    assert sorted(epoch_order(labels, False, seed=1, epoch=0)) == list(range(25))
