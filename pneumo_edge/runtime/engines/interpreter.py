"""What the two TFLite engines share: the Interpreter interface that both libraries offer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import native_output
from pneumo_edge.runtime.engines import Delegation, Outputs, Probabilities, Tensor, graph
from pneumo_edge.spec import PROBABILITY

#: Operators with trained weights as their second input and, where there is one, a bias as their third.
_LAYERS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
#: What stands in the list of operators, behind those of the file, for each partition that a delegate took.
_DELEGATE = "DELEGATE"

_Operator = Mapping[str, Any]
_Quantization = tuple[float, int]


class InterpreterEngine:
    """A TFLite file in an ``Interpreter`` of ai-edge-litert or tflite-runtime, tensors allocated once."""

    def __init__(self, name: str, version: str, interpreter_class: Any, path: Path, threads: int) -> None:
        self.name = name
        self.version = version
        self.threads = threads
        with native_output.quiet_stderr(), native_output.spelled(path) as spelled:
            self._interpreter = interpreter_class(model_path=spelled, num_threads=threads)
            self._interpreter.allocate_tensors()
        (image,) = self._interpreter.get_input_details()
        probability, *others = self._interpreter.get_output_details()
        self._input = image["index"]
        self._output = probability["index"]
        self._quantized = _quantization(probability)
        self._others = {each["name"]: (each["index"], _quantization(each)) for each in others}
        self.input_shape: tuple[int, ...] = tuple(int(size) for size in image["shape"])
        self.input_dtype = np.dtype(image["dtype"]).name
        self.output_shape: tuple[int, ...] = tuple(int(size) for size in probability["shape"])
        self.other_shapes = {each["name"]: tuple(int(size) for size in each["shape"]) for each in others}

    @property
    def delegation(self) -> Delegation:
        """The partitions that went to the XNNPACK delegate."""
        operators, partitions = self._operators()
        names = Counter(operator["op_name"] for each in partitions for operator in _inside(each, operators))
        return Delegation("XNNPACK" if partitions else "none", len(partitions), dict(names.most_common()))

    def read_graph(self) -> graph.Graph:
        """Look inside the file without running it; see :class:`pneumo_edge.runtime.engines.Engine`."""
        operators, _ = self._operators()
        shapes = {
            tensor["index"]: tuple(int(size) for size in tensor["shape"])
            for tensor in self._interpreter.get_tensor_details()
        }
        return graph.summarise(
            (operator["op_name"] for operator in operators),
            (_layer(operator, shapes) for operator in operators if operator["op_name"] in _LAYERS),
        )

    def _operators(self) -> tuple[list[_Operator], list[_Operator]]:
        """The operators of the file, and the nodes that stand for a delegate's partitions."""
        # Neither library has a public list of operators; both have this one.
        nodes = self._interpreter._get_ops_details()
        operators = [node for node in nodes if node["op_name"] != _DELEGATE]
        return operators, [node for node in nodes if node["op_name"] == _DELEGATE]

    def run(self, tensor: Tensor) -> Probabilities:
        """Infer once; see :class:`pneumo_edge.runtime.engines.Engine`."""
        self._interpreter.set_tensor(self._input, tensor)
        self._interpreter.invoke()
        return self._read(self._output, self._quantized)

    def run_all(self, tensor: Tensor) -> Outputs:
        """Infer once; see :class:`pneumo_edge.runtime.engines.Engine`."""
        outputs = {PROBABILITY: self.run(tensor)}
        return outputs | {name: self._read(*where) for name, where in self._others.items()}

    def _read(self, index: int, quantized: _Quantization | None) -> npt.NDArray[np.float32]:
        output: npt.NDArray[np.float32] = self._interpreter.get_tensor(index)[0]
        if quantized:
            scale, zero_point = quantized
            output = ((output.astype(np.float32) - zero_point) * scale).astype(np.float32)
        return output


def _quantization(tensor: Mapping[str, Any]) -> _Quantization | None:
    """Scale and zero point of an integer tensor."""
    return tensor["quantization"] if np.dtype(tensor["dtype"]).kind in "iu" else None


def _inside(partition: _Operator, operators: list[_Operator]) -> Iterator[_Operator]:
    """The operators that a delegate's partition took: what leads from its inputs to its outputs.

    The partition's inputs are all tensors that come from outside it, constants included.
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
    # An input that is left out has the index -1.
    return graph.layer(shapes[weights], shapes.get(bias[0]) if bias else None, shapes[operator["outputs"][0]], -1)
