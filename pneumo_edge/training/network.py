"""Builds the network: initial weights, backbone, head."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_edge import extras, files
from pneumo_edge.data.sources import CLASS_NAMES
from pneumo_edge.errors import TrainingError
from pneumo_edge.images import Pixels
from pneumo_edge.spec import RANDOM_WEIGHTS
from pneumo_edge.training.backbones import Backbone

HEIGHT = WIDTH = 224
#: Names of layers that other parts of the code ask a model for.
FEATURES, LOGITS = "features", "logits"

_STATISTICS_BATCH = 32
_STATISTICS_BATCHES = 8


@dataclass(frozen=True)
class InitialWeights:
    """Where a backbone starts from: a file, a download by Keras (``path`` None), or random numbers."""

    description: str
    path: Path | None = None

    @property
    def random(self) -> bool:
        """Whether there are no pretrained weights."""
        return self.description == RANDOM_WEIGHTS


def find_weights(backbone: Backbone, given: Path | None) -> InitialWeights:
    """Settle the initial weights.

    Args:
        backbone: The backbone.
        given: A weights file, a folder that has ``backbone.weights_file``, or None to let Keras
            download its ImageNet weights.

    Returns:
        The given file, else the download, else random weights, with a warning on standard error.

    Raises:
        TrainingError: The given path has no such file.
    """
    if given is None:
        return _download(backbone)
    path = given / backbone.weights_file if given.is_dir() else given
    if not path.is_file():
        raise TrainingError(
            f"there are no weights at {path}",
            f"a weights file of {backbone.application} without its top, or a folder with {backbone.weights_file}",
            "Give another --weights, or leave it out to download them",
        )
    return InitialWeights(f"ImageNet, from {path.name} (sha256 {files.sha256(path)[:16]})", path)


def build(backbone: Backbone, weights: InitialWeights, dropout: float, pixels: Pixels) -> Any:
    """Build the classifier: pixels, scaling, backbone, global average pooling, one dense layer, softmax.

    Args:
        backbone: The backbone.
        weights: From :func:`find_weights`.
        dropout: Share of features dropped in training, 0 to 1.
        pixels: Training images, uint8 of shape (images, 224, 224, 3); random weights take their
            batch-norm statistics from them, and nothing else does.

    Returns:
        A ``keras.Model`` from float32 pixels (batch, 224, 224, 3) of 0 to 255 to probabilities
        (batch, classes).

    Raises:
        TrainingError: The weights file does not fit the backbone.
    """
    model = _assemble(backbone, weights, dropout, HEIGHT)
    if weights.random:
        _estimate_statistics(model, pixels)
    return model


def at_side(model: Any, backbone: Backbone, dropout: float, side: int) -> Any:
    """A copy of a classifier for images of another height and width, with the same weights."""
    copy = _assemble(backbone, InitialWeights(RANDOM_WEIGHTS), dropout, side)
    copy.set_weights(model.get_weights())
    return copy


def batch_norm_layers(model: Any) -> list[Any]:
    """Every batch-normalization layer of a model, at any depth."""
    keras = extras.need("keras", "train")
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += batch_norm_layers(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            found.append(layer)
    return found


def _assemble(backbone: Backbone, weights: InitialWeights, dropout: float, side: int) -> Any:
    keras = extras.need("keras", "train")
    base = _build_base(backbone, weights, side)
    image = keras.Input((side, side, 3), name="image")
    scaled = image
    if backbone.rescaling:
        scale, offset = backbone.rescaling
        scaled = keras.layers.Rescaling(scale, offset=offset, name="rescaling")(image)
    pooled = keras.layers.GlobalAveragePooling2D(name=FEATURES)(base(scaled))
    logits = keras.layers.Dense(len(CLASS_NAMES), name=LOGITS)(keras.layers.Dropout(dropout)(pooled))
    return keras.Model(image, keras.layers.Softmax(name="probability")(logits), name=backbone.name)


def _build_base(backbone: Backbone, weights: InitialWeights, side: int) -> Any:
    application = getattr(extras.need("keras", "train").applications, backbone.application)
    source = None if weights.random else str(weights.path or "imagenet")
    try:
        # Keras only warns of layers that it found no weights for, and leaves them random.
        with warnings.catch_warnings(action="error", category=UserWarning):
            return application(include_top=False, weights=source, input_shape=(side, side, 3))
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise TrainingError(
            f"{weights.path} does not hold weights of {backbone.application} ({error})",
            "weights saved by Keras from that application with include_top=False",
            "Give another --weights",
        ) from error


def _download(backbone: Backbone) -> InitialWeights:
    weights = InitialWeights("ImageNet, downloaded by Keras")
    try:
        _build_base(backbone, weights, HEIGHT)
    except Exception as error:  # Keras raises a bare Exception where a download fails
        print(
            f"WARNING: the ImageNet weights of {backbone.application} could not be downloaded "
            f"({str(error)[:120]}). Training starts from RANDOM weights: the result shows that the road "
            "works, and says nothing of accuracy. Give --weights or set PNEUMO_EDGE_WEIGHTS.",
            file=sys.stderr,
        )
        return InitialWeights(RANDOM_WEIGHTS)
    return weights


def _estimate_statistics(model: Any, pixels: Pixels) -> None:
    """Give a random network batch-norm statistics of real activations; without them its features vanish."""
    layers = batch_norm_layers(model)
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.5
    for start in range(0, _STATISTICS_BATCH * _STATISTICS_BATCHES, _STATISTICS_BATCH):
        batch = pixels[np.arange(start, start + _STATISTICS_BATCH) % len(pixels)]
        model(batch.astype("float32"), training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
