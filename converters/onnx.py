"""ONNX files from a trained Keras model. Runs in the child process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from converters import keras_model
from converters.formats import Format
from pneumo_edge import extras
from pneumo_edge.errors import ConversionError

OPSET = 17


def convert(model: Path, row: Format, calibration: npt.NDArray[np.uint8] | None, target: Path) -> None:
    """Convert a trained model to an ONNX file without a ModelSpec.

    Args:
        model: A ``.keras`` file of a functional model.
        row: An ONNX row of the formats table.
        calibration: Not used by the rows there are.
        target: The file to write.

    Raises:
        ConversionError: The graph has other inputs than the image.
    """
    tensorflow = extras.need("tensorflow", "convert")
    tf2onnx = extras.need("tf2onnx", "convert")
    onnx = extras.need("onnx", "convert")
    loaded = keras_model.load(model)
    signature = tensorflow.TensorSpec((1, *loaded.input_shape[1:]), tensorflow.float32, name="image")
    # Of tf2onnx's entries only this one freezes EfficientNetB0's normalization constants.
    proto, _ = tf2onnx.convert.from_keras(loaded, input_signature=[signature], opset=OPSET)
    inputs = [value.name for value in proto.graph.input]
    if inputs != ["image"]:
        raise ConversionError(f"the ONNX graph has the inputs {inputs}", "exactly one, image", "Report this as a bug")
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, str(target))
