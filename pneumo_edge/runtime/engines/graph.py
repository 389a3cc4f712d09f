"""What is inside a model file's graph: operators, parameters and the arithmetic of one inference."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """What training set in an operator, by size.

    ``weights`` and ``biases`` are numbers of elements; ``positions`` is the number of output positions that each
    weight is multiplied for.
    """

    weights: int
    biases: int
    positions: int


@dataclass(frozen=True)
class Graph:
    """What a model file holds; the same on every engine that runs the file.

    ``operators`` counts the file's operators by the file format's own names, most frequent first.
    ``parameters`` counts the weights and biases of convolution and dense layers. The constants of input
    scaling and the scales of quantization are none, nor is a batch normalization's scale that was not folded
    into the weights. ``multiply_adds`` counts those of the same layers in one inference on one image; additions
    and products of activations, pooling and activation functions are left out, as is usual.
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

    A weight is multiplied once for each output position of its channel, so that a layer takes
    ``weights * positions`` multiply-adds, where ``positions`` is the number of output elements divided by that of
    output channels. Of a convolution with kernel k x k, stride and groups as they may be, that is the
    h * w * c_out * k * k * c_in / groups of Howard et al. 2017 (MobileNets), section 3.1; padding counts as pixels.

    Args:
        operators: Name of each operator of the file.
        layers: The convolution and dense layers among them, and biases that are operators of their own.
    """
    layers = tuple(layers)
    return Graph(
        operators=dict(Counter(operators).most_common()),
        parameters=sum(each.weights + each.biases for each in layers),
        multiply_adds=sum(each.weights * each.positions for each in layers),
    )
