"""The report's runs on phantom images: what is trained, what the network sees, what is left behind."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner
from typer.testing import Result as CommandResult

from pneumo_edge.cli import app
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.errors import TrainingError
from pneumo_edge.training import reproduction
from pneumo_edge.training.initial_weights import RANDOM, InitialWeights
from pneumo_edge.training.network import batch_norm_layers
from pneumo_edge.training.report_recipes import REPRODUCTIONS, GeneratorArguments, Plateau, ReportPhase, Reproduction
from pneumo_edge.training.reproduction import ReportEpoch, Result, draw, reproduce, set_trainable

_TRAIN_PER_CLASS, _TEST_PER_CLASS, _WHOLE_BATCHES = 24, 36, 64
_WEIGHTS = RANDOM
_REPORT = REPRODUCTIONS["report-train-model"]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("reproduction") / "data", 3, _TRAIN_PER_CLASS, _TEST_PER_CLASS)


@pytest.fixture(scope="module")
def dataset(phantom: Path) -> Dataset:
    return prepare(open_source(phantom), phantom.parent / "cache", 224, 224)


# Which images


@given(
    labels=st.lists(st.sampled_from((0, 1, 1, 1)), min_size=2, max_size=300).filter(lambda found: len(set(found)) == 2),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_a_draw_keeps_the_share_of_each_class(labels: list[int], share: float, seed: int) -> None:
    labels_array = np.array(labels)
    count = 2 + round(share * (len(labels) - 2))
    try:
        drawn = draw(labels_array, count, seed)
    except ValueError as error:
        pytest.fail(f"{count} of {len(labels)}: {error}")
    assert len(set(drawn.tolist())) == len(drawn) == count
    positives = int(labels_array[drawn].sum())
    assert 1 <= positives <= count - 1
    assert abs(positives - count * labels_array.mean()) <= 1
    np.testing.assert_array_equal(drawn, draw(labels_array, count, seed))


def test_another_seed_draws_others() -> None:
    labels = np.arange(1000) % 4 // 3
    assert set(draw(labels, 100, 0)) != set(draw(labels, 100, 1))


# What is trained


def _base(keras: Any) -> Any:
    return keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3), alpha=0.35)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last_layers", "train_batch_norm"),
    [(None, True), (None, False), (100, True), (100, False), (0, True), (500, True)],
)
def test_fit_moves_the_averages_of_trained_batch_norm_and_of_no_other(
    keras: Any, last_layers: int | None, train_batch_norm: bool
) -> None:
    base = _base(keras)
    set_trainable(base, 3, True)  # whatever it was before
    set_trainable(base, last_layers, train_batch_norm)
    image = keras.Input((32, 32, 3))
    model = keras.Model(image, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(base(image))))
    model.compile("sgd", loss="mse", jit_compile=False)
    before = {layer.name: [np.array(value) for value in layer.get_weights()] for layer in base.layers}
    rng = np.random.default_rng(0)
    model.fit(rng.normal(3, 2, (8, 32, 32, 3)), rng.normal(0, 9, (8, 1)), batch_size=4, verbose=0)

    first_unfrozen = 0 if last_layers is None else max(0, len(base.layers) - last_layers)
    for number, layer in enumerate(base.layers):
        is_batch_norm = isinstance(layer, keras.layers.BatchNormalization)
        trained = number >= first_unfrozen and (train_batch_norm or not is_batch_norm)
        assert layer.trainable == trained or not layer.weights, layer.name
        if layer.weights and (is_batch_norm or not trained):
            changed = [
                not np.array_equal(old, new) for old, new in zip(before[layer.name], layer.get_weights(), strict=True)
            ]
            assert any(changed) == trained, layer.name
    assert len(batch_norm_layers(base)) == 52


@pytest.mark.slow
def test_the_run_that_froze_unfrozen_batch_norm_trains_none_at_all(keras: Any) -> None:
    row = REPRODUCTIONS["report-train-model2"]
    base = keras.applications.EfficientNetB0(include_top=False, weights=None)
    set_trainable(base, row.phases[0].last_layers, row.train_batch_norm)
    assert not any(layer.trainable for layer in batch_norm_layers(base))
    assert any(layer.trainable and layer.weights for layer in base.layers[-150:])
    assert not any(layer.trainable for layer in base.layers[:-150])


# A run, with a small network in the place of the backbone


@dataclass
class _Built:
    network: reproduction.Network
    seen: Any

    @property
    def range(self) -> tuple[float, float]:
        lowest, highest = self.seen.get_weights()
        return float(lowest), float(highest)


@pytest.fixture
def built(keras: Any, monkeypatch: pytest.MonkeyPatch) -> list[_Built]:
    """Every network that is built: small ones, which remember the lowest and the highest pixel."""

    class Seen(keras.layers.Layer):  # type: ignore[misc]
        def build(self, _: Any) -> None:
            self.lowest = self.add_weight(shape=(), initializer=keras.initializers.Constant(1e9), trainable=False)
            self.highest = self.add_weight(shape=(), initializer=keras.initializers.Constant(-1e9), trainable=False)

        def call(self, pixels: Any) -> Any:
            self.lowest.assign(keras.ops.minimum(self.lowest, keras.ops.min(pixels)))
            self.highest.assign(keras.ops.maximum(self.highest, keras.ops.max(pixels)))
            return pixels

    networks: list[_Built] = []

    def build(recipe: Reproduction, weights: InitialWeights, pixels: npt.NDArray[np.uint8]) -> reproduction.Network:
        image = keras.Input((224, 224, 3))
        small = keras.layers.Conv2D(4, 16, strides=16)(keras.layers.AveragePooling2D(2)(image))
        base = keras.Model(image, keras.layers.ReLU()(keras.layers.BatchNormalization()(small)))
        pixels_in, seen = keras.Input((224, 224, 3)), Seen()
        logit = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(base(seen(pixels_in))))
        probability = keras.layers.Activation("sigmoid")(logit)
        network = reproduction.Network(base, keras.Model(pixels_in, probability), keras.Model(pixels_in, logit))
        networks.append(_Built(network, seen))
        return network

    monkeypatch.setattr(reproduction, "build", build)
    return networks


def _run(
    recipe: Reproduction, dataset: Dataset, folder: Path, **options: Any
) -> tuple[Result, tuple[ReportEpoch, ...]]:
    result = reproduce(recipe, _WEIGHTS, dataset, folder, 0, **options)
    return result, reproduction.read_history(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("report-train-model", 0, 1),
        ("report-train-model-batch-norm", 0, 1),
        ("report-train-model-scaling", 0, 255),
        ("report-mobilenet", 0, 1),
        ("report-mobilenet-both", -1, 1),
    ],
)
def test_the_network_sees_the_pixels_as_scaled(
    name: str, lowest: float, highest: float, dataset: Dataset, tmp_path: Path, built: list[_Built]
) -> None:
    plain = replace(REPRODUCTIONS[name], augmentation=GeneratorArguments())
    _run(plain, dataset, tmp_path, epochs=1)
    pixels = dataset.grey[:]
    span = (highest - lowest) / 255
    assert built[0].range == pytest.approx((pixels.min() * span + lowest, pixels.max() * span + lowest), abs=1e-4)


@pytest.mark.slow
def test_the_record_and_the_history_tell_what_was_done(
    keras: Any, dataset: Dataset, tmp_path: Path, built: list[_Built]
) -> None:
    # So high a rate that a loss taken from probabilities would end at 16 nats. With batch norm frozen nothing
    # changes the network after the last epoch.
    frozen = REPRODUCTIONS["report-train-model-batch-norm"]
    phase = replace(frozen.phases[0], learning_rate=50.0)
    result, rows = _run(replace(frozen, phases=(phase,)), dataset, tmp_path, epochs=2)
    assert {path.name for path in tmp_path.iterdir()} == {"history.csv", "reproduction.json", "settings.json"}
    # The report's training images are all of train, its validation the first whole batches of test, in order.
    assert result.train_images == {"NORMAL": _TRAIN_PER_CLASS, "PNEUMONIA": _TRAIN_PER_CLASS}
    assert result.validation_images == {"NORMAL": _TEST_PER_CLASS, "PNEUMONIA": _WHOLE_BATCHES - _TEST_PER_CLASS}
    assert result.test_images == 2 * _TEST_PER_CLASS
    assert result.epochs == len(rows) == 2
    assert [row.epoch for row in rows] == [0, 1]

    model, indices = built[0].network.model, dataset.indices("test")[:_WHOLE_BATCHES]
    pixels, labels = dataset.rgb(indices) / np.float32(255), dataset.labels(indices)
    loss, accuracy = model.evaluate(pixels, labels, verbose=0)
    assert loss > 16
    assert (rows[-1].val_loss, rows[-1].val_accuracy) == pytest.approx((loss, accuracy), rel=1e-4)
    assert rows[-1].called_pneumonia == pytest.approx(np.mean(model.predict(pixels, verbose=0) > 0.5))
    from sklearn.metrics import roc_auc_score

    logits = built[0].network.logits.predict(pixels, verbose=0)[:, 0]
    assert rows[-1].val_auc == pytest.approx(roc_auc_score(labels, logits))
    assert json.loads((tmp_path / "reproduction.json").read_text())["recipe"]["name"] == frozen.name


@pytest.mark.slow
def test_the_two_modes_differ_only_where_batch_norm_is_trained(
    dataset: Dataset, tmp_path: Path, built: list[_Built]
) -> None:
    trained, _ = _run(_REPORT, dataset, tmp_path / "trained", epochs=1)
    frozen, _ = _run(REPRODUCTIONS["report-train-model-batch-norm"], dataset, tmp_path / "frozen", epochs=1)
    assert trained.modes.images == 2 * _TRAIN_PER_CLASS
    assert trained.modes.training != trained.modes.inference
    assert frozen.modes.training == frozen.modes.inference
    assert trained.reestimated is not None and frozen.reestimated is None
    averages = [built[i].network.base.layers[3].get_weights()[2:] for i in (0, 1)]
    assert not np.allclose(averages[0][0], 0)
    np.testing.assert_array_equal(averages[1], [np.zeros(4), np.ones(4)])


@pytest.mark.slow
def test_statistics_estimated_again_are_those_of_the_final_weights(
    keras: Any, dataset: Dataset, tmp_path: Path, built: list[_Built]
) -> None:
    # Two batches of one size, so that the mean of their means is that of all images.
    plain = replace(_REPORT, augmentation=GeneratorArguments(), batch_size=_TRAIN_PER_CLASS)
    result, _ = _run(plain, dataset, tmp_path, epochs=1)
    network = built[0].network
    inputs = keras.Model(network.base.input, network.base.layers[3].input)
    train = np.concatenate([dataset.indices("train"), dataset.indices("val")])
    expected = inputs.predict(dataset.rgb(train).astype(np.float32) / 255, verbose=0).astype(np.float64)
    np.testing.assert_allclose(network.base.layers[3].get_weights()[2], expected.mean((0, 1, 2)), rtol=1e-3, atol=1e-4)
    test = dataset.indices("test")[: sum(result.validation_images.values())]
    logits = network.logits.predict(dataset.rgb(test).astype(np.float32) / 255, verbose=0)[:, 0]
    found = result.reestimated
    assert found is not None and (found.layers, found.images) == (1, 2 * _TRAIN_PER_CLASS)
    assert found.accuracy == np.mean((logits > 0) == dataset.labels(test))
    assert found.called_pneumonia == np.mean(logits > 0)


@pytest.mark.slow
def test_fewer_images_are_drawn_by_class(dataset: Dataset, tmp_path: Path, built: list[_Built]) -> None:
    result, _ = _run(_REPORT, dataset, tmp_path, epochs=1, images=10)
    assert result.train_images == {"NORMAL": 5, "PNEUMONIA": 5}
    with pytest.raises(TrainingError, match="there are 48 training images, not 49"):
        _run(_REPORT, dataset, tmp_path / "more", epochs=1, images=49)


_TWO_PHASES = replace(
    _REPORT,
    phases=(ReportPhase("frozen", 1, 1e-2, 0), ReportPhase("all", 3, 1e-2, None)),
    plateau=Plateau(factor=0.1, patience=1),
)


def _interrupt(monkeypatch: pytest.MonkeyPatch, after: int) -> Callable[[], None]:
    """Have the validation after so many epochs interrupted, until told otherwise."""
    real, calls = reproduction._cross_entropy, 0

    def cross_entropy(*arguments: Any) -> float:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(reproduction, "_cross_entropy", cross_entropy)
    return lambda: monkeypatch.setattr(reproduction, "_cross_entropy", real)


@pytest.mark.slow
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    dataset: Dataset, tmp_path: Path, built: list[_Built], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, expected = _run(_TWO_PHASES, dataset, tmp_path / "whole")
    for after in (0, 1, 3):
        folder = tmp_path / f"after-{after}"
        go_on = _interrupt(monkeypatch, after)
        with pytest.raises(KeyboardInterrupt):
            _run(_TWO_PHASES, dataset, folder)
        go_on()
        assert len(reproduction.read_history(folder)) == after
        resumed, rows = _run(_TWO_PHASES, dataset, folder)

        assert [(row.phase, row.epoch, row.learning_rate) for row in rows] == [
            (row.phase, row.epoch, row.learning_rate) for row in expected
        ]
        for row, wanted in zip(rows, expected, strict=True):
            assert (row.loss, row.val_loss) == (wanted.loss, wanted.val_loss)
        assert (resumed.modes, resumed.reestimated) == (whole.modes, whole.reestimated)
        for one, other in zip(built[0].network.base.get_weights(), built[-1].network.base.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_the_rate_falls_and_fitting_stops_when_validation_loss_does_not_fall(
    dataset: Dataset, tmp_path: Path, built: list[_Built], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduction, "_cross_entropy", lambda *_: 0.5)
    phase = replace(_REPORT.phases[0], epochs=9)
    _, rows = _run(replace(_REPORT, phases=(phase,), stop_patience=4, plateau=Plateau(0.1, 2)), dataset, tmp_path)
    assert [row.learning_rate for row in rows] == pytest.approx([1e-4, 1e-4, 1e-4, 1e-5, 1e-5])


@pytest.mark.slow
def test_a_network_of_nan_has_a_record(dataset: Dataset, tmp_path: Path, built: list[_Built]) -> None:
    phase = replace(_REPORT.phases[0], learning_rate=1e30)
    result, rows = _run(replace(_REPORT, phases=(phase,)), dataset, tmp_path, epochs=1)
    assert np.isnan(rows[-1].val_loss) and np.isnan(rows[-1].val_auc)
    assert rows[-1].called_pneumonia == 0
    assert result.modes.inference.loss is None
    assert result.reestimated is not None and result.reestimated.auc is None


# The command line


@pytest.fixture(scope="module")
def weights(keras: Any, phantom: Path) -> Path:
    keras.utils.set_random_seed(5)
    path = phantom.parent / "mobilenetv2_imagenet_notop.weights.h5"
    keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(224, 224, 3)).save_weights(path)
    return path


def _command(*arguments: object) -> CommandResult:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.mark.slow
def test_the_command_leaves_a_record_and_nothing_to_export(
    phantom: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(phantom.parent / "cache"))
    out = tmp_path / "run"
    words = ("train", "--data", phantom, "--recipe", "report-mobilenet-both", "--weights", weights, "--out", out)
    done = _command(*words, "--epochs", 1, "--images", 12)
    assert done.exit_code == 0, done.output
    assert "This recipe writes no model to export" in done.stdout
    with (out / "history.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 1

    again = _command(*words, "--epochs", 1, "--images", 12)
    assert (again.exit_code, again.stdout) == (0, done.stdout)
    other = _command(*words, "--epochs", 1, "--images", 13)
    assert other.exit_code == 3
    assert "other settings: images 13 (it has 12)" in other.stderr
    ordinary = _command("train", "--data", phantom, "--backbone", "mobilenetv2", "--weights", weights, "--out", out)
    assert ordinary.exit_code == 3
    assert f"{out} contains a run " in ordinary.stderr

    refused = _command("export", out)
    assert refused.exit_code == 3
    assert f"error: {out} holds no finished training run" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
