from __future__ import annotations

import pkgutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumo_edge import bundled
from pneumo_edge.backbones import variant
from pneumo_edge.training import initial_weights, network

pytestmark = pytest.mark.slow

#: Small images, on which the networks are faster.
_SIDE, _SMALLER = 96, 64
_PIXELS = np.random.default_rng(0).integers(0, 256, (40, _SIDE, _SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=bundled.NAMES)
def built(keras: Any, request: pytest.FixtureRequest) -> tuple[str, Any]:
    """The name of a backbone, and a network of it with random weights."""
    keras.utils.set_random_seed(0)
    name = request.param
    return name, network.build(variant(name, side=_SIDE), initial_weights.RANDOM, 0.2, _PIXELS, 2)


def test_random_weights_give_features_that_tell_images_apart(keras: Any, built: tuple[str, Any]) -> None:
    _, model = built
    shades = np.stack([np.full((_SIDE, _SIDE, 3), 255 * share, np.float32) * np.linspace(0, 1, _SIDE)[:, None, None]
                       for share in (0.2, 0.9)])  # fmt: skip
    features = keras.Model(model.input, model.get_layer(network.FEATURES).output).predict(shades, verbose=0)
    assert features.std(axis=0).mean() > 1e-3


@pytest.mark.parametrize("name", bundled.NAMES)
def test_the_scaling_that_the_backbone_needs_is_in_the_graph(keras: Any, name: str, tmp_path: Path) -> None:
    """Against the application's own documented preprocessing, on the same weights."""
    row, path = variant(name, side=_SIDE), tmp_path / "taken.weights.h5"
    bundled_weights = initial_weights.InitialWeights("bundled", bundled.path(name))
    initial_weights.build_base(row, bundled_weights, _SIDE).save_weights(path)
    model = network.build(row, initial_weights.find(row, path), 0.2, _PIXELS, 2)
    inner = keras.Model(model.input, model.get_layer(network.FEATURES).output)
    application = pkgutil.resolve_name(row.builder)
    module = sys.modules[application.__module__]
    reference = application(include_top=False, weights=str(path), input_shape=(_SIDE, _SIDE, 3), pooling="avg")
    pixels = _PIXELS[:2].astype(np.float32)
    expected = reference.predict(module.preprocess_input(pixels.copy()), verbose=0)
    np.testing.assert_allclose(inner.predict(pixels, verbose=0), expected, rtol=1e-4, atol=1e-4)


def test_a_copy_for_smaller_images_has_the_same_weights(built: tuple[str, Any]) -> None:
    name, model = built
    small = network.at_side(model, variant(name, side=_SIDE), 0.2, _SMALLER)
    assert small.input_shape == (None, _SMALLER, _SMALLER, 3)
    for one, other in zip(model.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert small.predict(_PIXELS[:2, :_SMALLER, :_SMALLER].astype(np.float32), verbose=0).shape == (2, 2)


def test_a_copy_for_smaller_images_scales_pixels_alike(keras: Any) -> None:
    row = variant("efficientnetb0", side=_SIDE)
    weights = initial_weights.InitialWeights("bundled", bundled.path("efficientnetb0"))
    small = network.at_side(network.build(row, weights, 0.2, _PIXELS, 2), row, 0.2, _SMALLER)
    (base,) = [layer for layer in small.layers if isinstance(layer, keras.Model)]
    (norm,) = [layer for layer in base.layers if isinstance(layer, keras.layers.Normalization)]
    np.testing.assert_allclose(norm(np.full((1, 1, 1, 3), 0.45)), [[[[-0.15, -0.03, 0.2]]]], atol=0.02)
