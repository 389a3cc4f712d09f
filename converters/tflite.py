"""TFLite files from a trained Keras model: one function for each way of converting. Runs in the child process."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import extras
from pneumo_edge.converters import keras_model, ranges
from pneumo_edge.converters.interface import Calibration, Converted, Network, representative
from pneumo_edge.converters.metadata.tflite import name_tensors
from pneumo_edge.errors import ConversionError
from pneumo_edge.spec import PROBABILITY

#: Layers of up to this many weights keep float32 in ``fp16``.
SMALL_LAYER = 4096
#: Operators that ``int8`` leaves in float: of 256 steps of probability too few are near 0 and 1 to place a threshold.
IN_FLOAT = ("SOFTMAX",)


@dataclass(frozen=True)
class Operator:
    """An operator of a TFLite file: its kind, as TFLite names it, and the name of its output tensor."""

    kind: str
    name: str


def fp32(network: Network, calibration: Calibration) -> Converted:
    """All numbers in float32."""
    return _finished(_float32(network))


def fp16(network: Network, calibration: Calibration) -> Converted:
    """Weights in float16, except for depthwise convolutions and small layers, which feed large feature maps.

    These few weights would cost most of the accuracy. TensorFlow's own float16 mode converts them, too.
    """
    return _finished(_half_weights(_float32(network)))


def dynamic(network: Network, calibration: Calibration) -> Converted:
    """Weights in int8; activations are quantized at run time."""
    converter = _converter(network)
    converter.optimizations = [extras.need("tensorflow", "convert").lite.Optimize.DEFAULT]
    # Per channel, the dense layer is FULLY_CONNECTED version 12, which tflite-runtime 2.14 does not have.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return _finished(bytes(converter.convert()))


def weight_only(network: Network, calibration: Calibration) -> Converted:
    """Weights in int8 per channel; arithmetic in float32."""
    # TensorFlow's converter has no such mode.
    recipe = extras.need("ai_edge_quantizer.recipe", "convert")
    quantizer = extras.need("ai_edge_quantizer.quantizer", "convert")
    quantized = quantizer.Quantizer(bytearray(_float32(network)), recipe.weight_only_wi8_afp32()).quantize()
    return _finished(bytes(quantized.quantized_model))


def int8(network: Network, calibration: Calibration, in_float: tuple[str, ...] = IN_FLOAT) -> Converted:
    """Weights and activations in int8, from uint8 pixels to probabilities in float32.

    ``in_float`` are the kinds of operators that stay in float.
    """
    return _full_integer(network, calibration, lambda with_ranges: _quantized(with_ranges, "float32", in_float))


def write_with_ranges(network: Network, calibration: Calibration, target: Path) -> float:
    """Write the float file, with ranges, that :func:`int8` quantizes.

    Returns:
        :attr:`pneumo_edge.converters.interface.Converted.share`.
    """
    images = representative(calibration)
    share, with_ranges = _with_ranges(network, images.tobytes(), images.shape)
    target.write_bytes(with_ranges)
    return share


def operators(with_ranges: Path) -> list[Operator]:
    """Operators of a file of :func:`write_with_ranges` that lead to the probabilities and that ``int8`` quantizes.

    Returns:
        They are in the order of the graph. Quantized one by one or left in float, see :func:`mixed` and
        :func:`mixed_answers`.
    """
    schema = extras.need("ai_edge_litert.schema_py_generated", "convert")
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    model = schema.ModelT.InitFromPackedBuf(bytearray(with_ranges.read_bytes()))
    graph, (signature,) = model.subgraphs[0], model.signatureDefs
    needed = {entry.tensorIndex for entry in signature.outputs if entry.name.decode() == PROBABILITY}
    found = []
    for each in reversed(graph.operators):
        if needed.intersection(each.outputs):
            needed.update(each.inputs)
            code = model.operatorCodes[each.opcodeIndex]
            kind = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            found.append(Operator(kind, graph.tensors[each.outputs[0]].name.decode()))
    return [each for each in reversed(found) if each.kind not in IN_FLOAT]


def mixed(with_ranges: Path, in_float: Sequence[Operator], target: Path) -> None:
    """Quantize a file of :func:`write_with_ranges` as :func:`int8` does, except some operators.

    Raises:
        ConversionError: As :func:`int8`.
    """
    content = _int8(with_ranges.read_bytes(), in_float)
    _check_input(content)
    target.write_bytes(_finished(content).content)


def mixed_answers(
    with_ranges: Path, in_float: Sequence[Operator], images: npt.NDArray[np.uint8]
) -> npt.NDArray[np.floating[Any]]:
    """Probabilities of the file of :func:`mixed` for images, of shape (images, classes)."""
    return _probabilities(_int8(with_ranges.read_bytes(), in_float), images)


def integer_only(network: Network, calibration: Calibration) -> Converted:
    """As :func:`int8`, including the softmax: uint8 pixels in, uint8 probabilities out."""
    return _full_integer(network, calibration, lambda with_ranges: _quantized(with_ranges, "uint8"))


def int16x8(network: Network, calibration: Calibration) -> Converted:
    """Weights in int8 per channel and activations in int16."""
    converter = _converter(network)
    opsets = extras.need("tensorflow", "convert").lite.OpsSet
    _calibrate(
        converter, representative(calibration), opsets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    )
    return _finished(bytes(converter.convert()))


def _finished(content: bytes, share: float = 1.0) -> Converted:
    return Converted(name_tensors(content), share)


def _full_integer(network: Network, calibration: Calibration, quantize: Callable[[bytes], bytes]) -> Converted:
    images = representative(calibration)
    share, with_ranges = _with_ranges(network, images.tobytes(), images.shape)
    content = quantize(with_ranges)
    _check_input(content)
    return _finished(content, share)


def _converter(network: Network) -> Any:
    tensorflow = extras.need("tensorflow", "convert")
    return tensorflow.lite.TFLiteConverter.from_saved_model(str(keras_model.saved_model(network)))


# The base of several formats.
@functools.lru_cache(maxsize=1)
def _float32(network: Network) -> bytes:
    return bytes(_converter(network).convert())


def _half_weights(float32: bytes) -> bytes:
    qtyping = extras.need("ai_edge_quantizer.qtyping", "convert")
    algorithms = extras.need("ai_edge_quantizer.algorithm_manager", "convert").AlgorithmName
    content = bytearray(float32)
    quantizer = extras.need("ai_edge_quantizer.quantizer", "convert").Quantizer(content)
    half = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    for operator in (qtyping.TFLOperationName.CONV_2D, qtyping.TFLOperationName.FULLY_CONNECTED):
        quantizer.update_quantization_recipe(
            regex=".*", operation_name=operator, op_config=half, algorithm_key=algorithms.FLOAT_CASTING
        )
        for name in _small_layers(content):
            quantizer.update_quantization_recipe(
                regex=re.escape(name), operation_name=operator, algorithm_key=algorithms.NO_QUANTIZE
            )
    return bytes(quantizer.quantize().quantized_model)


def _small_layers(content: bytearray) -> list[str]:
    """Names of the outputs of operators with few weights."""
    graph = extras.need("ai_edge_litert.schema_py_generated", "convert").ModelT.InitFromPackedBuf(content).subgraphs[0]
    return [
        graph.tensors[operator.outputs[0]].name.decode()
        for operator in graph.operators
        if len(operator.inputs) > 1 and np.prod(graph.tensors[operator.inputs[1]].shape) <= SMALL_LAYER
    ]


def _int8(with_ranges: bytes, in_float: Sequence[Operator] = ()) -> bytes:
    return _quantized(with_ranges, "float32", IN_FLOAT, [each.name for each in in_float])


def _quantized(
    with_ranges: bytes, output: str, kinds_in_float: Sequence[str] = (), in_float: Sequence[str] = ()
) -> bytes:
    """Quantize all operators except some, by kind and by name, from uint8 pixels to outputs of a type."""
    tensorflow = extras.need("tensorflow", "convert")
    # The converter's own second half, which alone can leave operators in float.
    quantize = extras.need("tensorflow.lite.python.convert", "convert").mlir_quantize
    types = {"input_data_type": tensorflow.uint8, "output_data_type": tensorflow.as_dtype(output)}
    return bytes(
        quantize(with_ranges, denylisted_ops=list(kinds_in_float), denylisted_nodes=list(in_float) or None, **types)
    )


# Two entries, because each file is also made from other images.
@functools.lru_cache(maxsize=2)
def _with_ranges(network: Network, pixels: bytes, shape: tuple[int, ...]) -> tuple[float, bytes]:
    """The share of :class:`Converted`; and the float file with ranges, from which the quantizer takes them."""
    images = np.frombuffer(pixels, np.uint8).reshape(shape)
    converter = _converter(network)
    _calibrate(converter, images, extras.need("tensorflow", "convert").lite.OpsSet.TFLITE_BUILTINS_INT8)
    converter._experimental_calibrate_only = True
    whole = bytes(converter.convert())
    chosen_by = ranges.choose_images(images)
    return ranges.choose(
        *_watch(whole, chosen_by),
        lambda narrower: _narrowed(whole, narrower),
        lambda content: _probabilities(_int8(content), chosen_by),
    )


def _watch(content: bytes, images: npt.NDArray[np.uint8]) -> tuple[ranges.Floats, ranges.Values]:
    """Probabilities that a float file gives of images, and values of its feature maps by their tensors' indices."""
    litert = extras.need("ai_edge_litert.interpreter", "convert")
    # A delegate would keep the feature maps to itself.
    undelegated = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = litert.Interpreter(
        model_content=content, experimental_preserve_all_tensors=True, experimental_op_resolver_type=undelegated
    )
    run = interpreter.get_signature_runner()
    maps, values, probabilities = _feature_maps(content), ranges.Values(), []
    for image in images:
        probabilities.append(run(image=image[np.newaxis].astype(np.float32))[PROBABILITY][0])
        for index in maps:
            values.add(index, interpreter.get_tensor(index))
    return np.array(probabilities), values


def _probabilities(content: bytes, images: npt.NDArray[np.uint8]) -> ranges.Floats:
    run = extras.need("ai_edge_litert.interpreter", "convert").Interpreter(model_content=content).get_signature_runner()
    return np.array([run(image=image[np.newaxis])[PROBABILITY][0] for image in images])


def _feature_maps(content: bytes | bytearray) -> dict[int, Any]:
    """Of each feature map inside a float file, by its tensor's index, the range that it has."""
    schema = extras.need("ai_edge_litert.schema_py_generated", "convert")
    graph = schema.Model.GetRootAs(content).Subgraphs(0)
    tensors = {index: graph.Tensors(index) for index in range(graph.TensorsLength())}
    return {
        index: tensor.Quantization()
        for index, tensor in tensors.items()
        # The image keeps its range, so that pixels go in as they are; a constant has a range for each channel, or none.
        if index not in graph.InputsAsNumpy()
        and ranges.is_feature_map(np.prod(tensor.ShapeAsNumpy()))
        and tensor.Quantization()
        and tensor.Quantization().MinLength() == 1
    }


def _narrowed(content: bytes, narrower: ranges.Ranges) -> bytes:
    """Put ranges of feature maps in the place of those that a float file has, as far as they are narrower."""
    narrowed = bytearray(content)
    feature_maps = _feature_maps(narrowed)
    for index, (low, high) in narrower.items():
        least, most = feature_maps[index].MinAsNumpy(), feature_maps[index].MaxAsNumpy()
        least[0], most[0] = max(least[0], low), min(most[0], high)
    return bytes(narrowed)


def _calibrate(converter: Any, pixels: npt.NDArray[np.uint8], opset: Any) -> None:
    """Set a converter to integer operators only, with ranges from the representative dataset."""

    def representative_dataset() -> Iterator[list[npt.NDArray[np.float32]]]:
        for image in pixels:
            yield [image[np.newaxis].astype(np.float32)]

    converter.optimizations = [extras.need("tensorflow", "convert").lite.Optimize.DEFAULT]
    converter.representative_dataset = representative_dataset
    converter.target_spec.supported_ops = [opset]


def _check_input(content: bytes) -> None:
    litert = extras.need("ai_edge_litert.interpreter", "convert")
    (image,) = litert.Interpreter(model_content=content).get_input_details()
    if image["dtype"] is not np.uint8 or image["quantization"] != (1.0, 0):
        raise ConversionError(
            f"the quantized input is {np.dtype(image['dtype']).name} with scale and zero point {image['quantization']}",
            "uint8 with (1.0, 0), so that pixels go in as they are",
            "Calibrate on images that span 0 to 255",
        )
