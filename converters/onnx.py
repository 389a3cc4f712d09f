"""ONNX files from a trained Keras model: one function for each way of converting. Runs in the child process."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import extras, scratch
from pneumo_edge.converters import keras_model, ranges
from pneumo_edge.converters.interface import Calibration, Converted, Network, representative
from pneumo_edge.converters.keras_model import OUTPUTS
from pneumo_edge.converters.tflite import SMALL_LAYER
from pneumo_edge.errors import ConversionError
from pneumo_edge.spec import PROBABILITY

OPSET = 17
_INPUT = "image"
#: Operators that static quantization leaves in float, for the reason that `tflite.IN_FLOAT` gives.
_IN_FLOAT = frozenset({"Softmax"})


def fp32(network: Network, calibration: Calibration) -> Converted:
    """All numbers in float32."""
    return _checked(_float32(network).SerializeToString())


def fp16(network: Network, calibration: Calibration) -> Converted:
    """Weights in float16, except for depthwise convolutions and small layers.

    The same layers as in :func:`pneumo_edge.converters.tflite.fp16`.
    """
    return _checked(_half_weights(_float32(network)).SerializeToString())


def dynamic(network: Network, calibration: Calibration) -> Converted:
    """Weights in int8, except for depthwise convolutions; activations are quantized at run time."""
    quantization = extras.need("onnxruntime.quantization", "convert")
    with _prepared(network) as prepared:
        made = prepared.with_name("quantized.onnx")
        # This mode has one scale per layer, which is too coarse for a depthwise convolution.
        depthwise = [node.name for node in _nodes(prepared) if _is_depthwise(node)]
        quantization.quantize_dynamic(str(prepared), str(made), nodes_to_exclude=depthwise, **_weights())
        return _checked(made.read_bytes())


def int8(network: Network, calibration: Calibration) -> Converted:
    """Weights in 8 bits per channel and activations in 8 bits, both uint8 (QDQ); softmax in float32."""
    with _prepared(network) as prepared:
        in_float = [node.name for node in _nodes(prepared) if node.op_type in _IN_FLOAT]
        share, content = _quantize_static(
            prepared, representative(calibration), nodes_to_exclude=in_float, **_weights()
        )
        return _checked(content, share)


def _checked(content: bytes, share: float = 1.0) -> Converted:
    check(content)
    return Converted(content, share)


def check(content: bytes) -> None:
    """Refuse an ONNX file whose graph other clients might not accept.

    Raises:
        ConversionError: It has another input than the image, outputs other than a model file's or in another order,
            an initializer among its inputs, or a tensor whose shape cannot be inferred.
        Exception: ``onnx.checker`` refuses it.
    """
    onnx = extras.need("onnx", "convert")
    proto = onnx.load_from_string(content)
    names = [value.name for value in proto.graph.input], [value.name for value in proto.graph.output]
    known = [name for name in OUTPUTS if name in names[1]]
    if names != ([_INPUT], known) or PROBABILITY not in known:
        raise ConversionError(
            f"the ONNX graph has the inputs {names[0]} and the outputs {names[1]}",
            f"{_INPUT}, and of {', '.join(OUTPUTS)} the first at least, in this order",
            "Report this as a bug",
        )
    onnx.checker.check_model(proto, full_check=True)
    unknown = _without_shape(onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True).graph)
    if unknown:
        raise ConversionError(
            f"the ONNX graph has tensors of unknown shape, such as {unknown[0]}", "none", "Report this as a bug"
        )


def _without_shape(graph: Any) -> list[str]:
    known = {
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
        and all(dimension.HasField("dim_value") for dimension in value.type.tensor_type.shape.dim)
    }
    # Operators outside the standard have no shape inference.
    made = (name for node in graph.node if not node.domain for name in node.output if name)
    return [name for name in made if name not in known]


@functools.lru_cache(maxsize=1)
def _float32(network: Network) -> Any:
    tensorflow = extras.need("tensorflow", "convert")
    tf2onnx = extras.need("tf2onnx", "convert")
    loaded = keras_model.load(network)
    signature = tensorflow.TensorSpec((1, *loaded.input_shape[1:]), tensorflow.float32, name=_INPUT)
    # Only this entry point of tf2onnx freezes EfficientNetB0's normalization constants.
    proto, _ = tf2onnx.convert.from_keras(loaded, input_signature=[signature], opset=OPSET)
    outputs = sorted(proto.graph.output, key=lambda output: OUTPUTS.index(output.name))
    del proto.graph.output[:]
    proto.graph.output.extend(outputs)
    return proto


def _half_weights(proto: Any) -> Any:
    """A copy whose weights are stored in float16 and cast to float32 when the file is loaded.

    A CPU computes in float32 either way. Which weights keep float32, and why, is said in
    :func:`pneumo_edge.converters.tflite.fp16`.
    """
    onnx = extras.need("onnx", "convert")
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    depthwise = {node.input[1] for node in copy.graph.node if _is_depthwise(node)}
    casts = []
    for tensor in copy.graph.initializer:
        kept = tensor.name in depthwise or np.prod(tensor.dims) <= SMALL_LAYER
        if tensor.data_type == onnx.TensorProto.FLOAT and not kept:
            name, stored = tensor.name, f"{tensor.name}:float16"
            weights = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights, stored))
            casts.append(
                onnx.helper.make_node("Cast", [stored], [name], name=f"{name}:cast", to=onnx.TensorProto.FLOAT)
            )
    for position, cast in enumerate(casts):
        copy.graph.node.insert(position, cast)
    return copy


@contextlib.contextmanager
def _prepared(network: Network) -> Iterator[Path]:
    """The float file prepared for quantization, in a temporary folder."""
    onnx = extras.need("onnx", "convert")
    shapes = extras.need("onnxruntime.quantization.shape_inference", "convert")
    with scratch.folder() as folder:
        plain, prepared = folder / "plain.onnx", folder / "prepared.onnx"
        onnx.save(_float32(network), str(plain))
        # It folds batch norm and infers every shape; its symbolic part would need another library.
        shapes.quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        yield prepared


def _nodes(path: Path) -> Any:
    return extras.need("onnx", "convert").load(str(path)).graph.node


def _weights() -> dict[str, Any]:
    """Options of onnxruntime's quantization: symmetric, 8 bits, per channel."""
    return {"weight_type": extras.need("onnxruntime.quantization", "convert").QuantType.QInt8, "per_channel": True}


def _quantize_static(prepared: Path, calibration: npt.NDArray[np.uint8], **options: Any) -> tuple[float, bytes]:
    quantization = extras.need("onnxruntime.quantization", "convert")
    images, made = ranges.choose_images(calibration), prepared.with_name("quantized.onnx")

    def quantize(narrower: ranges.Ranges) -> bytes:
        overrides = {
            name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in narrower.items()
        }
        quantization.quantize_static(
            str(prepared),
            str(made),
            _reader(calibration),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            extra_options={"TensorQuantOverrides": overrides},
            # So that the ranges are computed once.
            calibration_cache_path=str(prepared.with_name("ranges.json")),
            **options,
        )
        return _unsigned_weights(made)

    return ranges.choose(*_watch(prepared, images), quantize, lambda content: _probabilities(content, images))


def _unsigned_weights(path: Path) -> bytes:
    """The file with each int8 weight w as the uint8 w + 128, and its zero point so too: the same numbers.

    onnxruntime multiplies uint8 activations with int8 weights by instructions that add two products in 16 bits, and
    what is larger is cut off: in every layer on x86-64 without VNNI, and in depthwise ones with it. Products with
    uint8 weights it adds in 32 bits on every processor, with every option of the client.
    """
    onnx = extras.need("onnx", "convert")
    proto = onnx.load(str(path))
    int8, uint8 = onnx.TensorProto.INT8, onnx.TensorProto.UINT8
    for tensor in proto.graph.initializer:
        if tensor.data_type == int8:
            values = onnx.numpy_helper.to_array(tensor).astype(np.int16) + 128
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.uint8), tensor.name))
    for value in proto.graph.value_info:
        if value.type.tensor_type.elem_type == int8:
            value.type.tensor_type.elem_type = uint8
    return bytes(proto.SerializeToString())


def _is_depthwise(node: Any) -> bool:
    return node.op_type == "Conv" and any(each.name == "group" and each.i > 1 for each in node.attribute)


def _watch(path: Path, images: npt.NDArray[np.uint8]) -> tuple[ranges.Floats, ranges.Values]:
    """Probabilities of a float file for images, and the values of its feature maps by name."""
    onnx = extras.need("onnx", "convert")
    proto = onnx.load(str(path))
    shapes = {
        value.name: [each.dim_value for each in value.type.tensor_type.shape.dim] for value in proto.graph.value_info
    }
    maps = [name for name, shape in shapes.items() if ranges.is_feature_map(np.prod(shape))]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in (PROBABILITY, *maps))
    session = _session(proto.SerializeToString())
    values, probabilities = ranges.Values(), []
    for image in images:
        (said,), *seen = session.run(None, {_INPUT: image[np.newaxis].astype(np.float32)})
        probabilities.append(said)
        for name, feature_map in zip(maps, seen, strict=True):
            values.add(name, feature_map)
    return np.array(probabilities), values


def _probabilities(content: bytes, images: npt.NDArray[np.uint8]) -> ranges.Floats:
    session = _session(content)
    return np.concatenate(
        [session.run([PROBABILITY], {_INPUT: image[np.newaxis].astype(np.float32)})[0] for image in images]
    )


def _session(content: bytes) -> Any:
    return extras.need("onnxruntime", "convert").InferenceSession(content, providers=["CPUExecutionProvider"])


def _reader(calibration: npt.NDArray[np.uint8]) -> Any:
    quantization = extras.need("onnxruntime.quantization", "convert")
    images: Iterator[npt.NDArray[np.uint8]] = iter(calibration)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        """Yields the representative dataset, image by image."""

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            image = next(images, None)
            return None if image is None else {_INPUT: image[np.newaxis].astype(np.float32)}

    return Reader()
