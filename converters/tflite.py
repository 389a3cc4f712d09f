"""TFLite files from a trained Keras model. Runs in the child process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from converters import keras_model, metadata
from converters.formats import Format
from pneumo_edge import extras
from pneumo_edge.errors import ConversionError

#: Layers of up to this many weights keep float32 in ``fp16``.
SMALL_LAYER = 4096
#: Operators that ``int8`` leaves in float.
IN_FLOAT = ("SOFTMAX",)

Calibration = npt.NDArray[np.uint8] | None


def convert(model: Path, row: Format, calibration: Calibration, target: Path) -> None:
    """Convert a trained model to a TFLite file without a ModelSpec.

    Args:
        model: A ``.keras`` file.
        row: A TFLite row of the formats table.
        calibration: Representative pixels, uint8 of shape (images, height, width, 3), where the row
            is calibrated.
        target: The file to write.

    Raises:
        ConversionError: The quantized input does not take pixels as they are.
    """
    tensorflow = extras.need("tensorflow", "convert")
    converter = tensorflow.lite.TFLiteConverter.from_saved_model(keras_model.saved_model(model).name)
    content = _CONVERTERS[row.name](converter, calibration)
    if row.input_dtype == "uint8":
        _check_input(content)
    target.write_bytes(metadata.name_tensors(content))


def _fp32(converter: Any, calibration: Calibration) -> bytes:
    return bytes(converter.convert())


def _fp16(converter: Any, calibration: Calibration) -> bytes:
    """Weights in float16, but for depthwise convolutions and small layers, which feed large maps of features.

    They are few weights that cost most of the accuracy. TensorFlow's own float16 mode takes them too.
    """
    qtyping = extras.need("ai_edge_quantizer.qtyping", "convert")
    algorithms = extras.need("ai_edge_quantizer.algorithm_manager", "convert").AlgorithmName
    content = bytearray(converter.convert())
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


def _dynamic(converter: Any, calibration: Calibration) -> bytes:
    converter.optimizations = [extras.need("tensorflow", "convert").lite.Optimize.DEFAULT]
    # Per channel, the dense layer is FULLY_CONNECTED version 12, which tflite-runtime 2.14 does not have.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return bytes(converter.convert())


def _weight_only(converter: Any, calibration: Calibration) -> bytes:
    # TensorFlow's converter has no such mode.
    recipe = extras.need("ai_edge_quantizer.recipe", "convert")
    quantizer = extras.need("ai_edge_quantizer.quantizer", "convert")
    float_model = bytearray(converter.convert())
    quantized = quantizer.Quantizer(float_model, recipe.weight_only_wi8_afp32()).quantize()
    return bytes(quantized.quantized_model)


def _int8(converter: Any, calibration: Calibration) -> bytes:
    """Full-integer quantization up to the logits; the softmax stays in float32.

    An int8 softmax has 256 steps of probability, too coarse near 0 and 1 to place a threshold there.
    The quantization debugger is TensorFlow's only way to leave one kind of operator in float; it
    gives a file with float32 input, which is then made uint8.
    """
    tensorflow = extras.need("tensorflow", "convert")
    lite = tensorflow.lite
    _calibrate(converter, calibration, lite.OpsSet.TFLITE_BUILTINS_INT8)
    debugger = lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=converter.representative_dataset,
        debug_options=lite.experimental.QuantizationDebugOptions(denylisted_ops=list(IN_FLOAT)),
    )
    util = extras.need("tensorflow.lite.python.util", "convert")
    return bytes(
        util.modify_model_io_type(bytes(debugger.get_nondebug_quantized_model()), tensorflow.uint8, tensorflow.float32)
    )


def _integer_only(converter: Any, calibration: Calibration) -> bytes:
    tensorflow = extras.need("tensorflow", "convert")
    _calibrate(converter, calibration, tensorflow.lite.OpsSet.TFLITE_BUILTINS_INT8)
    converter.inference_input_type = converter.inference_output_type = tensorflow.uint8
    return bytes(converter.convert())


def _int16x8(converter: Any, calibration: Calibration) -> bytes:
    opsets = extras.need("tensorflow", "convert").lite.OpsSet
    _calibrate(converter, calibration, opsets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8)
    return bytes(converter.convert())


def _calibrate(converter: Any, calibration: Calibration, opset: Any) -> None:
    """Set a converter to integer operators alone, with ranges from the representative dataset."""
    if calibration is None:
        raise ValueError("full-integer quantization takes a representative dataset")
    pixels = calibration

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


_CONVERTERS = {
    "fp32": _fp32,
    "fp16": _fp16,
    "dynamic": _dynamic,
    "weight-only": _weight_only,
    "int8": _int8,
    "integer-only": _integer_only,
    "int16x8": _int16x8,
}
