"""Reads a SavedModel, TensorFlow's folder of graphs, as a Keras model.

A graph may read and write files, and call Python. So TensorFlow does not load the folder. Of its graphs only the
operators between the image and the answer are read; each must be one of :data:`OPERATORS`, which compute numbers of
numbers. Weights are read from the checkpoint as arrays.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumo_edge._util import extras, files
from pneumo_edge.errors import ConversionError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_GRAPHS, _WEIGHTS = "saved_model.pb", Path("variables", "variables")
_SIGNATURE = "serving_default"
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
#: Operators that compute numbers of numbers, and those that hold weights and call other graphs of the same folder.
OPERATORS = _CALLS | frozenset(
    {"Abs", "Add", "AddN", "AddV2", "All", "Any", "AvgPool", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3",
     "BatchToSpaceND", "BiasAdd", "BroadcastArgs", "BroadcastTo", "Cast", "Ceil", "ClipByValue", "Concat",
     "ConcatV2", "Const", "Conv2D", "Conv2DBackpropInput", "Cos", "Cumsum", "DepthToSpace",
     "DepthwiseConv2dNative", "Div", "DivNoNan", "Einsum", "Elu", "Equal", "Erf", "Exp", "ExpandDims", "Expm1",
     "FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel", "Fill", "Floor",
     "FloorDiv", "FloorMod", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "Gather", "GatherNd",
     "GatherV2", "Greater", "GreaterEqual", "Identity", "IdentityN", "LRN", "LeakyRelu", "Less", "LessEqual",
     "Log", "Log1p", "LogSoftmax", "LogicalAnd", "LogicalNot", "LogicalOr", "MatMul", "Max", "MaxPool",
     "MaxPoolV2", "Maximum", "Mean", "Min", "Minimum", "MirrorPad", "Mul", "Neg", "NoOp", "NotEqual", "OneHot",
     "OnesLike", "Pack", "Pad", "PadV2", "Placeholder", "Pow", "PreventGradient", "Prod", "Range", "Rank",
     "ReadVariableOp", "RealDiv", "Reciprocal", "Relu", "Relu6", "Reshape", "ResizeArea", "ResizeBicubic",
     "ResizeBilinear", "ResizeNearestNeighbor", "Reverse", "ReverseV2", "Rint", "Round", "Rsqrt", "Select",
     "SelectV2", "Selu", "Shape", "ShapeN", "Sigmoid", "Sign", "Sin", "Size", "Slice", "Softmax", "Softplus",
     "Softsign", "SpaceToBatchND", "SpaceToDepth", "Split", "SplitV", "Sqrt", "Square", "SquaredDifference",
     "Squeeze", "StopGradient", "StridedSlice", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Unpack", "VarHandleOp",
     "Where", "ZerosLike"}
)  # fmt: skip
#: Keras's names of what may come last.
_ACTIVATIONS = {
    "Sigmoid": "sigmoid", "Softmax": "softmax", "Relu": "relu", "Relu6": "relu6", "Tanh": "tanh", "Elu": "elu",
    "Selu": "selu", "LeakyRelu": "leaky_relu", "Softplus": "softplus", "Softsign": "softsign",
}  # fmt: skip
#: Constants of so many numbers are weights of the layer; smaller ones stay in its graph.
_LEAST_WEIGHTS = 16
_QUOTED = 3


def is_saved_model(path: Path) -> bool:
    """Whether a path is that of a SavedModel's folder."""
    return (path / _GRAPHS).is_file()


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of what is read of a SavedModel: its graphs and its weights."""
    digest = hashlib.sha256()
    for file in (path / _GRAPHS, *sorted((path / _WEIGHTS).parent.glob("*"))):
        digest.update(f"{file.name} {files.sha256(file)}\n".encode())
    return digest.hexdigest()


def load(path: Path) -> Any:
    """Read the network of a SavedModel's signature.

    Args:
        path: Its folder.

    Returns:
        A ``keras.Model``: a layer that computes the graph, and after it global average pooling, a dense layer and an
        activation, where the graph ends with them.

    Raises:
        ConversionError: It cannot be read, or holds operators that are not run.
    """
    tensorflow = extras.need("tensorflow", "convert")
    meta = _read(path)
    signature = _signature(path, meta)
    (image,), (answer,) = signature.inputs.values(), signature.outputs.values()
    graph = _between(path, meta.graph_def, answer.name)
    weights = _weights(path, meta, graph)
    try:
        frozen = _freeze(tensorflow, graph, image, answer.name, weights)
    except Exception as error:  # TensorFlow has no common base class for what it cannot import
        raise _broken(path, error) from error
    return _build(frozen)


def _read(path: Path) -> Any:
    """The one set of graphs, a MetaGraphDef."""
    extras.need("tensorflow", "convert")
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel()
    try:
        content.ParseFromString((path / _GRAPHS).read_bytes())
    except Exception as error:  # those of protobuf, too
        raise _broken(path, error) from error
    if not content.meta_graphs:
        raise _broken(path, ValueError("it is empty"))
    return content.meta_graphs[0]


def _broken(path: Path, error: Exception) -> ConversionError:
    return ConversionError(
        f"{path} cannot be read as a SavedModel ({' '.join(str(error).split())[:200]})",
        f"a folder that model.export() or tf.saved_model.save() wrote, with {_GRAPHS} and {_WEIGHTS.parent}",
        "Copy the whole folder again, or save the model as .keras",
    )


def _signature(path: Path, meta: Any) -> Any:
    found = {name: each for name, each in meta.signature_def.items() if not name.startswith("__")}
    names = [_SIGNATURE] if _SIGNATURE in found else list(found)
    if len(names) != 1:
        raise ConversionError(
            f"{path} has the signatures {', '.join(sorted(found)) or 'of none'}",
            f"one, or one that is called {_SIGNATURE}",
            "Save the model again with model.export()",
        )
    signature = found[names[0]]
    kinds = [each.dtype for each in signature.inputs.values()]
    tensorflow = extras.need("tensorflow", "convert")
    if kinds != [tensorflow.float32.as_datatype_enum] or len(signature.outputs) != 1:
        inputs = ", ".join(tensorflow.as_dtype(kind).name for kind in kinds)
        raise ConversionError(
            f"{path} takes {inputs or 'nothing'} and gives {len(signature.outputs)} outputs",
            "one image of float32, and one output with a number for each class",
            "Save the model again without preprocessing of files, with one output",
        )
    return signature


def _node(tensor: str) -> str:
    """Name of the node that a tensor, or an edge to a node, comes from."""
    return tensor.lstrip("^").partition(":")[0]


def _between(path: Path, graph: Any, answer: str) -> Any:
    """A graph with what an answer is computed of, and the functions that it calls.

    Raises:
        ConversionError: There are other operators than :data:`OPERATORS`.
    """
    nodes = {node.name: node for node in graph.node}
    functions = {function.signature.name: function for function in graph.library.function}
    reached: dict[str, Any] = {}
    called: dict[str, Any] = {}
    waiting = [_node(answer)]
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in reached:
            reached[name] = nodes[name]
            waiting += [_node(edge) for edge in nodes[name].input]
    bodies = [list(reached.values())]
    others: set[str] = set()
    while bodies:
        for node in bodies.pop():
            if node.op not in OPERATORS:
                others.add(node.op)
            for function in _functions_of(node):
                if function in functions and function not in called:
                    called[function] = functions[function]
                    bodies.append(functions[function].node_def)
    if others:
        names = ", ".join(sorted(others)[:_QUOTED]) + (", ..." if len(others) > _QUOTED else "")
        raise ConversionError(
            f"{path} holds operators that are not run ({names})",
            "operators that compute numbers of numbers: none that reads or writes files, calls Python or keeps a state",
            "Leave them out of what is exported, or save the model as .keras",
        )
    result = type(graph)(versions=graph.versions)
    result.node.extend(node for node in graph.node if node.name in reached)
    result.library.function.extend(called.values())
    return result


def _functions_of(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (each.name for each in value.list.func)


def _weights(path: Path, meta: Any, graph: Any) -> dict[str, npt.NDArray[np.float32]]:
    """Weights by the name of the node of their variable.

    The folder says which object each variable is, as what a function is bound to; and the checkpoint, under which key
    that object has its value.
    """
    handles = {node.name for node in graph.node if node.op == "VarHandleOp"}
    saved, keys = meta.object_graph_def.concrete_functions, {}
    try:
        reader = extras.need("tensorflow", "convert").train.load_checkpoint(str(path / _WEIGHTS)) if handles else None
        objects = _objects(reader) if reader else []
        for node in graph.node:
            function = node.attr["f"].func.name if node.op in _CALLS else ""
            bound = list(saved[function].bound_inputs) if function in saved else []
            edges = [_node(edge) for edge in node.input if not edge.startswith("^")]
            for edge, number in zip(edges[len(edges) - len(bound) :], bound, strict=True):
                if edge in handles:
                    (keys[edge],) = (each.checkpoint_key for each in objects[number].attributes)
        return {name: reader.get_tensor(keys[name]) for name in sorted(handles)} if reader else {}
    except Exception as error:  # TensorFlow has no common base class for a broken checkpoint
        raise _broken(path, error) from error


def _objects(reader: Any) -> Any:
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
    return graph.nodes


def _freeze(tensorflow: Any, graph: Any, image: Any, answer: str, weights: dict[str, npt.NDArray[np.float32]]) -> Any:
    """One graph without functions and variables: a GraphDef whose one placeholder is the image, and the last node."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    variables = {name: tensorflow.Variable(array, name=name.replace("/", "_")) for name, array in weights.items()}

    def compute(pixels: Any) -> Any:
        whole, handles = tensorflow.compat.v1.get_default_graph(), {}
        for name, variable in variables.items():
            whole.watch_variable(variable)
            handles[f"{name}:0"] = whole.capture(variable.handle)
        (result,) = tensorflow.graph_util.import_graph_def(graph, {image.name: pixels, **handles}, [answer])
        return result

    spec = tensorflow.TensorSpec(tensorflow.TensorShape(image.tensor_shape), tensorflow.float32, name="image")
    function = tensorflow.function(compute, autograph=False).get_concrete_function(spec)
    return convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)


def _build(frozen: Any) -> Any:
    """A Keras model of a graph: what its last operators are layers for, and one layer for those before."""
    keras = extras.need("keras", "convert")
    end = _End(frozen.graph.as_graph_def(), frozen.outputs[0].name)
    layers: list[Any] = []
    if activation := _ACTIVATIONS.get(end.op):
        layers.append(keras.layers.Activation(activation))
        end.step()
    kernel, bias = end.dense()
    if kernel is not None:
        layers.append(keras.layers.Dense(kernel.shape[1], name="logits"))
        if end.is_mean():
            layers.append(keras.layers.GlobalAveragePooling2D())
            end.step()
    (pixels,) = frozen.inputs
    image = keras.Input(pixels.shape[1:])
    content, arrays = _without_weights(end.graph)
    config = {"graph": content, "shapes": {name: list(array.shape) for name, array in arrays.items()}}
    graph = graph_layer()(**config, first=pixels.name, last=end.tensor, name="graph")
    tensor = graph(image)
    graph.set_weights(list(arrays.values()))
    for layer in reversed(layers):
        tensor = layer(tensor)
        if isinstance(layer, keras.layers.Dense):
            layer.set_weights([kernel, bias])
    return keras.Model(image, tensor)


class _End:
    """The end of a graph, from which operators are taken away.

    Attributes:
        graph: The GraphDef.
        tensor: What is computed, ``NODE:OUTPUT``.
    """

    def __init__(self, graph: Any, tensor: str) -> None:
        self.graph, self.tensor = graph, tensor
        self._nodes = {node.name: node for node in graph.node}
        self._skip()

    @property
    def op(self) -> str:
        """The last operator."""
        return str(self._last.op)

    @property
    def _last(self) -> Any:
        return self._nodes[_node(self.tensor)]

    def step(self) -> None:
        """Take the last operator away: what it computes of becomes the end."""
        self.tensor = self._last.input[0] if ":" in self._last.input[0] else f"{self._last.input[0]}:0"
        self._skip()

    def _skip(self) -> None:
        while self.op == "Identity":
            self.tensor = self._last.input[0] if ":" in self._last.input[0] else f"{self._last.input[0]}:0"

    def _constant(self, edge: str) -> Any:
        node = self._nodes[_node(edge)]
        while node.op == "Identity":
            node = self._nodes[_node(node.input[0])]
        if node.op != "Const":
            return None
        return extras.need("tensorflow", "convert").make_ndarray(node.attr["value"].tensor)

    def dense(self) -> tuple[Any, Any]:
        """Take a matrix product and a bias away, and give kernel and bias; (None, None) where they are not the end."""
        import numpy as np

        before, bias = self.tensor, None
        if self.op in ("BiasAdd", "Add", "AddV2"):
            bias = self._constant(self._last.input[1])
            self.step()
        kernel = None
        if self.op == "MatMul" and not (self._last.attr["transpose_a"].b or self._last.attr["transpose_b"].b):
            kernel = self._constant(self._last.input[1])
        if kernel is None or kernel.ndim != 2 or (bias is not None and bias.shape != kernel.shape[1:]):
            self.tensor = before
            return None, None
        self.step()
        return kernel, np.zeros(kernel.shape[1], np.float32) if bias is None else bias

    def is_mean(self) -> bool:
        """Whether the last operator is the mean over height and width."""
        if self.op != "Mean" or self._last.attr["keep_dims"].b:
            return False
        axes = self._constant(self._last.input[1])
        return axes is not None and sorted(axes.tolist()) == [1, 2]


def _without_weights(graph: Any) -> tuple[str, dict[str, npt.NDArray[np.float32]]]:
    """A graph as text, with placeholders for its weights; and those by name."""
    tensorflow = extras.need("tensorflow", "convert")
    arrays, result = {}, type(graph)()
    result.CopyFrom(graph)
    kind = tensorflow.float32.as_datatype_enum
    for node in result.node:
        if node.op == "Const" and node.attr["dtype"].type == kind:
            array = tensorflow.make_ndarray(node.attr["value"].tensor)
            if array.size >= _LEAST_WEIGHTS:
                arrays[node.name] = array
                node.op = "Placeholder"
                del node.attr["value"]
    return base64.b64encode(zlib.compress(result.SerializeToString())).decode(), arrays


def custom_objects() -> dict[str, Any]:
    """What Keras must be given to read a model that :func:`load` made and Keras saved."""
    return {"Graph": graph_layer()} if extras.is_installed("tensorflow") else {}


@functools.cache
def graph_layer() -> Any:
    """The class of the Keras layer that computes a graph of :data:`OPERATORS`."""
    keras, tensorflow = extras.need("keras", "convert"), extras.need("tensorflow", "convert")

    class Graph(keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Computes a graph.

        Args:
            graph: A GraphDef, compressed, as base64.
            shapes: Of the weights, by the name of the placeholder that each replaces.
            first: Name of the tensor of the image.
            last: Name of the tensor to compute.
            **options: Those of every layer.
        """

        def __init__(self, graph: str, shapes: dict[str, list[int]], first: str, last: str, **options: Any) -> None:
            super().__init__(**options)
            self._config: dict[str, Any] = {"graph": graph, "shapes": shapes, "first": first, "last": last}
            whole = tensorflow.compat.v1.GraphDef.FromString(zlib.decompress(base64.b64decode(graph)))
            # A file of a run might hold another graph than was written there.
            self._graph = _between(Path(self.name), whole, last)
            self._computed = tensorflow.function(self._compute, autograph=False)

        def build(self, shape: Any) -> None:
            """Make the weights."""
            self._arrays = [
                self.add_weight(shape=tuple(each), initializer="zeros", trainable=False, name=f"weight{number}")
                for number, each in enumerate(self._config["shapes"].values())
            ]

        def call(self, image: Any) -> Any:
            """Compute the graph of an image."""
            return self._computed(image, [tensorflow.convert_to_tensor(array) for array in self._arrays])

        def _compute(self, image: Any, arrays: list[Any]) -> Any:
            values = {f"{name}:0": array for name, array in zip(self._config["shapes"], arrays, strict=True)}
            first, last = self._config["first"], self._config["last"]
            (result,) = tensorflow.graph_util.import_graph_def(self._graph, {first: image, **values}, [last])
            return result

        def get_config(self) -> dict[str, Any]:
            """What the layer is made of again."""
            return {**super().get_config(), **self._config}

    return Graph
