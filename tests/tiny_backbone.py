"""A backbone that is built and run in moments, for tests of what lies around it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from pneumo_edge.backbones import Backbone
from pneumo_edge.scaling import SCALINGS

NAME = "tiny"
#: Its images have 96 pixels a side.
ROW = Backbone(NAME, "Tiny", f"{__name__}:build", SCALINGS["-1..1"], side=96)
#: One with layers that training treats otherwise than inference does.
WITH_DROPOUT = replace(ROW, builder=f"{__name__}:build_with_dropout")
#: ``pneumo-edge`` with that backbone among the others, run in the repository.
COMMAND = (
    sys.executable,
    "-c",
    "from tests import tiny_backbone\n"
    "from pneumo_edge.backbones import BACKBONES\n"
    "from pneumo_edge.cli import app\n"
    "BACKBONES[tiny_backbone.NAME] = tiny_backbone.WITH_DROPOUT\n"
    "app(prog_name='pneumo-edge')",
)


def build(include_top: bool, weights: None, input_shape: tuple[int, int, int], features: int = 32) -> Any:
    """A network of two convolutions, from (side, side, 3) to so many features a place."""
    import keras

    image = keras.Input(input_shape)
    patches = keras.layers.Conv2D(16, 8, strides=8, activation="relu")(image)
    return keras.Model(image, keras.layers.Conv2D(features, 1, activation="relu")(patches))


def build_with_dropout(include_top: bool, weights: None, input_shape: tuple[int, int, int]) -> Any:
    """The same with batch normalization and dropout inside, as EfficientNet has them."""
    import keras

    plain = build(include_top, weights, input_shape)
    patches = keras.layers.BatchNormalization()(plain.layers[1](plain.input))
    return keras.Model(plain.input, plain.layers[2](keras.layers.Dropout(0.2)(patches)))
