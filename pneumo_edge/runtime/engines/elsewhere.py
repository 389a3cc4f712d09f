"""Runs an engine in a child process, if its library conflicts with a library that this process has imported.

The child is ``python -m pneumo_edge.runtime.engines.elsewhere PATH ENGINE THREADS GIVEN``. It reports what it has
loaded. Then it reads tensors from standard input and writes the arrays of all outputs to standard output, until its
input ends.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from pneumo_edge._util import children, records
from pneumo_edge.errors import ModelFileError, PneumoEdgeError
from pneumo_edge.runtime.engines import ENGINES, Delegation, Engine, Outputs, Probabilities, Tensor, load
from pneumo_edge.runtime.engines.graph import Graph
from pneumo_edge.runtime.engines.tensors import Given
from pneumo_edge.spec import PROBABILITY

_RUN, _GRAPH = b"R", b"G"


@dataclass(frozen=True)
class _Loaded:
    """The properties of a loaded engine, or the three parts of its error."""

    version: str = ""
    input_shape: tuple[int, ...] = ()
    input_dtype: str = ""
    output_shape: tuple[int, ...] = ()
    other_shapes: Mapping[str, tuple[int, ...]] | None = None
    delegation: Delegation | None = None
    graph: Graph | None = None
    error: tuple[str, ...] = ()


class EngineElsewhere:
    """A model file in another process. It gives the same answers as the engine, a fraction of a millisecond later.

    It raises ModelFileError if the process died or the engine failed.
    """

    def __init__(self, name: str, path: Path, threads: int, child: children.Child) -> None:
        self.name, self.threads, self._path, self._child = name, threads, path, child
        told = self._told()
        self.version, self.input_dtype = told.version, told.input_dtype
        self.input_shape, self.output_shape = told.input_shape, told.output_shape
        self.other_shapes = dict(told.other_shapes or {})
        self.delegation = told.delegation or Delegation("none", 0, {})

    def run(self, tensor: Tensor) -> Probabilities:
        """Run inference once; see :class:`pneumo_edge.runtime.engines.Engine`."""
        return self.run_all(tensor)[PROBABILITY]

    def run_all(self, tensor: Tensor) -> Outputs:
        """Run inference once; see :class:`pneumo_edge.runtime.engines.Engine`."""
        self._ask(_RUN, tensor)
        self._told()
        with self._blaming_the_process():
            shapes = {PROBABILITY: self.output_shape, **self.other_shapes}
            return {name: _read_array(self._child.stdout, shape[1:], "float32") for name, shape in shapes.items()}

    def read_graph(self) -> Graph:
        """Read the graph; see :class:`pneumo_edge.runtime.engines.Engine`."""
        self._ask(_GRAPH)
        told = self._told()
        assert told.graph
        return told.graph

    def _ask(self, what: bytes, tensor: Tensor | None = None) -> None:
        with self._blaming_the_process():
            self._child.stdin.write(what)
            if tensor is not None:
                self._child.stdin.write(np.ascontiguousarray(tensor, self.input_dtype).data)
            self._child.stdin.flush()

    def _told(self) -> _Loaded:
        with self._blaming_the_process():
            told = records.loads(_Loaded, self._child.stdout.readline())
        if told.error:
            raise ModelFileError(*told.error)
        return told

    @contextlib.contextmanager
    def _blaming_the_process(self) -> Any:
        try:
            yield
        except (OSError, ValueError, records.RecordError) as error:
            self._child.process.kill()
            how = self._child.ending()
            raise ModelFileError(
                f"{self.name} crashed on {self._path} ({how})",
                "a complete model file that this engine supports",
                "Copy it again, or try another format or --engine",
            ) from error


def load_elsewhere(path: Path, name: str, threads: int, given: Given) -> EngineElsewhere:
    """Load a model file on an engine, by name, in a process that lives as long as the returned object.

    Args:
        path: The model file.
        name: The engine.
        threads: Threads for one inference.
        given: The shape of an image input with open axes.

    Raises:
        ModelFileError: The engine refuses the file, or its process died.
    """
    told = records.dumps(given, indent=None)
    child = children.start("-m", __name__, str(path.absolute()), name, str(threads), told, errors="shown")
    try:
        engine = EngineElsewhere(name, path, threads, child)
    except BaseException:
        _end(child)
        raise
    weakref.finalize(engine, _end, child)
    return engine


def _end(child: children.Child) -> None:
    """Close the input of the process, which ends it; if it does not end, kill it."""
    with contextlib.suppress(OSError):
        child.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.process.wait(5)
    child.close()


def _read_array(stream: IO[bytes], shape: tuple[int, ...], dtype: str) -> Any:
    array = np.empty(shape, dtype)
    # If the stream ended early, this raises ValueError.
    array.reshape(-1)[:] = np.frombuffer(stream.read(array.nbytes), dtype)
    return array


def main(path: str, name: str, threads: str, given: str) -> None:
    """Load a model file, and answer until standard input ends."""
    with children.answering() as stream:
        try:
            engine = load(Path(path), ENGINES[name], int(threads), records.loads(Given, given.encode()))
        except PneumoEdgeError as error:
            _say(stream, _Loaded(error=(error.given, error.expected, error.remedy)))
            return
        others = {name: tuple(shape) for name, shape in engine.other_shapes.items()}
        shapes = engine.input_shape, engine.input_dtype, engine.output_shape, others
        _say(stream, _Loaded(engine.version, *shapes, engine.delegation))
        with contextlib.suppress(KeyboardInterrupt):
            while what := sys.stdin.buffer.read(1):
                _answer(stream, engine, what, path)


def _answer(stream: IO[bytes], engine: Engine, what: bytes, path: str) -> None:
    tensor = _read_array(sys.stdin.buffer, engine.input_shape, engine.input_dtype) if what == _RUN else None
    try:
        graph = engine.read_graph() if tensor is None else None
        outputs = {} if tensor is None else engine.run_all(tensor)
    except Exception as error:  # each library has its own exception types for a bad model
        given = f"{engine.name} cannot run {path} ({error})"
        remedy = "Copy it again, or try another format or --engine"
        _say(stream, _Loaded(error=(given, "a complete model file that this engine supports", remedy)))
        return
    _say(stream, _Loaded(graph=graph))
    for name in (PROBABILITY, *engine.other_shapes) if outputs else ():
        stream.write(np.ascontiguousarray(outputs[name], np.float32).data)
    stream.flush()


def _say(stream: IO[bytes], told: _Loaded) -> None:
    stream.write(records.dumps(told, indent=None).encode().replace(b"\n", b" ") + b"\n")
    stream.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
