"""ONNX files through onnxruntime on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from pneumo_edge.runtime.engines import Delegation, Probabilities, Tensor

_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}


class OnnxRuntimeEngine:
    """An ONNX file in an ``InferenceSession`` of onnxruntime with the CPU provider."""

    name = "onnxruntime"
    version: str = onnxruntime.__version__
    #: onnxruntime's CPU provider is its own kernel library: nothing is handed to another.
    delegation = Delegation("none", 0)

    def __init__(self, path: Path, threads: int) -> None:
        self.threads = threads
        self._session = _session(path, threads)
        (image,) = self._session.get_inputs()
        probability = self._session.get_outputs()[0]
        self._input = image.name
        self.input_shape: tuple[int, ...] = tuple(image.shape)
        self.input_dtype = _DTYPES.get(image.type, image.type)
        self.output_shape: tuple[int, ...] = tuple(probability.shape)

    def run(self, tensor: Tensor) -> Probabilities:
        """Infer once; see :class:`pneumo_edge.runtime.engines.Engine`."""
        probability: Probabilities = np.asarray(self._session.run(None, {self._input: tensor})[0])[0]
        return probability


def load(path: Path, threads: int) -> OnnxRuntimeEngine:
    """Load an ONNX file; see :func:`pneumo_edge.runtime.engines.load`."""
    return OnnxRuntimeEngine(path, threads)


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata properties of an ONNX file."""
    # Nothing is run in this session, so the time to optimize its graph would be lost.
    metadata: dict[str, str] = _session(path, 1, optimize=False).get_modelmeta().custom_metadata_map
    return metadata


def _session(path: Path, threads: int, *, optimize: bool = True) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
