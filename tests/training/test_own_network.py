"""A user's network is trained further: resumed like any training, and its run says which file it began with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import pneumo_edge
from pneumo_edge.cli import app
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.errors import ArgumentError, TrainingError
from pneumo_edge.training import initial_weights, own_network, recipes
from pneumo_edge.training.recipes import Phase, Recipe

_SIDE = 96


@pytest.fixture(scope="module")
def own(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of grey images, with a hidden layer in its head, as somebody saved it."""
    keras.utils.set_random_seed(1)
    layers, image = keras.layers, keras.Input((_SIDE, _SIDE, 1))
    tensor = layers.BatchNormalization()(layers.Conv2D(8, 8, strides=8, activation="relu")(image))
    tensor = layers.Dense(6, activation="relu")(layers.Flatten()(layers.MaxPooling2D(4)(tensor)))
    path = tmp_path_factory.mktemp("own") / "my net.keras"
    keras.Model(image, layers.Dense(5, activation="softmax")(layers.Dropout(0.5)(tensor))).save(path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("phantom") / "data", seed=0, train_per_class=12, test_per_class=2)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = Recipe("short", "", (Phase(2, 1e-3, warmup_epochs=0),), head=Phase(2, 1e-2, warmup_epochs=0))
    monkeypatch.setitem(recipes.RECIPES, "short", recipe)
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(tmp_path / "cache"))


def _train(own: Path, data: Path, out: Path, **options: Any) -> Any:
    given: dict[str, Any] = {"init": own, "input_range": "0..1", "recipe": "short", "out": out} | options
    return pneumo_edge.train(data, tell=lambda line: None, **given)


@pytest.mark.slow
def test_it_starts_with_its_own_weights_and_a_new_last_layer(own: Path, data: Path, keras: Any, tmp_path: Path) -> None:
    row, initial = own_network.open_own(own, "0..1", None)
    assert (row.name, row.side, initial.random) == ("my-net", _SIDE, False)
    base = initial_weights.build_base(row, initial, _SIDE)
    given = keras.saving.load_model(own, compile=False)
    pixels = np.random.default_rng(0).uniform(size=(2, _SIDE, _SIDE, 3)).astype(np.float32)
    grey = pixels @ np.array([[0.299], [0.587], [0.114]], np.float32)
    hidden = keras.Model(given.input, given.layers[-3].output)
    np.testing.assert_allclose(base.predict(pixels, verbose=0), hidden.predict(grey, verbose=0), atol=1e-5)

    run = _train(own, data, tmp_path / "run")
    record = run.record
    assert (record.backbone, record.class_names) == ("my-net", ("NORMAL", "PNEUMONIA"))
    assert record.training.initial_weights.startswith("from my net.keras (sha256 ")
    assert record.training.initial_weights.endswith("), pixels scaled to 0..1")
    trained = keras.saving.load_model(run.folder / "model.keras", compile=False)
    assert trained.output_shape == (None, 2)
    before, after = (
        next(each for each in model.get_weights() if each.shape == (8, 8, 1, 8)) for model in (given, trained)
    )
    assert not np.array_equal(before, after), "the whole network was trained"
    again = _train(own, data, tmp_path / "run")
    assert again.record.model_sha256 == record.model_sha256, "a finished run is returned as it is"


@pytest.mark.slow
def test_an_interrupted_run_resumes_with_the_same_file_only(
    own: Path, data: Path, keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pneumo_edge.training import fit

    def kill(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit, "_fine_tune", kill)
        with pytest.raises(KeyboardInterrupt):
            _train(own, data, tmp_path / "run")
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["weights"].startswith("from my net.keras (sha256 ")
    copy = tmp_path / own.name
    model = keras.saving.load_model(own, compile=False)
    model.set_weights([2 * array for array in model.get_weights()])
    model.save(copy)
    for changed in ({"init": copy}, {"input_range": "-1..1"}):
        with pytest.raises(TrainingError, match=r"a run with other settings: weights from my net\.keras"):
            _train(own, data, tmp_path / "run", **changed)
    resumed, whole = _train(own, data, tmp_path / "run"), _train(own, data, tmp_path / "whole")
    assert (resumed.folder / "validation.csv").read_text() == (whole.folder / "validation.csv").read_text()
    # The last column is that of seconds.
    epochs = [
        [line.rsplit(",", 1)[0] for line in (run.folder / "history.csv").read_text().splitlines()]
        for run in (resumed, whole)
    ]
    assert epochs[0] == epochs[1] and len(epochs[0]) == 5


def test_what_cannot_be_trained_is_refused(own: Path, data: Path, keras: Any, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=f"--image-size is 128; expected {_SIDE}, which"):
        own_network.open_own(own, "0..1", 128)
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "saved_model.pb").touch()
    with pytest.raises(TrainingError, match="is a SavedModel, a graph without layers"):
        own_network.open_own(folder, "0..1", None)
    image = keras.Input((_SIDE, 100, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    keras.Model(image, keras.layers.Dense(2)(pooled)).save(tmp_path / "wide.keras")
    with pytest.raises(TrainingError, match="takes images of 96 x 100; expected square images"):
        own_network.open_own(tmp_path / "wide.keras", "0..1", None)
    keras.Model(image, keras.layers.Softmax()(pooled)).save(tmp_path / "bare.keras")
    with pytest.raises(TrainingError, match="does not end with a dense layer"):
        own_network.open_own(tmp_path / "bare.keras", "0..1", None)
    with pytest.raises(ArgumentError, match="no backbone and no network of your own was given"):
        pneumo_edge.train(data)
    missing = ["train", "--data", str(data), "--init", str(tmp_path / "no.keras"), "--input-range", "0..1"]
    done = CliRunner().invoke(app, [*missing, "--out", str(tmp_path / "run")])
    assert done.exit_code == 3 and "no.keras cannot be read (No such file or directory)" in done.stderr
    assert not (tmp_path / "run").exists()
