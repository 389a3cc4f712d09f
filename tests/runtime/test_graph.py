"""What is inside a graph, against numbers by hand, published ones, and what an engine's memory gives away."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumo_edge import bundled
from pneumo_edge._util import extras
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.engines import Engine
from pneumo_edge.runtime.engines.graph import Graph
from pneumo_edge.runtime.engines.inspection import inspect

_TFLITE_ENGINES = ["litert", "tflite-runtime"]
_on_both = pytest.mark.parametrize("engine", _TFLITE_ENGINES)


def _load(path: Path, engine: str) -> Engine:
    if not extras.is_installed(engines.ENGINES[engine].library):
        pytest.skip(f"{engine} is not installed")
    return engines.load(path, engines.ENGINES[engine])


# Files of the converters


@pytest.mark.parametrize(
    ("file", "engine"),
    [
        *((file, engine) for file in ("tiny-fp32.tflite", "tiny-int8.tflite") for engine in _TFLITE_ENGINES),
        ("tiny-fp32.onnx", "onnxruntime"),
    ],
)
def test_the_tiny_model_is_what_it_is_by_hand(tiny_models: Path, file: str, engine: str) -> None:
    graph = _load(tiny_models / file, engine).read_graph()
    convolution, heatmap, dense = 16 * 16 * 3 * 2, 2, 2 * 2
    assert graph.multiply_adds == 14 * 14 * (convolution + heatmap) + dense
    # A bias of zeros, as all layers have, is left out by a converter where the format lets it.
    assert graph.parameters - convolution - heatmap - dense in range(2 + 1 + 2 + 1)
    layers = ("CONV_2D", "FULLY_CONNECTED") if file.endswith(".tflite") else ("Conv", "MatMul")
    assert [graph.operators[name] for name in layers] == [2, 1]


# Keras's counts of the networks without top, all parameters and those not trained. The latter are two for each channel
# of a batch normalization, and seven of EfficientNetB0's input normalization. Multiply-adds as in the papers, with a
# head of 1000 classes.
@_on_both
@pytest.mark.parametrize(
    ("name", "parameters", "not_trained", "normalization", "middle", "multiply_adds"),
    [
        ("mobilenetv2", 2_257_984, 34_112, 0, (32, 64, 96), 300e6),
        ("efficientnetb0", 4_049_571, 42_023, 7, (40, 80, 112), 390e6),
    ],
)
def test_the_bundled_models_are_what_the_literature_says(
    engine: str,
    name: str,
    parameters: int,
    not_trained: int,
    normalization: int,
    middle: tuple[int, ...],
    multiply_adds: float,
) -> None:
    graph = _load(bundled.path(name), engine).read_graph()
    channels = (not_trained - normalization) // 2
    # A folded batch normalization leaves a bias of each channel's four numbers.
    # The head is one dense layer for two classes, and that of the heatmap; the input check has 48 components of the
    # quarters of each map in the middle, and 16 of the brightness of 64 patches.
    heads = 3 * 1281 + sum(48 * (4 * width + 1) for width in middle) + 14 * 14 * 3 + 1 + 16 * (64 + 1)
    assert graph.parameters == parameters - normalization - 3 * channels + heads
    assert graph.multiply_adds == pytest.approx(multiply_adds - 1280 * 998, rel=0.02)


@pytest.mark.parametrize("name", bundled.NAMES)
def test_both_engines_see_the_same_graph(name: str) -> None:
    one, other = (_load(bundled.path(name), engine).read_graph() for engine in _TFLITE_ENGINES)
    assert one == other


@_on_both
@pytest.mark.parametrize("file", ["tiny-fp32.tflite", "tiny-int8.tflite", *bundled.NAMES])
def test_delegated_is_what_the_interpreter_keeps_no_tensors_of(tiny_models: Path, file: str, engine: str) -> None:
    path = bundled.path(file) if file in bundled.NAMES else tiny_models / file
    _check_delegation(_load(path, engine))


def _check_delegation(loaded: Engine) -> None:
    """Between two operators of one partition the interpreter has no memory for the tensor."""
    interpreter = loaded._interpreter  # type: ignore[attr-defined]
    nodes = interpreter._get_ops_details()
    partitions = [node for node in nodes if node["op_name"] == "DELEGATE"]
    leaving = {int(tensor) for node in partitions for tensor in node["outputs"]}
    taken: Counter[str] = Counter()
    for node in nodes:
        if node["op_name"] != "DELEGATE":
            (output,) = map(int, node["outputs"])
            try:
                interpreter.get_tensor(output)
                inside = output in leaving
            except ValueError:
                inside = True
            taken[node["op_name"]] += inside
    assert loaded.delegation.operators == +taken
    assert loaded.delegation.partitions == len(partitions)


# Graphs by hand

_IMAGE = (1, 8, 8, 3)


def _tflite(path: Path, tensors: dict[str, tuple[Sequence[int], Any]], operators: list[Any]) -> Path:
    """Write a TFLite file whose tensors are given by shape and values, or dtype where there are none."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    codes: list[int] = []
    buffers = [schema.BufferT()]
    described = []
    for name, (shape, values) in tensors.items():
        constant = isinstance(values, np.ndarray)
        if constant:
            buffers.append(schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8)))
        kind = {"float32": schema.TensorType.FLOAT32, "float16": schema.TensorType.FLOAT16}
        described.append(
            schema.TensorT(
                shape=list(shape),
                type=kind[np.dtype(values.dtype if constant else values).name],
                buffer=len(buffers) - 1 if constant else 0,
                name=name,
            )
        )
    index = {name: i for i, name in enumerate(tensors)} | {"": -1}
    written = []
    for code, inputs, output, options in operators:
        if code not in codes:
            codes.append(code)
        kind_of_options = type(options).__name__.removesuffix("T") if options else "NONE"
        written.append(
            schema.OperatorT(
                opcodeIndex=codes.index(code),
                inputs=[index[name] for name in inputs],
                outputs=[index[output]],
                builtinOptionsType=getattr(schema.BuiltinOptions, kind_of_options),
                builtinOptions=options,
            )
        )
    last = operators[-1][2]
    subgraph = schema.SubGraphT(tensors=described, inputs=[index["image"]], outputs=[index[last]], operators=written)
    model = schema.ModelT(
        version=3,
        operatorCodes=[schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=1) for code in codes],
        subgraphs=[subgraph],
        buffers=buffers,
    )
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    return path


@_on_both
def test_weights_behind_a_dequantization_a_missing_bias_and_two_partitions(engine: str, tmp_path: Path) -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    code = schema.BuiltinOperator
    same = schema.Padding.SAME
    tensors: dict[str, tuple[Sequence[int], Any]] = {
        "image": (_IMAGE, np.float32),
        "half": ((5, 3, 3, 3), np.ones((5, 3, 3, 3), np.float16)),
        "weights": ((5, 3, 3, 3), np.float32),
        "bias": ((5,), np.ones(5, np.float32)),
        "map": ((1, 4, 4, 5), np.float32),
        "kernels": ((1, 3, 3, 5), np.ones((1, 3, 3, 5), np.float32)),
        "deep": ((1, 4, 4, 5), np.float32),
        "unit": ((1, 4, 4, 5), np.float32),
        "matrix": ((2, 80), np.ones((2, 80), np.float32)),
        "logits": ((1, 2), np.float32),
    }
    convolution = schema.Conv2DOptionsT(padding=same, strideH=2, strideW=2)
    depthwise = schema.DepthwiseConv2DOptionsT(padding=same, strideH=1, strideW=1, depthMultiplier=1)
    operators = [
        (code.DEQUANTIZE, ["half"], "weights", None),
        (code.CONV_2D, ["image", "weights", "bias"], "map", convolution),
        (code.DEPTHWISE_CONV_2D, ["map", "kernels", "bias"], "deep", depthwise),
        # XNNPACK has none.
        (code.L2_NORMALIZATION, ["deep"], "unit", schema.L2NormOptionsT()),
        (code.FULLY_CONNECTED, ["unit", "matrix", ""], "logits", schema.FullyConnectedOptionsT()),
    ]
    loaded = _load(_tflite(tmp_path / "hand.tflite", tensors, operators), engine)
    names = ("DEQUANTIZE", "CONV_2D", "DEPTHWISE_CONV_2D", "L2_NORMALIZATION", "FULLY_CONNECTED")
    assert loaded.read_graph() == Graph(
        operators=dict.fromkeys(names, 1),
        parameters=5 * 3 * 3 * 3 + 5 + 5 * 3 * 3 + 5 + 2 * 80,
        multiply_adds=4 * 4 * 5 * 3 * 3 * 3 + 4 * 4 * 5 * 3 * 3 + 2 * 80,
    )
    assert loaded.delegation.to == "XNNPACK"
    assert loaded.delegation.partitions == 2
    assert loaded.delegation.operators == dict.fromkeys(set(names) - {"L2_NORMALIZATION"}, 1)
    _check_delegation(loaded)


def _onnx(path: Path, nodes: Sequence[Any], constants: dict[str, Any], output: tuple[str, tuple[int, ...]]) -> Path:
    """Write an ONNX file with the input ``image``, float32 of shape (1, 3, 8, 8)."""
    onnx = pytest.importorskip("onnx")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "by hand",
        [helper.make_tensor_value_info("image", number, (1, 3, 8, 8))],
        [helper.make_tensor_value_info(output[0], number, output[1])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path


#: A convolution 3x3 of stride 2 on one pixel of padding, 3 to 6 channels, one in three groups, and a dense layer to 2.
_CONVOLUTION = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
_PARAMETERS = 6 * 3 * 9 + 6 + 6 * 2 * 9 + 6 + 6 * 2 + 2
_MULTIPLY_ADDS = 16 * 6 * 3 * 9 + 16 * 6 * 2 * 9 + 6 * 2


def _float_onnx(path: Path, dtype: str) -> Path:
    node = pytest.importorskip("onnx").helper.make_node
    kind = {"float32": 1, "float16": 10}[dtype]
    nodes = [
        node("Cast", ["image"], ["pixels"], to=kind),
        node("Conv", ["pixels", "first", "bias"], ["map"], **_CONVOLUTION),
        # A batch normalization that was not folded: its scale is no parameter, its shift is the bias.
        node("Conv", ["map", "grouped"], ["deep"], group=3, pads=[1, 1, 1, 1]),
        node("Mul", ["deep", "scale"], ["scaled"]),
        node("Add", ["scaled", "shift"], ["shifted"]),
        node("Add", ["shifted", "map"], ["sum"]),
        node("GlobalAveragePool", ["sum"], ["mean"]),
        node("Flatten", ["mean"], ["vector"]),
        node("Gemm", ["vector", "matrix", "offset"], ["logits"], transB=1),
        node("Softmax", ["logits"], ["answer"]),
        node("Cast", ["answer"], ["probability"], to=1),
    ]
    shapes = {
        "first": (6, 3, 3, 3), "bias": (6,), "grouped": (6, 2, 3, 3), "scale": (1, 6, 1, 1), "shift": (1, 6, 1, 1),
        "matrix": (2, 6), "offset": (2,),
    }  # fmt: skip
    constants: dict[str, Any] = {name: np.full(shape, 0.01, dtype) for name, shape in shapes.items()}
    return _onnx(path, nodes, constants, ("probability", (1, 2)))


def _dynamic_onnx(path: Path) -> Path:
    node = pytest.importorskip("onnx").helper.make_node
    nodes, tensor = [], "image"
    for name, attributes in (("first", _CONVOLUTION), ("grouped", {"group": 3, "pads": [1, 1, 1, 1]})):
        nodes += [
            node("DynamicQuantizeLinear", [tensor], [f"{name}-q", f"{name}-scale", f"{name}-zero"]),
            node("ConvInteger", [f"{name}-q", name, f"{name}-zero"], [f"{name}-i"], **attributes),
            node("Cast", [f"{name}-i"], [f"{name}-f"], to=1),
            node("Mul", [f"{name}-f", f"{name}-scale"], [f"{name}-s"]),
            node("Add", [f"{name}-s", f"{name}-bias"], [f"{name}-out"]),
        ]
        tensor = f"{name}-out"
    nodes += [
        node("GlobalAveragePool", [tensor], ["mean"]),
        node("Flatten", ["mean"], ["vector"]),
        node("DynamicQuantizeLinear", ["vector"], ["q", "scale", "zero"]),
        node("MatMulInteger", ["q", "matrix", "zero"], ["i"]),
        node("Cast", ["i"], ["f"], to=1),
        node("Mul", ["f", "scale"], ["s"]),
        node("Add", ["s", "offset"], ["logits"]),
    ]
    constants = {
        "first": np.ones((6, 3, 3, 3), np.int8),
        "grouped": np.ones((6, 2, 3, 3), np.int8),
        "matrix": np.ones((6, 2), np.int8),
        "first-bias": np.ones((1, 6, 1, 1), np.float32),
        "grouped-bias": np.ones((1, 6, 1, 1), np.float32),
        "offset": np.ones(2, np.float32),
    }
    return _onnx(path, nodes, constants, ("logits", (1, 2)))


def _integer_onnx(path: Path) -> Path:
    node = pytest.importorskip("onnx").helper.make_node
    step, zero = ["scale", "zero"], np.uint8(0)
    nodes = [
        node("QuantizeLinear", ["image", *step], ["pixels"]),
        node("QLinearConv", ["pixels", *step, "first", *step, *step, "bias"], ["map"], **_CONVOLUTION),
        node("QLinearConv", ["map", *step, "grouped", *step, *step, "bias"], ["deep"], group=3, pads=[1, 1, 1, 1]),
        node("DequantizeLinear", ["deep", *step], ["float"]),
        node("GlobalAveragePool", ["float"], ["mean"]),
        node("Flatten", ["mean"], ["vector"]),
        node("QuantizeLinear", ["vector", *step], ["short"]),
        node("QLinearMatMul", ["short", *step, "matrix", *step, *step], ["product"]),
        node("DequantizeLinear", ["product", *step], ["dense"]),
        node("Add", ["dense", "offset"], ["logits"]),
    ]
    constants = {
        "scale": np.float32(1),
        "zero": zero,
        "first": np.ones((6, 3, 3, 3), np.uint8),
        "grouped": np.ones((6, 2, 3, 3), np.uint8),
        "matrix": np.ones((6, 2), np.uint8),
        "bias": np.ones(6, np.int32),
        "offset": np.ones(2, np.float32),
    }
    return _onnx(path, nodes, {name: np.asarray(value) for name, value in constants.items()}, ("logits", (1, 2)))


@pytest.mark.parametrize("kind", ["float32", "float16", "dynamic", "integer"])
def test_an_onnx_file_of_each_kind_holds_what_was_put_into_it(tmp_path: Path, kind: str) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / f"{kind}.onnx"
    if kind == "dynamic":
        _dynamic_onnx(path)
    elif kind == "integer":
        _integer_onnx(path)
    else:
        _float_onnx(path, kind)
    graph = _load(path, "onnxruntime").read_graph()
    assert graph.operators == Counter(node.op_type for node in onnx.load(path).graph.node)
    assert (graph.parameters, graph.multiply_adds) == (_PARAMETERS, _MULTIPLY_ADDS)


def test_the_record_of_an_onnx_run_is_removed(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    _load(tiny_models / "tiny-fp32.onnx", "onnxruntime").read_graph()
    assert not list(tmp_path.iterdir())


# Several engines, and none that can


@pytest.mark.parametrize("file", ["tiny-int8.tflite", "tiny-fp32.onnx"])
def test_an_inspection_is_what_each_installed_engine_says(tiny_models: Path, file: str) -> None:
    path = tiny_models / file
    inspection = inspect(path)
    assert list(inspection.engines) == [row.name for row in engines.engines_for(path) if row.is_installed]
    for name, report in inspection.engines.items():
        loaded = _load(path, name)
        assert (report.version, report.delegation, report.error) == (loaded.version, loaded.delegation, None)
        if name != "openvino":
            assert inspection.graph == loaded.read_graph()


def test_engines_that_refuse_a_file_are_quoted(inert_tflite: Path) -> None:
    inspection = inspect(inert_tflite)
    assert inspection.graph is None
    assert inspection.engines
    for name, report in inspection.engines.items():
        assert (report.version, report.delegation) == (None, None)
        assert f"{name} cannot load {inert_tflite} (" in str(report.error)
        assert name == "openvino" or "NoSuchOperator" in str(report.error)


def test_an_engine_that_crashes_is_told_of(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing))
    path = tiny_models / "tiny-fp32.onnx"
    inspection = inspect(path)
    assert inspection.graph is None
    assert str(inspection.engines["onnxruntime"].error).startswith(f"onnxruntime on {path} crashed (signal SIGSEGV); ")
