"""Builds the network: backbone and head."""

from __future__ import annotations

from typing import Any

import numpy as np

from pneumo_edge._util import extras
from pneumo_edge.backbones import Backbone
from pneumo_edge.imaging.images import Pixels
from pneumo_edge.training import initial_weights
from pneumo_edge.training.initial_weights import InitialWeights

#: Names of layers that other modules look up.
SCALING, FEATURES, LOGITS = "rescaling", "features", "logits"

_STATISTICS_BATCH = 32
_STATISTICS_BATCHES = 8


def build(backbone: Backbone, weights: InitialWeights, dropout: float, pixels: Pixels, classes: int) -> Any:
    """Build the classifier: pixels, scaling, backbone, global average pooling of a map, one dense layer, softmax.

    Args:
        backbone: The backbone.
        weights: From :func:`pneumo_edge.training.initial_weights.find`.
        dropout: Share of features dropped in training, 0 to 1.
        pixels: Training images, uint8 of shape (images, side, side, 3); only used for the batch-norm
            statistics of random weights.
        classes: How many classes there are.

    Returns:
        A ``keras.Model`` from float32 pixels (batch, side, side, 3) of 0 to 255 to probabilities
        (batch, classes).

    Raises:
        TrainingError: The weights are not exactly those of the backbone.
    """
    model = _assemble(backbone, weights, dropout, backbone.side, classes)
    if weights.random:
        _estimate_statistics(model, pixels)
    return model


def at_side(model: Any, backbone: Backbone, dropout: float, side: int) -> Any:
    """Return a copy of a classifier for images of another height and width, with the same weights."""
    copy = _assemble(backbone, initial_weights.RANDOM, dropout, side, model.output_shape[-1])
    copy.set_weights(model.get_weights())
    for layer in _layers(copy, extras.need("keras", "train").layers.Normalization):
        # The layer computes with constants derived from its weights.
        layer.finalize_state()
    return copy


def batch_norm_layers(model: Any) -> list[Any]:
    """Return every batch-normalization layer of a model, at any depth."""
    return _layers(model, extras.need("keras", "train").layers.BatchNormalization)


def freeze(model: Any) -> None:
    """Make all layers trainable except batch norm and the scaling.

    Each batch-norm layer is frozen separately, because Keras's ``fit`` also trains a backbone that was called with
    ``training=False``; otherwise the moving statistics would change.
    """
    model.trainable = True
    for layer in [*batch_norm_layers(model), *(layer for layer in model.layers if layer.name == SCALING)]:
        layer.trainable = False


def _layers(model: Any, kind: type[Any]) -> list[Any]:
    keras = extras.need("keras", "train")
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += _layers(layer, kind)
        elif isinstance(layer, kind):
            found.append(layer)
    return found


def _assemble(backbone: Backbone, weights: InitialWeights, dropout: float, side: int, classes: int) -> Any:
    keras = extras.need("keras", "train")
    base = initial_weights.build_base(backbone, weights, side)
    image = keras.Input((side, side, 3), name="image")
    features = base(backbone.scaling.build(image, SCALING))
    # A user's own network may do without global average pooling: its features are a vector already.
    is_map = len(features.shape) == len(image.shape)
    pooling = keras.layers.GlobalAveragePooling2D if is_map else keras.layers.Identity
    pooled = pooling(name=FEATURES)(features)
    logits = keras.layers.Dense(classes, name=LOGITS)(keras.layers.Dropout(dropout)(pooled))
    return keras.Model(image, keras.layers.Softmax(name="probability")(logits), name=backbone.name)


def _estimate_statistics(model: Any, pixels: Pixels) -> None:
    """Set the batch-norm statistics of a random network from real activations; without them its features vanish."""
    layers = batch_norm_layers(model)
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.5
    for start in range(0, _STATISTICS_BATCH * _STATISTICS_BATCHES, _STATISTICS_BATCH):
        batch = pixels[np.arange(start, start + _STATISTICS_BATCH) % len(pixels)]
        model(batch.astype("float32"), training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
