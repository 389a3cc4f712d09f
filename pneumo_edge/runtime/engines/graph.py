"""Describes a model file's graph: operators, parameters and multiply-adds of one inference."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """The sizes of an operator's trained weights and biases.

    ``weights`` and ``biases`` are numbers of elements; ``positions`` is the number of output positions that use each
    weight.
    """

    weights: int
    biases: int
    positions: int


@dataclass(frozen=True)
class Graph:
    """The content of a model file, which is the same on every engine.

    ``operators`` counts the file's operators by the file format's own names, most frequent first.
    ``parameters`` counts the weights and biases of convolution and dense layers. It does not count the constants of
    input scaling, the scales of quantization, or a batch normalization's scale that was not folded into the weights.
    ``multiply_adds`` counts those of the same layers in one inference on one image. As usual, additions and products
    of activations, pooling and activation functions are not counted.
    """

    operators: Mapping[str, int]
    parameters: int
    multiply_adds: int


def layer(weights: Shape, bias: Shape | None, output: Shape, channel_axis: int) -> Layer:
    """Describe a convolution or dense layer by the shapes of its weights, its bias if it has one, and its output."""
    channels = output[channel_axis]
    return Layer(math.prod(weights), math.prod(bias) if bias else 0, math.prod(output) // channels)


def summarise(operators: Iterable[str], layers: Iterable[Layer]) -> Graph:
    """Count operators, parameters and multiply-adds.

    A weight is multiplied once for each output position of its channel. So a layer takes ``weights * positions``
    multiply-adds, where ``positions`` is the number of output elements divided by that of output channels. For a
    convolution with kernel k x k, any stride and any groups, that is h * w * c_out * k * k * c_in / groups, as in
    Howard et al. 2017 (MobileNets), section 3.1. Padding counts as pixels.

    Args:
        operators: Name of each operator of the file.
        layers: The convolution and dense layers among them, and biases that are separate operators.
    """
    layers = tuple(layers)
    return Graph(
        operators=dict(Counter(operators).most_common()),
        parameters=sum(each.weights + each.biases for each in layers),
        multiply_adds=sum(each.weights * each.positions for each in layers),
    )
