"""Every row of the table of backbones: its name, what it does to pixels, and the network that it builds."""

from __future__ import annotations

import pkgutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumo_edge import backbones
from pneumo_edge.backbones import BACKBONES
from pneumo_edge.errors import ArgumentError, TrainingError
from pneumo_edge.scaling import SCALINGS, Scaling, parse
from pneumo_edge.training import initial_weights, network
from pneumo_edge.training.initial_weights import RANDOM, InitialWeights

_PIXELS = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
_LITE = BACKBONES["efficientnetlite0"]


@pytest.mark.parametrize("name", [name for name in BACKBONES if name != _LITE.name])
def test_pixels_are_scaled_as_the_application_says(keras: Any, name: str) -> None:
    """Against the application's own function; where the network scales pixels itself, it does nothing."""
    row = BACKBONES[name]
    module = sys.modules[pkgutil.resolve_name(row.builder).__module__]
    expected = module.preprocess_input(_PIXELS.astype(np.float32))
    np.testing.assert_allclose(row.scaling.apply(_PIXELS), expected, atol=1e-4)


@pytest.mark.parametrize("scaling", [*SCALINGS.values(), _LITE.scaling], ids=str)
def test_the_graph_scales_pixels_as_numpy_does(keras: Any, scaling: Scaling) -> None:
    image = keras.Input((96, 96, 3))
    said = keras.Model(image, scaling.build(image, "scaling")).predict(_PIXELS.astype(np.float32), verbose=0)
    np.testing.assert_allclose(said, scaling.apply(_PIXELS), rtol=1e-5, atol=1e-4)


def test_a_scaling_is_given_by_its_name_by_its_range_or_by_mean_and_deviation() -> None:
    assert parse("0..1") == Scaling(1 / 255) and parse("-1..1") == Scaling(1 / 127.5, -1.0)
    np.testing.assert_allclose(parse("-0.5..0.5").apply(np.array([0, 255])), [-0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(parse("mean=127; std=128").apply(np.array([127, 255])), [0, 1], atol=1e-6)
    np.testing.assert_allclose(parse("mean=0.5;std=0.5").apply(_PIXELS), parse("-1..1").apply(_PIXELS), atol=1e-6)
    by_channel = parse("mean=123.675,116.28,103.53;std=58.395,57.12,57.375").apply(_PIXELS)
    np.testing.assert_allclose(by_channel, SCALINGS["imagenet"].apply(_PIXELS), atol=1e-5)
    np.testing.assert_allclose(
        parse("mean=0.485,0.456,0.406;std=0.229,0.224,0.225").apply(_PIXELS), by_channel, atol=1e-5
    )
    for text in ("", "1..0", "torch", "mean=1", "mean=1,2;std=3", "mean=1;std=0", "0..1..2"):
        with pytest.raises(ArgumentError, match=r"expected 0\.\.255, 0\.\.1, -1\.\.1, imagenet, caffe, LOW\.\.HIGH"):
            parse(text)


def test_a_variant_is_found_by_its_name() -> None:
    for row in BACKBONES.values():
        for alpha in (1.0, *row.alphas):
            for side in (96, 224, 512):
                made = backbones.variant(row.name, alpha, side)
                assert backbones.find(made.name) == made
    small = backbones.variant("mobilenetv2", 0.35, 160)
    assert (small.name, small.title) == ("mobilenetv2-0.35-160", "MobileNetV2-0.35-160")
    assert backbones.variant("mobilenetv2") is BACKBONES["mobilenetv2"]
    for name in ("mobilenetv2-0.4", "mobilenetv2-64", "tiny", "mobilenetv2-", ""):
        assert backbones.find(name) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_every_row_builds_for_small_images(keras: Any, name: str) -> None:
    row = backbones.variant(name, next(iter(BACKBONES[name].alphas), 1.0), 96)
    base = initial_weights.build_base(row, RANDOM, row.side)
    assert base.input_shape == (None, 96, 96, 3) and base.output_shape[:3] == (None, 3, 3)


@pytest.mark.slow
def test_training_leaves_batch_norm_and_the_scaling_as_they_are(keras: Any) -> None:
    row = replace(backbones.variant("mobilenet", 0.25, 96), scaling=SCALINGS["caffe"])
    model = network.build(row, RANDOM, 0.2, _PIXELS, 2)
    network.freeze(model)
    trained = {weight.path for weight in model.trainable_weights}
    assert "logits/kernel" in trained and any("conv_dw" in path for path in trained)
    assert not [path for path in trained if "bn" in path or network.SCALING in path]


def _count(model: Any) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.slow
def test_efficientnet_lite0_is_as_published(keras: Any) -> None:
    """4,652,008 parameters with its classifier of 1,000 classes, and 384 million multiply-adds at 224 pixels."""
    base = initial_weights.build_base(_LITE, RANDOM, 224)
    assert _count(base) == 4_652_008 - (1280 * 1000 + 1000)
    macs = 0
    for layer in base.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            macs += int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:3]))
    assert macs == pytest.approx(384e6, rel=0.01)
    assert base.output_shape == (None, 7, 7, 1280)
    assert not [layer for layer in base.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D)]


@pytest.mark.slow
def test_efficientnet_lite0_takes_its_weights_from_the_archive(keras: Any, shared: Path, tmp_path: Path) -> None:
    path = shared / "weights" / "efficientnetlite0_imagenet_notop.npz"
    found = initial_weights.find(_LITE, path)
    base = initial_weights.build_base(_LITE, found, 224)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.testing.assert_array_equal(base.get_layer("block2a_expand").get_weights()[0], arrays["block2a/expand/kernel"])
    np.testing.assert_array_equal(base.get_layer("head_bn").moving_variance, arrays["head/bn/variance"])
    # Features of a trained network are neither dead nor without bounds.
    x_ray = np.broadcast_to(np.linspace(0, 255, 224)[:, None, None], (1, 224, 224, 3))
    features = base.predict(_LITE.scaling.apply(x_ray), verbose=0)
    assert features.min() >= 0 and features.max() <= 6 and features.std() > 0.1
    for change, said in (
        ({"block2a/expand/kernel": None}, "it has 244 arrays, the network 245"),
        ({"stem/bn/mean": np.full(32, np.nan, np.float32)}, "values that are not finite"),
        ({"stem/bn/mean": None, "stem/bn/other": np.zeros(32)}, "stem_bn/moving_mean is in one of file and network"),
    ):
        changed = {name: array for name, array in {**arrays, **change}.items() if array is not None}
        np.savez(tmp_path / "x.npz", **changed)
        with pytest.raises(TrainingError, match=said):
            initial_weights.find(_LITE, tmp_path / "x.npz")


@pytest.mark.slow
def test_a_variant_for_larger_images_takes_the_weights_of_its_row(keras: Any, tmp_path: Path) -> None:
    row = BACKBONES["mobilenetv2"]
    narrow = replace(backbones.variant("mobilenetv2", 0.35), pretrained=None)
    initial_weights.build_base(narrow, RANDOM, 96).save_weights(tmp_path / "x.weights.h5")
    given = InitialWeights("", tmp_path / "x.weights.h5")
    wide = replace(narrow, side=160)
    base = initial_weights.build_base(wide, given, wide.side)
    assert base.output_shape == (None, 5, 5, 1280)
    with pytest.raises(TrainingError, match="does not contain the weights of MobileNetV2"):
        initial_weights.find(row, given.path)
