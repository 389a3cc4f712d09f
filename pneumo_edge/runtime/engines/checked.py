"""Checks what the engine of another package gives, so that its mistakes end in one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_edge.errors import ModelFileError
from pneumo_edge.runtime.engines import Delegation, EngineInfo, Outputs, Probabilities, Tensor
from pneumo_edge.runtime.engines.graph import Graph
from pneumo_edge.runtime.engines.tensors import TensorInfo
from pneumo_edge.spec import PROBABILITY

#: Attributes of :class:`pneumo_edge.runtime.engines.Engine` that every engine has to have.
_OF_ENGINE = ("version", "input_shape", "input_dtype", "output_shape", "run", "run_all")
#: Those of :class:`pneumo_edge.runtime.engines.AnyModel`.
_OF_ANY_MODEL = ("version", "inputs", "outputs", "call")
_NO_DELEGATE = Delegation("none", 0, {})


class _Checked:
    """What both kinds share: the name of the row, and no more than the package gives."""

    def __init__(self, loaded: Any, row: EngineInfo, path: Path, threads: int, attributes: Iterable[str]) -> None:
        self._loaded, self._row, self._path = loaded, row, path
        if missing := [each for each in attributes if not hasattr(loaded, each)]:
            raise self._fault(f"an object without {' and '.join(missing)}", "the interface of an engine")
        self.name, self.threads, self.version = row.name, threads, str(loaded.version)

    @property
    def delegation(self) -> Delegation:
        """What it says of a delegate; nothing by default."""
        found = getattr(self._loaded, "delegation", _NO_DELEGATE)
        if not isinstance(found, Delegation):
            raise self._fault(f"a delegation of type {type(found).__name__}", "a Delegation")
        return found

    def read_graph(self) -> Graph:
        """Read the file's graph, where the engine can."""
        if not hasattr(self._loaded, "read_graph"):
            raise ModelFileError(
                f"{self.name} does not read the operators of a file", "an engine that does", "Install another engine"
            )
        graph = self._loaded.read_graph()
        if not isinstance(graph, Graph):
            raise self._fault(f"a graph of type {type(graph).__name__}", "a Graph")
        return graph

    def _fault(self, given: str, expected: str) -> ModelFileError:
        return ModelFileError(
            f"the engine {self._row.name} of the package {self._row.package} gave {given} for {self._path}",
            f"{expected} (pneumo_edge.runtime.engines)",
            f"Report it to the authors of {self._row.package}, or use another engine",
        )

    def _shape(self, found: Any, what: str) -> tuple[int, ...]:
        try:
            return tuple(int(size) for size in found)
        except (TypeError, ValueError) as error:
            raise self._fault(f"the {what} {found!r}", "whole numbers") from error

    def _floats(self, found: Any, shape: Sequence[int], what: str) -> Probabilities:
        try:
            values = np.asarray(found, np.float32)
        except (TypeError, ValueError) as error:
            raise self._fault(f"{what} of type {type(found).__name__}", "an array of numbers") from error
        if values.shape != tuple(shape):
            raise self._fault(f"{what} of shape {values.shape}", f"shape {tuple(shape)}")
        return values


class CheckedEngine(_Checked):
    """An engine of another package; see :class:`pneumo_edge.runtime.engines.Engine`."""

    def __init__(self, loaded: Any, row: EngineInfo, path: Path, threads: int) -> None:
        super().__init__(loaded, row, path, threads, _OF_ENGINE)
        self.input_shape = self._shape(loaded.input_shape, "input_shape")
        self.output_shape = self._shape(loaded.output_shape, "output_shape")
        self.input_dtype = str(loaded.input_dtype)
        others = getattr(loaded, "other_shapes", {})
        if not isinstance(others, Mapping):
            raise self._fault(f"other_shapes of type {type(others).__name__}", "a mapping")
        self.other_shapes = {str(name): self._shape(shape, "other_shapes") for name, shape in others.items()}

    def run(self, tensor: Tensor) -> Probabilities:
        """Run inference once; see :class:`pneumo_edge.runtime.engines.Engine`."""
        return self._floats(self._loaded.run(tensor), self.output_shape[1:], "probabilities")

    def run_all(self, tensor: Tensor) -> Outputs:
        """Run inference once; see :class:`pneumo_edge.runtime.engines.Engine`."""
        found = self._loaded.run_all(tensor)
        shapes = {PROBABILITY: self.output_shape, **self.other_shapes}
        if not isinstance(found, Mapping) or not shapes.keys() <= found.keys():
            raise self._fault("run_all() without all outputs", f"the outputs {', '.join(shapes)} by name")
        return {name: self._floats(found[name], shape[1:], name) for name, shape in shapes.items()}


class CheckedModel(_Checked):
    """Any model file on an engine of another package; see :class:`pneumo_edge.runtime.engines.AnyModel`."""

    def __init__(self, loaded: Any, row: EngineInfo, path: Path, threads: int) -> None:
        super().__init__(loaded, row, path, threads, _OF_ANY_MODEL)
        self.inputs, self.outputs = tuple(loaded.inputs), tuple(loaded.outputs)
        if not all(isinstance(each, TensorInfo) for each in (*self.inputs, *self.outputs)):
            raise self._fault("inputs or outputs of another type", "tuples of TensorInfo")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See :class:`pneumo_edge.runtime.engines.AnyModel`."""
        return {str(name): self._shape(shape, "shapes") for name, shape in self._loaded.shapes.items()}

    @property
    def is_quantized(self) -> bool:
        """See :class:`pneumo_edge.runtime.engines.AnyModel`; False where the engine does not say."""
        return bool(getattr(self._loaded, "is_quantized", False))

    def call(self, feeds: Sequence[Tensor]) -> list[Tensor]:
        """Infer once; see :class:`pneumo_edge.runtime.engines.AnyModel`."""
        return list(self._loaded.call(feeds))
