"""The trained Keras model: its outputs, its answers, and its SavedModel. Runs in the child process."""

from __future__ import annotations

import atexit
import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge import keras_file
from pneumo_edge._util import extras, scratch
from pneumo_edge.converters import features
from pneumo_edge.converters.interface import Network
from pneumo_edge.spec import COMPONENTS, HEATMAP, PROBABILITY
from pneumo_edge.task import Task

_BATCH = 64


@functools.lru_cache(maxsize=1)
def load(network: Network) -> Any:
    """Load a trained model as a network with the outputs of a model file; the last one is kept.

    Returns:
        A ``keras.Model`` from pixels to a dictionary of outputs by name: the probabilities and, where the network
        has what they are made of, those of :data:`OTHER_OUTPUTS`. Each of those is flat, as clients want it that
        take every output for a vector of scores; the layer of its name flattens it.
    """
    keras = extras.need("keras", "convert")
    trained = Trained(*features.expose(keras_file.load_trained(network.file)), network.file, network.task)
    outputs = {PROBABILITY: trained.network.output}
    for name, other in OTHER_OUTPUTS.items():
        tensor = other.build(trained)
        if tensor is not None:
            outputs[name] = keras.layers.Flatten(name=name)(tensor)
    return keras.Model(trained.network.inputs, outputs)


@dataclass(frozen=True)
class Trained:
    """A trained network, a ``keras.Model``; symbolic feature maps in its middle; its file, and what it was asked."""

    network: Any
    maps: list[Any]
    file: Path
    task: Task


def _heatmap(trained: Trained) -> Any:
    """What each cell of the last feature map adds to the logit of a class, less that of the others.

    It is the positive class or, where there is none, each class in turn. The class activation map (Zhou et al. 2016,
    https://arxiv.org/abs/1512.04150) with the bias of the dense layer, so that the mean over the cells is the
    difference of the logits: that layer, applied to each cell and not to the mean of all, is a convolution of 1x1.

    Returns:
        A tensor of shape (batch, height, width), or (batch, classes, height, width) without a positive class; None
        where the head is another than global average pooling, one dense layer and a softmax.
    """
    layers = extras.need("keras", "convert").layers
    head = [layer for layer in trained.network.layers if not isinstance(layer, layers.Dropout)][-3:]
    expected = (layers.GlobalAveragePooling2D, layers.Dense, layers.Softmax)
    if [type(layer) for layer in head] != list(expected):
        return None
    pooling, dense, _ = head
    positive, classes = trained.task.positive_index, range(len(trained.task.class_names))
    weights, bias = (
        np.stack([_against_others(array, each) for each in (classes if positive is None else (positive,))], axis=-1)
        for array in dense.get_weights()
    )
    _, height, width, _ = pooling.input.shape
    evidence = layers.Conv2D(len(bias), 1, name="evidence")
    tensor = evidence(pooling.input)
    evidence.set_weights([weights[np.newaxis, np.newaxis], bias])
    if positive is None:
        return layers.Permute((3, 1, 2))(tensor)
    return layers.Reshape((height, width))(tensor)


def _against_others(weights: npt.NDArray[np.float32], positive: int) -> npt.NDArray[np.float32]:
    """Of an array whose last axis is that of the classes: one of them less the mean of the others."""
    return np.asarray(weights[..., positive] - np.delete(weights, positive, axis=-1).mean(axis=-1))


@dataclass(frozen=True)
class OtherOutput:
    """How an output is made from a trained network, a tensor of shape (batch, ...) or None; and what it is."""

    build: Callable[[Trained], Any]
    describe: Callable[[Task], str]


#: The outputs of a model file other than the probabilities, by name and in this order.
OTHER_OUTPUTS = {
    HEATMAP: OtherOutput(
        _heatmap,
        lambda task: (
            f"What each cell of a grid over the image, row by row, adds to the logit of "
            f"{task.positive_class or 'each class in turn'}, less that of the others; their mean is the difference of "
            "the logits."
        ),
    ),
    COMPONENTS: OtherOutput(
        lambda trained: features.build(trained.network.inputs[0], trained.maps, trained.file),
        lambda task: (
            "Principal components of what the middle of the network sees and of the brightness of the image, by which "
            "an image that is unlike the training images is told."
        ),
    ),
}
#: Names of the outputs of model files, in their order; a file may have no more than the first.
OUTPUTS = (PROBABILITY, *OTHER_OUTPUTS)


@functools.lru_cache(maxsize=1)
def saved_model(network: Network) -> Path:
    """Export a trained model as a SavedModel with a batch of 1, for TensorFlow's own converters.

    Returns:
        Its folder, which is removed when the process ends.
    """
    keras = extras.need("keras", "convert")
    loaded = load(network)
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    folder = stack.enter_context(scratch.folder())
    # A batch fixed to 1 keeps EfficientNetB0's squeeze-and-excite shapes static, so that one delegate
    # partition takes the whole graph. A SavedModel, because converting the concrete function of a Keras 3
    # model leaves its variables unfrozen, and the file then gives NaN.
    signature = keras.InputSpec(shape=(1, *loaded.input_shape[1:]), dtype="float32", name="image")
    loaded.export(str(folder), format="tf_saved_model", input_signature=[signature], verbose=False)
    return folder


def answers(network: Network, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
    """The answers of the Keras model, which every converted file is compared with.

    Args:
        network: The trained model.
        pixels: uint8 of shape (images, height, width, 3), values 0 to 255.

    Returns:
        By name of output, float32: the probabilities of shape (images, classes), and the others each in its own
        shape, (images, ...).
    """
    loaded = load(network)
    batches = (pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH))
    said = [loaded.predict_on_batch(batch.astype(np.float32)) for batch in batches]
    whole = {name: np.concatenate([each[name] for each in said]) for name in said[0]}
    shapes = {name: loaded.get_layer(name).input.shape[1:] for name in whole if name != PROBABILITY}
    return {name: array.reshape((-1, *shapes.get(name, array.shape[1:]))) for name, array in whole.items()}
