"""Runs ONNX files with onnxruntime on the CPU."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from pneumo_edge._util import native_output, processor, protobuf, scratch
from pneumo_edge.runtime import forks
from pneumo_edge.runtime.engines import Delegation, Outputs, Probabilities, Tensor, graph, tensors
from pneumo_edge.runtime.engines.tensors import Given, Shape, TensorInfo
from pneumo_edge.spec import PROBABILITY

_DTYPES = {
    f"tensor({name})": dtype
    for name, dtype in {
        "float": "float32",
        "double": "float64",
        "float16": "float16",
        "bool": "bool",
        **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    }.items()
}

# When a process ends, onnxruntime 1.32 waits for one of its threads, which does not exist in a forked child.
forks.skip_destructors()

#: Operators with trained weights: the index of the weights' input, that of the bias's input, and the channel axis of
#: the output.
_LAYERS: dict[str, tuple[int, int | None, int]] = {
    "Conv": (1, 2, 1),
    "ConvInteger": (1, None, 1),
    "QLinearConv": (3, 8, 1),
    "Gemm": (1, 2, -1),
    "MatMul": (1, None, -1),
    "MatMulInteger": (1, None, -1),
    "QLinearMatMul": (3, None, -1),
}
#: In the names of operators that compute with integers which stand for real numbers, or turn one into the other.
_QUANTIZED = ("quantize", "qlinear", "integer", "matmulnbits")
#: Axes of the weights of a dense layer.
_MATRIX = 2
#: Numbers of these fields in onnx.proto's ModelProto, GraphProto and NodeProto.
_MODEL_GRAPH, _GRAPH_NODE, _NODE_OP_TYPE = 7, 1, 4


class OnnxRuntimeModel:
    """Any ONNX file in an ``InferenceSession`` of onnxruntime with the CPU provider."""

    name = "onnxruntime"
    version: str = onnxruntime.__version__
    #: onnxruntime's CPU provider uses its own kernels and does not delegate.
    delegation = Delegation("none", 0, {})

    def __init__(self, path: Path, threads: int, given: Given | None = None) -> None:
        self.threads = threads
        self._path = path
        self._session = open_session(path, threads)
        self.inputs = tuple(map(_describe, self._session.get_inputs()))
        self.outputs = tuple(map(_describe, self._session.get_outputs()))
        self._given = given or Given()

    @functools.cached_property
    def shapes(self) -> dict[str, Shape]:
        """See :class:`pneumo_edge.runtime.engines.AnyModel`."""
        return tensors.settle(self.inputs, self._given)

    def call(self, feeds: Sequence[Tensor]) -> list[Tensor]:
        """Infer once; see :class:`pneumo_edge.runtime.engines.AnyModel`."""
        names = [each.name for each in self.inputs]
        return list(self._session.run(None, dict(zip(names, feeds, strict=True))))

    @property
    def is_quantized(self) -> bool:
        """See :class:`pneumo_edge.runtime.engines.AnyModel`."""
        operators = set(_operators(self._path.read_bytes()))
        return any(word in operator.lower() for operator in operators for word in _QUANTIZED)

    def read_graph(self) -> graph.Graph:
        """Read the graph, and run it once on random values; see :class:`pneumo_edge.runtime.engines.Engine`."""
        layers = (_layer(node) for node in self._profile())
        return graph.summarise(_operators(self._path.read_bytes()), (each for each in layers if each))

    def _profile(self) -> list[dict[str, Any]]:
        """Return onnxruntime's record of each node that it ran: ``op_name`` and the shapes of inputs and outputs."""
        drawn = tensors.draw(self.inputs, self.shapes, self._given, 0)
        feeds = dict(zip((each.name for each in self.inputs), drawn, strict=True))
        with scratch.folder() as folder:
            session = open_session(self._path, self.threads, optimize=False, profile=folder / "profile")
            session.run(None, feeds)
            events = json.loads(Path(session.end_profiling()).read_bytes())
        return [event["args"] for event in events if event["cat"] == "Node" and "op_name" in event["args"]]


class OnnxRuntimeEngine(OnnxRuntimeModel):
    """An ONNX file of one image; see :class:`pneumo_edge.runtime.engines.Engine`."""

    def __init__(self, path: Path, threads: int, given: Given) -> None:
        super().__init__(path, threads, given)
        (image,) = self.inputs
        if None not in image.shape:
            # The classifier tells what is at odds with its ModelSpec.
            self._given = Given()
        probability, *others = self._session.get_outputs()
        self._input, self._output = image.name, probability.name
        self.input_shape = self.shapes[image.name]
        self.input_dtype = image.dtype
        self.output_shape = _of_one_image(probability)
        self.other_shapes = {each.name: _of_one_image(each) for each in others}

    def run(self, tensor: Tensor) -> Probabilities:
        """Run inference once; see :class:`pneumo_edge.runtime.engines.Engine`."""
        probability: Probabilities = np.asarray(self._session.run([self._output], {self._input: tensor})[0])[0]
        return probability

    def run_all(self, tensor: Tensor) -> Outputs:
        """Run inference once; see :class:`pneumo_edge.runtime.engines.Engine`."""
        found = self._session.run([self._output, *self.other_shapes], {self._input: tensor})
        return {name: np.asarray(each)[0] for name, each in zip((PROBABILITY, *self.other_shapes), found, strict=True)}


def load(path: Path, threads: int, given: Given) -> OnnxRuntimeEngine:
    """Load an ONNX file; see :func:`pneumo_edge.runtime.engines.load`."""
    return OnnxRuntimeEngine(path, threads, given)


def load_any(path: Path, threads: int, given: Given) -> OnnxRuntimeModel:
    """Load any ONNX file; see :func:`pneumo_edge.runtime.engines.load_any`."""
    return OnnxRuntimeModel(path, threads, given)


def _of_one_image(output: Any) -> Shape:
    first, *others = output.shape or (None,)
    return (first if isinstance(first, int) else 1, *others)


def _describe(node: Any) -> TensorInfo:
    # An axis of any size has a name, or nothing.
    shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in node.shape)
    return TensorInfo(node.name, shape, _DTYPES.get(node.type, node.type))


def open_session(
    path: Path, threads: int, *, optimize: bool = True, profile: Path | None = None
) -> onnxruntime.InferenceSession:
    """Open an ONNX file with the settings of the engine.

    Args:
        path: The file.
        threads: Threads for one inference.
        optimize: Whether to fuse operators and pack weights; if not, the session runs the file unchanged.
        profile: Prefix of the name of a file that records every run (``end_profiling`` returns its name).
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if processor.adds_in_16_bits():
        # Files with int8 weights, as `onnx-int8` had before, would saturate there. Other files are not affected.
        options.add_session_config_entry("session.x64quantprecision", "1")
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Prepacked weights are missing from the inputs in the record of a run.
        options.add_session_config_entry("session.disable_prepacking", "1")
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    with native_output.spelled(path) as name:
        return onnxruntime.InferenceSession(name, options, providers=["CPUExecutionProvider"])


def _layer(node: dict[str, Any]) -> graph.Layer | None:
    """Return the trained weights and biases of a node of the profile, or None if it has none."""
    name, inputs = node["op_name"], _shapes(node["input_type_shape"])
    if name in _LAYERS:
        weights, bias, channel_axis = _LAYERS[name]
        if name.startswith(("MatMul", "QLinearMatMul")) and len(inputs[weights]) != _MATRIX:
            return None  # two activations, as in attention
        output = _shapes(node["output_type_shape"])[0]
        bias_shape = inputs[bias] if bias is not None and bias < len(inputs) else None
        return graph.layer(inputs[weights], bias_shape, output, channel_axis)
    if name == "Add":
        # The bias of a layer can be a separate node, as after a ConvInteger, which has no bias input: one number for
        # each channel of a map of shape (1, channels, height, width) or a vector of shape (1, channels).
        for shape in _shapes(node["output_type_shape"]):
            if (len(shape) == 4 and (1, shape[1], 1, 1) in inputs) or (len(shape) == 2 and shape[1:] in inputs):
                return graph.Layer(weights=0, biases=shape[1], positions=0)
    return None


def _shapes(tensors: list[dict[str, list[int]]]) -> list[graph.Shape]:
    """Return shapes of tensors that are given as, for example, ``{"float": [1, 224, 224, 3]}``."""
    return [tuple(shape) for tensor in tensors for shape in tensor.values()]


def _operators(model: bytes) -> Iterator[str]:
    """Yield the type of each node of an ONNX model.

    The profile would not do: at every optimization level, onnxruntime puts casts around operators without a float16
    kernel, and splits some operators.
    """
    for graph_bytes in protobuf.values(memoryview(model), _MODEL_GRAPH):
        for node in protobuf.values(graph_bytes, _GRAPH_NODE):
            for op_type in protobuf.values(node, _NODE_OP_TYPE):
                yield bytes(op_type).decode()
