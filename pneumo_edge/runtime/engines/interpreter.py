"""What the two TFLite engines share: the Interpreter interface that both libraries offer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pneumo_edge import native
from pneumo_edge.runtime.engines import Delegation, Probabilities, Tensor


class InterpreterEngine:
    """A TFLite file in an ``Interpreter`` of ai-edge-litert or tflite-runtime, tensors allocated once."""

    def __init__(self, name: str, version: str, interpreter_class: Any, path: Path, threads: int) -> None:
        self.name = name
        self.version = version
        self.threads = threads
        with native.quiet_stderr():
            self._interpreter = interpreter_class(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        (image,) = self._interpreter.get_input_details()
        probability = self._interpreter.get_output_details()[0]
        self._input = image["index"]
        self._output = probability["index"]
        self.input_shape: tuple[int, ...] = tuple(int(size) for size in image["shape"])
        self.input_dtype = np.dtype(image["dtype"]).name
        self.output_shape: tuple[int, ...] = tuple(int(size) for size in probability["shape"])

    @property
    def delegation(self) -> Delegation:
        """The partitions that went to the XNNPACK delegate."""
        # Neither library has a public list of operators; both have this one.
        operators = self._interpreter._get_ops_details()
        partitions = sum(operator["op_name"] == "DELEGATE" for operator in operators)
        return Delegation("XNNPACK" if partitions else "none", partitions)

    def run(self, tensor: Tensor) -> Probabilities:
        """Infer once; see :class:`pneumo_edge.runtime.engines.Engine`."""
        self._interpreter.set_tensor(self._input, tensor)
        self._interpreter.invoke()
        output: Probabilities = self._interpreter.get_tensor(self._output)[0]
        return output
