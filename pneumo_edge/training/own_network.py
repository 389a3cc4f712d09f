"""A user's network as one to fine-tune: a row of the table of backbones that its own file builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pneumo_edge import backbones, keras_file, scaling
from pneumo_edge.backbones import LEAST_SIDE, MOST_SIDE, SIDE, Backbone
from pneumo_edge.errors import ArgumentError, TrainingError
from pneumo_edge.keras_file import OwnNetwork
from pneumo_edge.saved_model import is_saved_model
from pneumo_edge.training.initial_weights import InitialWeights

_DIGITS = 16


def open_own(path: Path, input_range: str, side: int | None) -> tuple[Backbone, InitialWeights]:
    """Read a network that somebody trained, to train it further with a new last layer.

    Args:
        path: A ``.keras`` or ``.h5`` file.
        input_range: What pixels were scaled to before they went into it.
        side: Height and width of the images, where it takes any; None for the usual.

    Raises:
        ArgumentError: The input range cannot be read, or the network takes other images than of ``side``.
        ConversionError: The file cannot be read, holds code, or is no network from one image to classes.
        TrainingError: It has no layers to train, or no dense layer at its end.
    """
    rescaled = scaling.parse(input_range)
    network = _open(path)
    height, width = network.size or (side or SIDE,) * 2
    if height != width or not LEAST_SIDE <= height <= MOST_SIDE:
        raise TrainingError(
            f"{path} takes images of {height} x {width}",
            f"square images of {LEAST_SIDE} to {MOST_SIDE} pixels",
            "Give another network",
        )
    if side not in (None, height):
        raise ArgumentError(f"--image-size is {side}", f"{height}, which {path} takes", "Leave it out")
    name = backbones.own_name(path.stem)
    row = Backbone(name, name, f"{__name__}:build", rescaled, options={"path": str(path)}, side=height)
    digest = keras_file.sha256(path)[:_DIGITS]
    return row, InitialWeights(f"from {path.name} (sha256 {digest}), pixels scaled to {input_range}")


def build(include_top: bool, weights: None, input_shape: tuple[int, int, int], path: str) -> Any:
    """Build the network without its last layer, as the builders of the table do, but with its weights.

    Args:
        include_top: Only False.
        weights: Only None.
        input_shape: Height, width and 3.
        path: Its file.

    Raises:
        ConversionError: As :func:`open_own`.
        TrainingError: As :func:`open_own`.
    """
    if include_top or weights is not None:
        raise ValueError("a user's network is built without its last layer, and with its own weights")
    return _open(Path(path)).trunk_at(input_shape[:2])


def _open(path: Path) -> OwnNetwork:
    if is_saved_model(path):
        raise TrainingError(
            f"{path} is a SavedModel, a graph without layers",
            "a Keras model with layers to train, .keras or .h5",
            'Save the model with model.save("model.keras")',
        )
    # Read again each time: training changes its weights.
    network = keras_file.take_apart(keras_file.load(path), path)
    if not network.is_dense:
        raise TrainingError(
            f"{path} does not end with a dense layer, which training replaces",
            "a dense layer with a sigmoid, a softmax or without an activation",
            "Give such a network",
        )
    return network
