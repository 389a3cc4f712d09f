"""The two TFLite engines' common code: both libraries have the same Interpreter interface."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import native_output
from pneumo_edge.errors import ModelFileError
from pneumo_edge.runtime.engines import Delegation, Outputs, Probabilities, Tensor, graph, tensors
from pneumo_edge.runtime.engines.tensors import Given, Shape, TensorInfo
from pneumo_edge.spec import PROBABILITY

#: Operators with trained weights as their second input and, if they have one, a bias as their third.
_LAYERS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
#: The name of a delegate's partition in the list of operators, after the operators of the file.
_DELEGATE = "DELEGATE"

_Operator = Mapping[str, Any]
_Quantization = tuple[float, int]


class InterpreterModel:
    """Any TFLite file in an ``Interpreter``; see :class:`pneumo_edge.runtime.engines.AnyModel`."""

    def __init__(
        self,
        name: str,
        version: str,
        interpreter_class: Any,
        path: Path,
        threads: int,
        given: Given,
    ) -> None:
        self.name = name
        self.version = version
        self.threads = threads
        self._class, self._path = interpreter_class, path
        with native_output.quiet_stderr(), native_output.spelled(path) as spelled:
            self._interpreter = interpreter_class(model_path=spelled, num_threads=threads)
            self.inputs = tuple(map(_describe, self._interpreter.get_input_details()))
            #: Shapes of inputs that are not those of the file, by index.
            self._resized: dict[int, Shape] = {}
            #: Why the inputs have no shape. Such a file is described, and not run.
            self._unsettled: ModelFileError | None = None
            try:
                self._resized.update(self._new_shapes(given))
            except ModelFileError as error:
                self._unsettled = error
            else:
                self._allocate(self._interpreter)
        self._input_details = self._interpreter.get_input_details()
        self._output_details = self._interpreter.get_output_details()
        self.outputs = tuple(map(_describe, self._output_details))

    @property
    def shapes(self) -> dict[str, Shape]:
        """See :class:`pneumo_edge.runtime.engines.AnyModel`."""
        if self._unsettled:
            raise self._unsettled
        return {each["name"]: _shape(each) for each in self._input_details}

    def _new_shapes(self, given: Given) -> Iterator[tuple[int, Shape]]:
        settled = tensors.settle(self.inputs, given)
        for each in self._interpreter.get_input_details():
            if _shape(each) != settled[each["name"]]:
                yield each["index"], settled[each["name"]]

    def _allocate(self, interpreter: Any) -> None:
        for index, shape in self._resized.items():
            interpreter.resize_tensor_input(index, shape)
        interpreter.allocate_tensors()

    def call(self, feeds: Sequence[Tensor]) -> list[Tensor]:
        """Infer once; see :class:`pneumo_edge.runtime.engines.AnyModel`."""
        for details, tensor in zip(self._input_details, feeds, strict=True):
            self._interpreter.set_tensor(details["index"], tensor)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(details["index"]) for details in self._output_details]

    @property
    def delegation(self) -> Delegation:
        """The partitions that went to the XNNPACK delegate."""
        operators, partitions = self._operators()
        names = Counter(operator["op_name"] for each in partitions for operator in _inside(each, operators))
        return Delegation("XNNPACK" if partitions else "none", len(partitions), dict(names.most_common()))

    @property
    def is_quantized(self) -> bool:
        """See :class:`pneumo_edge.runtime.engines.AnyModel`."""
        return any(_quantization(tensor) for tensor in self._interpreter.get_tensor_details() if _is_scaled(tensor))

    def read_graph(self) -> graph.Graph:
        """Read the graph without running it; see :class:`pneumo_edge.runtime.engines.Engine`."""
        self.shapes  # noqa: B018 - raises where a size is open
        operators, _ = self._operators()
        shapes = {tensor["index"]: _shape(tensor) for tensor in self._allocated().get_tensor_details()}
        return graph.summarise(
            (operator["op_name"] for operator in operators),
            (_layer(operator, shapes) for operator in operators if operator["op_name"] in _LAYERS),
        )

    def _allocated(self) -> Any:
        """Return an interpreter whose tensors have the shapes that follow from those of the inputs.

        Inside a delegate's partition they keep those of the file.
        """
        if not self._resized:
            return self._interpreter
        resolver = sys.modules[self._class.__module__].OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        with native_output.quiet_stderr(), native_output.spelled(self._path) as spelled:
            interpreter = self._class(model_path=spelled, experimental_op_resolver_type=resolver)
            self._allocate(interpreter)
        return interpreter

    def _operators(self) -> tuple[list[_Operator], list[_Operator]]:
        """Return the operators of the file, and the nodes of a delegate's partitions."""
        # Neither library has a public list of operators; both have this private one.
        nodes = self._interpreter._get_ops_details()
        operators = [node for node in nodes if node["op_name"] != _DELEGATE]
        return operators, [node for node in nodes if node["op_name"] == _DELEGATE]


class InterpreterEngine(InterpreterModel):
    """A TFLite file of one image in an ``Interpreter`` of ai-edge-litert or tflite-runtime."""

    def __init__(self, name: str, version: str, interpreter_class: Any, path: Path, threads: int, given: Given) -> None:
        super().__init__(name, version, interpreter_class, path, threads, given)
        self.shapes  # noqa: B018 - raises where a size is open
        (image,) = self._input_details
        probability, *others = self._output_details
        self._input = image["index"]
        self._output = probability["index"]
        self._quantized = _quantization(probability)
        self._others = {each["name"]: (each["index"], _quantization(each)) for each in others}
        self.input_shape = _shape(image)
        self.input_dtype = np.dtype(image["dtype"]).name
        self.output_shape = _shape(probability)
        self.other_shapes = {each["name"]: _shape(each) for each in others}

    def _new_shapes(self, given: Given) -> Iterator[tuple[int, Shape]]:
        # Of a file without open axes, the classifier tells what is at odds with its ModelSpec.
        if any(None in each.shape for each in self.inputs):
            yield from super()._new_shapes(given)

    def run(self, tensor: Tensor) -> Probabilities:
        """Run inference once; see :class:`pneumo_edge.runtime.engines.Engine`."""
        self._interpreter.set_tensor(self._input, tensor)
        self._interpreter.invoke()
        return self._read(self._output, self._quantized)

    def run_all(self, tensor: Tensor) -> Outputs:
        """Run inference once; see :class:`pneumo_edge.runtime.engines.Engine`."""
        outputs = {PROBABILITY: self.run(tensor)}
        return outputs | {name: self._read(*where) for name, where in self._others.items()}

    def _read(self, index: int, quantized: _Quantization | None) -> npt.NDArray[np.float32]:
        output: npt.NDArray[np.float32] = self._interpreter.get_tensor(index)[0]
        if quantized:
            scale, zero_point = quantized
            output = ((output.astype(np.float32) - zero_point) * scale).astype(np.float32)
        return output


def _shape(details: Mapping[str, Any]) -> Shape:
    return tuple(int(size) for size in details["shape"])


def _describe(details: Mapping[str, Any]) -> TensorInfo:
    sizes = details.get("shape_signature", ())
    # Files from before there were signatures have none.
    open_shape = tuple(map(int, sizes)) if len(sizes) == len(details["shape"]) else _shape(details)
    quantization = _quantization(details)
    return TensorInfo(
        details["name"],
        tuple(None if size < 0 else size for size in open_shape),
        np.dtype(details["dtype"]).name,
        (float(quantization[0]), int(quantization[1])) if quantization and quantization[0] else None,
    )


def _quantization(tensor: Mapping[str, Any]) -> _Quantization | None:
    """Return scale and zero point of an integer tensor, None for other tensors."""
    return tensor["quantization"] if np.dtype(tensor["dtype"]).kind in "iu" else None


def _is_scaled(tensor: Mapping[str, Any]) -> bool:
    return len(tensor["quantization_parameters"]["scales"]) > 0


def _inside(partition: _Operator, operators: list[_Operator]) -> Iterator[_Operator]:
    """Yield the operators in a delegate's partition: those between its inputs and its outputs.

    The partition's inputs are all tensors from outside it, including constants.
    """
    producers = {tensor: operator for operator in operators for tensor in operator["outputs"]}
    seen = set(partition["inputs"])
    waiting = list(partition["outputs"])
    while waiting:
        tensor = waiting.pop()
        if tensor in seen or tensor not in producers:
            continue
        operator = producers[tensor]
        seen.update(operator["outputs"])
        waiting.extend(operator["inputs"])
        yield operator


def _layer(operator: _Operator, shapes: Mapping[int, graph.Shape]) -> graph.Layer:
    _, weights, *bias = operator["inputs"]
    # A missing input has the index -1.
    return graph.layer(shapes[weights], shapes.get(bias[0]) if bias else None, shapes[operator["outputs"][0]], -1)
