"""Runs TFLite and ONNX files with OpenVINO on the CPU."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_edge._util import native_output, processor, scratch
from pneumo_edge.errors import ModelFileError
from pneumo_edge.runtime.engines import Delegation, Outputs, Probabilities, Tensor, graph, tensors
from pneumo_edge.runtime.engines.tensors import Given, OpenShape, Shape, TensorInfo
from pneumo_edge.spec import PROBABILITY, suffix_of

_TELEMETRY = "openvino_telemetry"


def _import() -> Any:
    """Import OpenVINO, which reports that it was imported to its makers unless that package is absent.

    It has no other switch that a program can set, and works without the package.
    """
    unset = _TELEMETRY not in sys.modules
    if unset:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if unset:
            del sys.modules[_TELEMETRY]
    return openvino


openvino = _import()


class OpenVinoModel:
    """Any TFLite or ONNX file in a compiled model of OpenVINO's CPU device."""

    name = "openvino"
    version: str = metadata.version("openvino")
    #: OpenVINO compiles the whole graph with its own kernels.
    delegation = Delegation("none", 0, {})

    def __init__(self, path: Path, threads: int, given: Given) -> None:
        self.threads = threads
        self._given = given
        core = openvino.Core()
        with native_output.quiet_stderr(), _named(path) as name, _in_one_line():
            model = core.read_model(name)
            self.inputs = tuple(_describe(port) for port in model.inputs)
            self.outputs = tuple(_describe(port) for port in model.outputs)
            self._operators = {operation.get_type_name() for operation in model.get_ops()}
            self._reshape(model)
            self._compiled = core.compile_model(model, "CPU", _settings(threads))
        self._request = self._compiled.create_infer_request()

    @functools.cached_property
    def shapes(self) -> dict[str, Shape]:
        """See :class:`pneumo_edge.runtime.engines.AnyModel`."""
        return tensors.settle(self.inputs, self._given)

    def _reshape(self, model: Any) -> None:
        if any(None in each.shape for each in self.inputs):
            # An input may be named by any name of its tensor.
            with contextlib.suppress(ModelFileError):
                model.reshape({port: self.shapes[_name(port)] for port in model.inputs})

    def call(self, feeds: Sequence[Tensor]) -> list[Tensor]:
        """Infer once; see :class:`pneumo_edge.runtime.engines.AnyModel`."""
        found = self._request.infer(list(feeds), share_inputs=True)
        return [found[port] for port in self._compiled.outputs]

    @property
    def is_quantized(self) -> bool:
        """See :class:`pneumo_edge.runtime.engines.AnyModel`."""
        return "FakeQuantize" in self._operators

    def read_graph(self) -> graph.Graph:
        """OpenVINO converts a file as it reads it, so that the operators of the file are not known.

        Raises:
            ModelFileError: Always.
        """
        raise ModelFileError(
            "openvino does not tell the operators of a file", "an engine that does", "Install litert or onnxruntime"
        )


class OpenVinoEngine(OpenVinoModel):
    """A file of one image; see :class:`pneumo_edge.runtime.engines.Engine`."""

    def __init__(self, path: Path, threads: int, given: Given) -> None:
        super().__init__(path, threads, given)
        (image,) = self.inputs
        if integers := [each for each in self.outputs if np.dtype(each.dtype).kind in "iu"]:
            raise ModelFileError(
                f"the output {integers[0].name} of {path} is of {integers[0].dtype}; openvino does not tell its scale",
                "outputs of float32",
                "Use another engine, or another format",
            )
        probability, *others = self._compiled.outputs
        self.input_shape = self.shapes[image.name] if None in image.shape else _closed(image.shape)
        self.input_dtype = image.dtype
        self.output_shape = _closed(_shape(probability))
        self.other_shapes = {_name(port): _closed(_shape(port)) for port in others}
        self._ports = (probability, *others)

    def run(self, tensor: Tensor) -> Probabilities:
        """Run inference once; see :class:`pneumo_edge.runtime.engines.Engine`."""
        found = self._request.infer([tensor], share_inputs=True)
        probability: Probabilities = np.asarray(found[self._ports[0]], np.float32)[0]
        return probability

    def run_all(self, tensor: Tensor) -> Outputs:
        """Run inference once; see :class:`pneumo_edge.runtime.engines.Engine`."""
        found = self._request.infer([tensor], share_inputs=True)
        names = (PROBABILITY, *self.other_shapes)
        return {name: np.asarray(found[port], np.float32)[0] for name, port in zip(names, self._ports, strict=True)}


def load(path: Path, threads: int, given: Given) -> OpenVinoEngine:
    """Load a TFLite or ONNX file; see :func:`pneumo_edge.runtime.engines.load`."""
    return OpenVinoEngine(path, threads, given)


def load_any(path: Path, threads: int, given: Given) -> OpenVinoModel:
    """Load any TFLite or ONNX file; see :func:`pneumo_edge.runtime.engines.load_any`."""
    return OpenVinoModel(path, threads, given)


def _settings(threads: int) -> dict[str, Any]:
    return {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # Some processors would compute in bfloat16.
        "INFERENCE_PRECISION_HINT": "f32",
        # Several engines share the machine, and would be pinned to the same cores.
        "ENABLE_CPU_PINNING": False,
        # Products of 8 bits would saturate. Without this transformation, quantized files are computed in float32.
        **({"LP_TRANSFORMS_MODE": False} if processor.adds_in_16_bits() else {}),
    }


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Keep of an error of OpenVINO its last line; those before it name lines of its source."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(str(error).strip().rpartition("\n")[2]) from error


@contextlib.contextmanager
def _named(path: Path) -> Iterator[str]:
    """Give a path in UTF-8 with the file's ending, by which OpenVINO chooses how to read it."""
    try:
        name = os.fsencode(path).decode()
    except UnicodeDecodeError:
        name = ""
    if name and path.suffix == suffix_of(path):
        yield name
        return
    with scratch.folder() as folder:
        link = folder / f"model{suffix_of(path)}"
        link.symlink_to(path.absolute())
        yield str(link)


def _describe(port: Any) -> TensorInfo:
    return TensorInfo(_name(port), _shape(port), np.dtype(port.get_element_type().to_dtype()).name)


def _name(port: Any) -> str:
    return str(min(port.get_names(), default=port.get_node().get_friendly_name()))


def _shape(port: Any) -> OpenShape:
    return tuple(size.get_length() if size.is_static else None for size in port.get_partial_shape())


def _closed(shape: OpenShape) -> Shape:
    return tuple(1 if size is None else size for size in shape)
