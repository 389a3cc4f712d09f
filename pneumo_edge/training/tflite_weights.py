"""Loads the weights of a TFLite file into a Keras network of the same architecture.

A converter folds batch norm into convolutions and, in a quantized file, stores their weights as integers. Both are
undone as far as possible: the weights are dequantized, and each batch-norm layer becomes the addition of the bias that
it was folded into. The network then computes the same as the file, except for the rounding of activations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import extras
from pneumo_edge.scaling import SCALINGS, Scaling
from pneumo_edge.spec import PROBABILITY
from pneumo_edge.training.weights_file import DoesNotFitError

_Floats = npt.NDArray[np.float32]

#: dtype of a constant by its TensorType in the schema; other types are not supported.
_DTYPES = {"FLOAT32": np.float32, "INT32": np.int32, "INT8": np.int8}
#: From the order of a TFLite operator's weights to that of the Keras layer's kernel.
_KERNEL_AXES = {"CONV_2D": (1, 2, 3, 0), "DEPTHWISE_CONV_2D": (1, 2, 3, 0), "FULLY_CONNECTED": (1, 0)}
_ARITHMETIC = ("ADD", "SUB", "MUL", "DIV")
#: Relative tolerance between the scaling of pixels in a file and in the network, because of 8-bit constants.
_SCALING_TOLERANCE = 0.02


def take(layers: Sequence[Any], content: bytes, scaling: Scaling = SCALINGS["0..255"]) -> None:
    """Load the weights of a TFLite file into layers of a Keras network.

    Convolutions and dense layers are used in the order of the graph, from the pixels to the probabilities; layers for
    other outputs are ignored. Shapes and names must agree, so that no weights are swapped unnoticed.

    Args:
        layers: Every layer of a functional network that has weights, in its order; a dense head may be missing.
        content: The file.
        scaling: Of pixels of 0 to 255, before the first of the layers.

    Raises:
        DoesNotFitError: The file has other layers, shapes, names or another scaling of pixels, or weights of an
            unsupported type. Some layers may already have been changed.
    """
    if scaling.uniform is None:
        raise DoesNotFitError("a scaling by channel cannot be told from its weights")
    keras = extras.need("keras", "train")
    kinds = {
        keras.layers.Conv2D: "CONV_2D",
        keras.layers.DepthwiseConv2D: "DEPTHWISE_CONV_2D",
        keras.layers.Dense: "FULLY_CONNECTED",
    }
    wanted = [(layer, kinds[type(layer)]) for layer in layers if type(layer) in kinds]
    graph = _Graph(content)
    has_head = any(kind == "FULLY_CONNECTED" for _, kind in wanted)
    found = [op for op in graph.operators if op.kind in kinds.values() and (has_head or op.kind != "FULLY_CONNECTED")]
    if [op.kind for op in found] != [kind for _, kind in wanted]:
        raise DoesNotFitError(f"it has {len(found)} convolutions and dense layers, the network has {len(wanted)}")
    norms = {id(layer.input): layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)}
    for operator, (layer, _) in zip(found, wanted, strict=True):
        _take_layer(graph, operator, layer, norms.pop(id(layer.output), None))
    if norms:
        raise DoesNotFitError(f"batch norm was not folded in {', '.join(layer.name for layer in norms.values())}")
    _take_scaling(layers, graph.scaling_before(found[0]), scaling.uniform)


def _take_layer(graph: _Graph, operator: _Operator, layer: Any, norm: Any) -> None:
    if not any(part.startswith(layer.name) for part in operator.names):
        raise DoesNotFitError(f"instead of {layer.name} it has {operator.names[0]}")
    weights, bias = graph.weights_and_bias(operator)
    kernel = weights.transpose(_KERNEL_AXES[operator.kind])
    if kernel.shape != tuple(layer.kernel.shape):
        raise DoesNotFitError(f"{layer.name} has weights of {kernel.shape}, not {tuple(layer.kernel.shape)}")
    layer.kernel.assign(kernel)
    if norm is not None:
        if layer.use_bias:
            layer.bias.assign(np.zeros_like(bias))
        _make_addition(norm, bias)
    elif layer.use_bias:
        layer.bias.assign(bias)
    elif bias.any():
        raise DoesNotFitError(f"{layer.name} has a bias")


def _make_addition(norm: Any, bias: _Floats) -> None:
    """Make a batch-norm layer only add ``bias`` in inference mode."""
    norm.moving_variance.assign(np.full(bias.shape, 1 - np.float32(norm.epsilon), np.float32))
    norm.moving_mean.assign(np.zeros_like(bias) if norm.center else -bias)
    if norm.scale:
        norm.gamma.assign(np.ones_like(bias))
    if norm.center:
        norm.beta.assign(bias)


def _take_scaling(layers: Sequence[Any], found: tuple[_Floats, _Floats], scaling: tuple[float, float]) -> None:
    """Make the network scale pixels like the file, in its normalization layer or else in its first layer's weights.

    Args:
        layers: Layers of the network.
        found: Scale and offset of pixels of 0 to 255 in the file, each of one value or of one for each channel.
        scaling: Scale and offset before the layers.
    """
    keras = extras.need("keras", "train")
    scale, offset = scaling
    for layer in layers:
        if isinstance(layer, keras.layers.Rescaling):
            scale, offset = scale * layer.scale, offset * layer.scale + layer.offset
        elif isinstance(layer, keras.layers.Normalization):
            deviation = scale / found[0]
            mean = offset - found[1] * deviation
            layer.set_weights([np.broadcast_to(array, 3) for array in (mean, deviation**2)] + layer.get_weights()[2:])
            layer.finalize_state()
            return
    if not np.allclose(found[1] / found[0], offset / scale, atol=_SCALING_TOLERANCE * 255):
        raise DoesNotFitError(f"it scales a pixel of 0 to {found[1].tolist()}, the network to {offset:g}")
    # A factor that a converter moved into the weights of the first layer, whose input channels are its third axis.
    first = next(layer for layer in layers if hasattr(layer, "kernel"))
    first.kernel.assign(np.asarray(first.kernel) * (found[0] / scale).reshape(-1, 1))


class _Operator:
    """An operator of a file: its kind, the indices of its tensors, and the layer names in its tensors' names."""

    def __init__(self, kind: str, inputs: list[int], output: int, names: list[str]) -> None:
        self.kind, self.inputs, self.output, self.names = kind, inputs, output, names


class _Graph:
    """The part of a TFLite file from the pixels to the probabilities."""

    def __init__(self, content: bytes) -> None:
        self._schema = extras.need("tensorflow.lite.python.schema_py_generated", "train")
        self._model = self._schema.ModelT.InitFromPackedBuf(content)
        (graph,) = self._model.subgraphs
        self._tensors = graph.tensors
        self.operators = list(self._that_lead_to(self._probability(graph), graph))

    def weights_and_bias(self, operator: _Operator) -> tuple[_Floats, _Floats]:
        """Return weights in TFLite's order, and one bias for each output channel."""
        weights = self._constant(operator.inputs[1])
        bias = operator.inputs[2] if len(operator.inputs) > 2 else -1
        channels = weights.shape[3 if operator.kind == "DEPTHWISE_CONV_2D" else 0]
        return weights, self._constant(bias) if bias >= 0 else np.zeros(channels, np.float32)

    def scaling_before(self, operator: _Operator) -> tuple[_Floats, _Floats]:
        """Return scale and offset from pixels to an operator's input, each one float or one for each channel."""
        makers = {each.output: each for each in self.operators}
        scale, offset = np.ones(1, np.float32), np.zeros(1, np.float32)
        at = operator.inputs[0]
        while (maker := makers.get(at)) is not None:
            if maker.kind in _ARITHMETIC and self._is_constant(maker.inputs[1]):
                value = self._constant(maker.inputs[1]).reshape(-1)
                if maker.kind in ("MUL", "DIV"):
                    scale = scale * (value if maker.kind == "MUL" else 1 / value)
                else:
                    offset = offset + scale * (value if maker.kind == "ADD" else -value)
            elif maker.kind != "QUANTIZE":
                raise DoesNotFitError(f"it applies {maker.kind} to the pixels first")
            at = maker.inputs[0]
        return scale, offset

    def _probability(self, graph: Any) -> int:
        for signature in self._model.signatureDefs or ():
            for output in signature.outputs:
                if output.name == PROBABILITY.encode():
                    return int(output.tensorIndex)
        return int(graph.outputs[0])

    def _that_lead_to(self, tensor: int, graph: Any) -> Iterator[_Operator]:
        kinds = {value: name for name, value in vars(self._schema.BuiltinOperator).items() if isinstance(value, int)}
        needed, chosen = {tensor}, []
        for operator in reversed(graph.operators):
            if needed.isdisjoint(operator.outputs):
                continue
            inputs = [int(index) for index in operator.inputs]
            needed.update(inputs)
            code = self._model.operatorCodes[operator.opcodeIndex]
            # Older files have the code in a one-byte field.
            kind = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
            output = int(operator.outputs[0])
            texts = [self._tensors[index].name.decode() for index in (output, *inputs[1:]) if index >= 0]
            names = [part for text in texts for part in text.replace(";", "/").split("/")]
            chosen.append(_Operator(kind, inputs, output, names))
        return reversed(chosen)

    def _is_constant(self, index: int) -> bool:
        return self._model.buffers[self._tensors[index].buffer].data is not None

    def _constant(self, index: int) -> _Floats:
        """Return a constant as float32, dequantized if it has integers."""
        tensor = self._tensors[index]
        types = {value: name for name, value in vars(self._schema.TensorType).items() if isinstance(value, int)}
        dtype = _DTYPES.get(types[tensor.type])
        if dtype is None or not self._is_constant(index):
            raise DoesNotFitError(f"{tensor.name.decode()} is not a constant of {', '.join(_DTYPES)}")
        shape = [] if tensor.shape is None else tensor.shape
        values = self._model.buffers[tensor.buffer].data.view(dtype).reshape(shape)
        quantization = tensor.quantization
        if quantization is None or quantization.scale is None:
            return np.asarray(values, dtype=np.float32)
        scale, zero = (np.asarray(each, np.float64) for each in (quantization.scale, quantization.zeroPoint))
        if scale.size > 1:
            along = [1] * values.ndim
            along[quantization.quantizedDimension] = -1
            scale, zero = scale.reshape(along), zero.reshape(along)
        return np.asarray((values - zero) * scale, dtype=np.float32)
