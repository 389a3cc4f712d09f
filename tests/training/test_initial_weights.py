"""What a backbone starts from, in which order, and what is written down of it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pneumo_edge import bundled
from pneumo_edge._util import files
from pneumo_edge.backbones import BACKBONES, SIDE, Backbone, Pretrained
from pneumo_edge.cli import app
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.errors import TrainingError
from pneumo_edge.training import initial_weights

pytestmark = pytest.mark.slow

_MOBILENET = BACKBONES["mobilenetv2"]


def _pretrained(row: Backbone) -> Pretrained:
    assert row.pretrained
    return row.pretrained


@pytest.fixture(scope="module")
def weights(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights of MobileNetV2 that no one has seen before."""
    path = tmp_path_factory.mktemp("weights") / _pretrained(_MOBILENET).file
    keras.utils.set_random_seed(3)
    keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3)).save_weights(path)
    return path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror("no name server")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def test_a_missing_weights_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"mobilenetv2_imagenet_notop\.weights\.h5"):
        initial_weights.find(_MOBILENET, tmp_path)


def test_a_file_is_called_imagenets_only_where_that_is_known(keras: Any, weights: Path) -> None:
    digest = files.sha256(weights)
    found = initial_weights.find(_MOBILENET, weights.parent)
    assert found.description == f"from {_pretrained(_MOBILENET).file} (sha256 {digest[:16]})"
    known = replace(_MOBILENET, pretrained=replace(_pretrained(_MOBILENET), sha256=frozenset({digest})))
    assert initial_weights.find(known, weights).description == f"ImageNet, {found.description}"


@pytest.mark.parametrize("name", ["mobilenetv2", "efficientnetb0", "efficientnetlite0"])
def test_the_known_files_are_known(keras: Any, name: str, shared: Path) -> None:
    found = initial_weights.find(BACKBONES[name], shared / "weights")
    assert found.description.startswith(f"ImageNet, from {_pretrained(BACKBONES[name]).file} (sha256 ")


def test_a_refused_file_leaves_no_run_that_says_it_was_taken(
    keras: Any, weights: Path, tmp_path: Path, offline: Mapping[str, str]
) -> None:
    data = make_phantom(tmp_path / "data", seed=0, train_per_class=20, test_per_class=2)
    words = ["train", "--data", data, "--backbone", "efficientnetb0", "--weights", weights, "--out", tmp_path / "run"]
    done = CliRunner(env=offline).invoke(app, list(map(str, words)))
    assert done.exit_code == 3
    assert f"error: {weights} does not contain the weights of EfficientNetB0" in done.stderr.splitlines()[-1]
    assert "it has 260 arrays, the network 312" in done.stderr
    assert not (tmp_path / "run").exists()


def test_without_a_network_the_bundled_model_is_taken_and_named(
    keras: Any, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    found = initial_weights.find(_MOBILENET, None)
    path = bundled.path("mobilenetv2")
    assert found.path == path
    for part in ("bundled mobilenetv2-int8", files.sha256(path)[:16], "trained on", "sample pack's training images"):
        assert part in found.description
    (line,) = capsys.readouterr().err.splitlines()
    assert "no connection to storage.googleapis.com" in line and "bundled mobilenetv2-int8" in line
    assert "RANDOM" not in line and "PNEUMO_EDGE_WEIGHTS" in line


@pytest.mark.parametrize(("row", "trained"), [(_MOBILENET, False), (replace(_MOBILENET, name="another"), True)])
def test_random_weights_are_the_last_resort(
    keras: Any, no_network: None, row: Backbone, trained: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    found = initial_weights.find(row, None, trained=trained)
    assert found.random and found == initial_weights.RANDOM
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("WARNING") and "RANDOM" in line and "PNEUMO_EDGE_WEIGHTS" in line


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_what_keras_downloaded_before_is_taken_without_a_network(
    keras: Any, no_network: None, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "keras" / "models" / str(_pretrained(_MOBILENET).url).rpartition("/")[2]
    kept.parent.mkdir(parents=True)
    network = initial_weights.build_base(_MOBILENET, initial_weights.InitialWeights("", weights), SIDE)
    network.save(kept)
    # Keras reads KERAS_HOME when it is imported.
    get_file = keras.utils.get_file
    monkeypatch.setattr(keras.utils, "get_file", lambda *a, **k: get_file(*a, **k, cache_dir=tmp_path / "keras"))
    found = initial_weights.find(_MOBILENET, None)
    assert found.description == f"ImageNet, downloaded by Keras (sha256 {files.sha256(kept)[:16]})"
    loaded = initial_weights.build_base(_MOBILENET, found, SIDE)
    for one, other in zip(network.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_tflite_file_of_another_backbone_is_refused(keras: Any) -> None:
    with pytest.raises(TrainingError, match="is a mobilenetv2; expected a efficientnetb0"):
        initial_weights.find(BACKBONES["efficientnetb0"], bundled.path("mobilenetv2"))


def test_the_normalization_of_kerass_own_efficientnet_is_completed(keras: Any, tmp_path: Path) -> None:
    """Keras's file has the deviation where the layer takes the variance; it adds a layer for that file alone."""
    row, deviation = BACKBONES["efficientnetb0"], np.array([0.229, 0.224, 0.225], np.float32)
    application = keras.applications.EfficientNetB0
    of_keras = application(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3))
    norm = next(layer for layer in of_keras.layers if isinstance(layer, keras.layers.Normalization))
    norm.set_weights([np.array([0.485, 0.456, 0.406], np.float32), deviation, np.array(0)])
    of_keras.save_weights(tmp_path / "x.weights.h5")
    base = initial_weights.build_base(row, initial_weights.find(row, tmp_path / "x.weights.h5"), SIDE)
    norm = next(layer for layer in base.layers if isinstance(layer, keras.layers.Normalization))
    pixels = np.random.default_rng(0).uniform(0, 1, (1, 4, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(norm(pixels), (pixels - [0.485, 0.456, 0.406]) / deviation, atol=1e-4)
