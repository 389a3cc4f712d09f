"""TFLite files from a trained Keras model. Runs in the child process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from converters import keras_model
from converters.formats import Format
from pneumo_edge import extras
from pneumo_edge.errors import ConversionError


def convert(model: Path, row: Format, calibration: npt.NDArray[np.uint8] | None, target: Path) -> None:
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
    target.write_bytes(_CONVERTERS[row.name](converter, calibration))


def _fp32(converter: Any, calibration: npt.NDArray[np.uint8] | None) -> bytes:
    return bytes(converter.convert())


def _fp16(converter: Any, calibration: npt.NDArray[np.uint8] | None) -> bytes:
    tensorflow = extras.need("tensorflow", "convert")
    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tensorflow.float16]
    return bytes(converter.convert())


def _int8(converter: Any, calibration: npt.NDArray[np.uint8] | None) -> bytes:
    """Full-integer quantization up to the logits; the softmax stays in float32.

    An int8 softmax has 256 steps of probability, too coarse near 0 and 1 to place a threshold there.
    The quantization debugger is TensorFlow's only way to leave one kind of operator in float; it
    gives a file with float32 input, which is then made uint8.
    """
    tensorflow = extras.need("tensorflow", "convert")
    lite = tensorflow.lite
    if calibration is None:
        raise ValueError("full-integer quantization takes a representative dataset")

    def representative_dataset() -> Iterator[list[npt.NDArray[np.float32]]]:
        for image in calibration:
            yield [image[np.newaxis].astype(np.float32)]

    converter.optimizations = [lite.Optimize.DEFAULT]
    converter.representative_dataset = representative_dataset
    converter.target_spec.supported_ops = [lite.OpsSet.TFLITE_BUILTINS_INT8]
    debugger = lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=representative_dataset,
        debug_options=lite.experimental.QuantizationDebugOptions(denylisted_ops=["SOFTMAX"]),
    )
    util = extras.need("tensorflow.lite.python.util", "convert")
    content = util.modify_model_io_type(
        bytes(debugger.get_nondebug_quantized_model()), tensorflow.uint8, tensorflow.float32
    )
    _check_input(bytes(content))
    return bytes(content)


def _check_input(content: bytes) -> None:
    litert = extras.need("ai_edge_litert.interpreter", "convert")
    (image,) = litert.Interpreter(model_content=content).get_input_details()
    if image["dtype"] is not np.uint8 or image["quantization"] != (1.0, 0):
        raise ConversionError(
            f"the quantized input is {np.dtype(image['dtype']).name} with scale and zero point {image['quantization']}",
            "uint8 with (1.0, 0), so that pixels go in as they are",
            "Calibrate on images that span 0 to 255",
        )


_CONVERTERS = {"fp32": _fp32, "fp16": _fp16, "int8": _int8}
