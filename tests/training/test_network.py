from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumo_edge.errors import TrainingError
from pneumo_edge.spec import RANDOM_WEIGHTS
from pneumo_edge.training import network
from pneumo_edge.training.backbones import BACKBONES

pytestmark = pytest.mark.slow

_PIXELS = np.random.default_rng(0).integers(0, 256, (40, 224, 224, 3), dtype=np.uint8)


def test_a_missing_weights_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"mobilenetv2_imagenet_notop\.weights\.h5"):
        network.find_weights(BACKBONES["mobilenetv2"], tmp_path)


def test_a_file_of_another_network_is_refused(keras: Any, tmp_path: Path) -> None:
    other = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(other)
    weights = network.find_weights(BACKBONES["mobilenetv2"], other)
    with pytest.raises(TrainingError, match="does not hold weights of MobileNetV2"):
        network.build(BACKBONES["mobilenetv2"], weights, 0.2, _PIXELS)


def test_a_failed_download_warns_and_leads_to_random_weights(
    keras: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: Any) -> None:
        raise Exception("URL fetch failure on https://example.org: no route to host")

    monkeypatch.setattr(keras.applications, "MobileNetV2", fail)
    weights = network.find_weights(BACKBONES["mobilenetv2"], None)
    assert weights.random
    message = capsys.readouterr().err
    assert message.startswith("WARNING") and "RANDOM" in message and "PNEUMO_EDGE_WEIGHTS" in message


@pytest.mark.parametrize("name", BACKBONES)
def test_random_weights_give_features_that_tell_images_apart(keras: Any, name: str) -> None:
    keras.utils.set_random_seed(0)
    weights = network.InitialWeights(RANDOM_WEIGHTS)
    model = network.build(BACKBONES[name], weights, 0.2, _PIXELS)
    shades = np.stack([np.full((224, 224, 3), 255 * share, np.float32) * np.linspace(0, 1, 224)[:, None, None]
                       for share in (0.2, 0.9)])  # fmt: skip
    features = keras.Model(model.input, model.get_layer(network.FEATURES).output).predict(shades, verbose=0)
    assert features.std(axis=0).mean() > 1e-3


@pytest.mark.parametrize("name", BACKBONES)
def test_the_scaling_that_the_backbone_needs_is_in_the_graph(keras: Any, name: str, shared: Path) -> None:
    """Against the application's own documented preprocessing, on the same weights."""
    row = BACKBONES[name]
    path = shared / "weights" / row.weights_file
    model = network.build(row, network.find_weights(row, path), 0.2, _PIXELS)
    inner = keras.Model(model.input, model.get_layer(network.FEATURES).output)
    module = {"mobilenetv2": keras.applications.mobilenet_v2, "efficientnetb0": keras.applications.efficientnet}[name]
    application = getattr(keras.applications, row.application)
    reference = application(include_top=False, weights=str(path), input_shape=(224, 224, 3), pooling="avg")
    pixels = _PIXELS[:2].astype(np.float32)
    expected = reference.predict(module.preprocess_input(pixels.copy()), verbose=0)
    np.testing.assert_allclose(inner.predict(pixels, verbose=0), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_copy_for_smaller_images_has_the_same_weights(keras: Any, name: str) -> None:
    model = network.build(BACKBONES[name], network.InitialWeights(RANDOM_WEIGHTS), 0.2, _PIXELS)
    small = network.at_side(model, BACKBONES[name], 0.2, 96)
    assert small.input_shape == (None, 96, 96, 3)
    for one, other in zip(model.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert small.predict(_PIXELS[:2, :96, :96].astype(np.float32), verbose=0).shape == (2, 2)
