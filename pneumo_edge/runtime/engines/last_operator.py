"""The operator that a model file's scores come from, read from the file without an engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pneumo_edge._util import flatbuffer, protobuf

#: Numbers of these fields in onnx.proto's ModelProto, GraphProto, NodeProto and ValueInfoProto.
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_OUTPUT = 7, 1, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP_TYPE, _VALUE_NAME = 1, 2, 4, 1
#: Slots of these fields in TFLite's schema: of Model, SubGraph, OperatorCode and Operator.
_MODEL_CODES, _MODEL_GRAPHS, _GRAPH_OUTPUTS, _GRAPH_OPERATORS = 1, 2, 2, 3
_CODE_SHORT, _CODE_LONG = 0, 3
_OPERATOR_CODE, _OPERATOR_INPUTS, _OPERATOR_OUTPUTS = 0, 1, 2
#: Numbers of TFLite's operators that matter here; another one is named by its number.
_TFLITE_NAMES = {
    0: "ADD",
    2: "CONCATENATION",
    6: "DEQUANTIZE",
    9: "FULLY_CONNECTED",
    14: "LOGISTIC",
    18: "MUL",
    19: "RELU",
    20: "RELU_N1_TO_1",
    21: "RELU6",
    22: "RESHAPE",
    25: "SOFTMAX",
    28: "TANH",
    40: "MEAN",
    41: "SUB",
    42: "DIV",
    43: "SQUEEZE",
    50: "LOG_SOFTMAX",
    53: "CAST",
    114: "QUANTIZE",
    152: "RELU_0_TO_1",
}
#: Operators that change the shape or the type of scores and not what they are.
_NEUTRAL = frozenset(
    {
        "Identity",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Cast",
        "Dropout",
        "QuantizeLinear",
        "DequantizeLinear",
        "RESHAPE",
        "SQUEEZE",
        "CAST",
        "QUANTIZE",
        "DEQUANTIZE",
    }
)
_PROBABILITIES = frozenset({"Sigmoid", "Softmax", "LOGISTIC", "SOFTMAX"})
#: Operators whose results are bounded on a side, and no probabilities.
_BOUNDED = frozenset(
    {"Tanh", "Softsign", "HardSigmoid", "Clip", "Relu", "TANH", "RELU", "RELU_N1_TO_1", "RELU6", "RELU_0_TO_1"}
)
_SCALED = frozenset({"Mul", "Div", "MUL", "DIV"})


@dataclass(frozen=True)
class LastOperator:
    """The operator that the first output comes from; changes of its shape or type are passed over.

    Attributes:
        name: By the file format's own name.
        before: What that operator's first input comes from, in the same way; "" where it is no operator's.
    """

    name: str
    before: str

    @property
    def gives_probabilities(self) -> bool:
        """Whether it is a sigmoid or a softmax."""
        return self.name in _PROBABILITIES

    @property
    def is_bounded(self) -> bool:
        """Whether it is an activation with bounds and gives no probabilities, or a product of probabilities."""
        return self.name in _BOUNDED or (self.name in _SCALED and self.before in _PROBABILITIES)

    def __str__(self) -> str:
        return f"{self.before} and {self.name}" if self.name in _SCALED and self.before else self.name


_Nodes = Mapping[object, tuple[str, tuple[object, ...]]]


def find(content: bytes, suffix: str) -> LastOperator | None:
    """Find the last operator of a model file.

    Args:
        content: The file.
        suffix: Its ending, ``".tflite"`` or ``".onnx"``.

    Returns:
        The operator; None where the graph cannot be read.
    """
    try:
        output, nodes = (_onnx if suffix == ".onnx" else _tflite)(memoryview(content))
    except (ValueError, IndexError, StopIteration):
        return None
    chain = _chain(output, nodes)
    name = next(chain, None)
    return None if name is None else LastOperator(name, next(chain, ""))


def _chain(tensor: object, nodes: _Nodes) -> Iterator[str]:
    """The names of the operators that a tensor comes from, the last first, along their first computed inputs."""
    seen = set()
    while tensor in nodes and tensor not in seen:
        seen.add(tensor)
        name, inputs = nodes[tensor]
        if name not in _NEUTRAL:
            yield name
        tensor = next((each for each in inputs if each in nodes and nodes[each][0] != "Constant"), None)


def _onnx(content: memoryview) -> tuple[object, _Nodes]:
    nodes: dict[object, tuple[str, tuple[object, ...]]] = {}
    graph = next(protobuf.values(content, _MODEL_GRAPH))
    for node in protobuf.values(graph, _GRAPH_NODE):
        name = "".join(_texts(node, _NODE_OP_TYPE))
        nodes.update(dict.fromkeys(_texts(node, _NODE_OUTPUT), (name, _texts(node, _NODE_INPUT))))
    return _texts(next(protobuf.values(graph, _GRAPH_OUTPUT)), _VALUE_NAME)[0], nodes


def _texts(message: memoryview, number: int) -> tuple[str, ...]:
    return tuple(bytes(value).decode("utf-8", "replace") for value in protobuf.values(message, number))


def _tflite(content: memoryview) -> tuple[object, _Nodes]:
    model = flatbuffer.Table.root(content)
    codes = [max(code.byte(_CODE_SHORT), code.unsigned(_CODE_LONG)) for code in model.tables(_MODEL_CODES)]
    graph = next(model.tables(_MODEL_GRAPHS))
    nodes: dict[object, tuple[str, tuple[object, ...]]] = {}
    for operator in graph.tables(_GRAPH_OPERATORS):
        code = codes[operator.unsigned(_OPERATOR_CODE)]
        name = _TFLITE_NAMES.get(code, f"operator {code}")
        inputs = operator.integers(_OPERATOR_INPUTS)
        nodes.update(dict.fromkeys(operator.integers(_OPERATOR_OUTPUTS), (name, inputs)))
    return graph.integers(_GRAPH_OUTPUTS)[0], nodes
