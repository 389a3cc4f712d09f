"""Inference engines: one file each, imported only when that engine is used.

An engine is a module with the functions ``load(path, threads, given) -> Engine`` and ``load_any``, which gives an
:class:`AnyModel`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import cores, extras
from pneumo_edge.errors import MissingExtraError, ModelFileError, PneumoEdgeError
from pneumo_edge.runtime import forks
from pneumo_edge.runtime.engines.graph import Graph
from pneumo_edge.runtime.engines.tensors import Given, Shape, TensorInfo
from pneumo_edge.runtime.engines.tensors import Tensor as Tensor
from pneumo_edge.spec import ONNX, SUFFIXES_IN_WORDS, TFLITE, suffix_of

Probabilities = npt.NDArray[np.float32]
#: Outputs of a model for one image, by name: float32 of shape (values,).
Outputs = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Delegation:
    """The kernel library that an engine delegates to, the number of partitions of the graph, and their operators.

    ``operators`` counts the file's operators in those partitions by name; it is empty if ``to`` is "none".
    """

    to: str
    partitions: int
    operators: Mapping[str, int]


class Engine(Protocol):
    """A model file loaded by one inference library with a fixed number of threads."""

    name: str
    version: str
    threads: int
    input_shape: tuple[int, ...]
    input_dtype: str
    output_shape: tuple[int, ...]
    #: Shapes of the file's other outputs, by name.
    other_shapes: Mapping[str, tuple[int, ...]]
    delegation: Delegation

    def run(self, tensor: Tensor) -> Probabilities:
        """Run inference once.

        Args:
            tensor: Array of the engine's ``input_shape`` and ``input_dtype``.

        Returns:
            float32 array of shape (number of classes,).
        """
        ...

    def run_all(self, tensor: Tensor) -> Outputs:
        """Run inference once, and return every output, including the probabilities.

        Args:
            tensor: As for :meth:`run`.
        """
        ...

    def read_graph(self) -> Graph:
        """Read the file's operators, parameters and multiply-adds."""
        ...


class AnyModel(Protocol):
    """Any model file loaded by one inference library: several inputs, any types, no ModelSpec needed."""

    name: str
    version: str
    threads: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of each input, by name.

        Raises:
            ModelFileError: An input has an open axis and was given no shape.
        """
        ...

    @property
    def delegation(self) -> Delegation:
        """What the engine handed to a kernel library."""
        ...

    @property
    def is_quantized(self) -> bool:
        """Whether integers stand for real numbers somewhere in the file."""
        ...

    def call(self, feeds: Sequence[Tensor]) -> list[Tensor]:
        """Run inference once.

        Args:
            feeds: An array for each of ``inputs``, of its type and its shape in ``shapes``.

        Returns:
            An array for each of ``outputs``.
        """
        ...

    def read_graph(self) -> Graph:
        """Look inside the file, as :meth:`Engine.read_graph`."""
        ...


@dataclass(frozen=True)
class EngineInfo:
    """A row of the table of engines: its library, the extra that installs it, the files it runs.

    ``newest_python`` is the last Python that its library has wheels for; None where there is no such limit.
    """

    name: str
    module: str
    library: str
    extra: str
    suffix: str
    newest_python: tuple[int, int] | None = None


#: In order of preference for each kind of file.
ENGINES: dict[str, EngineInfo] = {
    row.name: row
    for row in (
        EngineInfo("litert", "litert", "ai_edge_litert", "litert", TFLITE.suffix),
        EngineInfo("tflite-runtime", "tflite_runtime", "tflite_runtime", "tflite", TFLITE.suffix, (3, 11)),
        EngineInfo("onnxruntime", "onnxruntime", "onnxruntime", "onnx", ONNX.suffix),
    )
}


def engines_for(path: Path) -> tuple[EngineInfo, ...]:
    """Return the engines that run this kind of file, best first, installed or not."""
    return tuple(row for row in ENGINES.values() if row.suffix == suffix_of(path))


def installed_engines_for(path: Path) -> tuple[EngineInfo, ...]:
    """Return the installed engines that run this kind of file, best first."""
    return tuple(row for row in engines_for(path) if extras.is_installed(row.library))


def choose(path: Path, name: str | None = None) -> EngineInfo:
    """Pick the engine for a model file.

    Args:
        path: The model file; its ending sets which engines can run it.
        name: An engine's name, or None for the best one installed.

    Raises:
        ModelFileError: No engine of that name runs this kind of file.
        MissingExtraError: No engine for this kind of file is installed.
    """
    rows = engines_for(path)
    if name is not None:
        for row in rows:
            if row.name == name:
                return row
        names = " or ".join(row.name for row in rows) or f"a {SUFFIXES_IN_WORDS} file"
        raise ModelFileError(
            f"the engine {name!r} does not run {path.name}", names, "Give an engine that runs this kind of file"
        )
    installed = installed_engines_for(path)
    if installed:
        return installed[0]
    if not rows:
        raise ModelFileError(
            f"{path} is not a model file", f"a {SUFFIXES_IN_WORDS} file", "Give the path of an exported model"
        )
    raise none_installed(f"no engine for {path.suffix} files is installed", rows)


def none_installed(given: str, rows: Sequence[EngineInfo]) -> MissingExtraError:
    """Make the error for when none of several engines is installed."""
    return MissingExtraError(
        given,
        " or ".join(row.library for row in rows),
        "Run: " + " or: ".join(f'pip install "pneumo-edge[{row.extra}]"' for row in rows),
    )


def import_engine(engine: EngineInfo) -> ModuleType:
    """Import an engine's module, and with it the engine's library.

    Raises:
        MissingExtraError: The library is not installed or does not import.
    """
    return extras.need(f"{__name__}.{engine.module}", engine.extra, engine.library)


def load(path: Path, engine: EngineInfo, threads: int = 1, given: Given | None = None) -> Engine:
    """Load a model file into an engine.

    Args:
        path: The model file.
        engine: A row of :data:`ENGINES`.
        threads: Number of threads for one inference, from 1 to :data:`pneumo_edge._util.cores.MOST`.
        given: The shape of an image input with open axes.

    Raises:
        ValueError: ``threads`` is out of range.
        MissingExtraError: The engine's library is not installed or does not import.
        ModelFileError: The engine refuses the file; the message quotes the engine.
    """
    loaded: Engine = _load("load", path, engine, threads, given)
    return loaded


def load_any(path: Path, engine: EngineInfo, threads: int = 1, given: Given | None = None) -> AnyModel:
    """Load any model file into an engine; it needs no ModelSpec.

    Args:
        path: As for :func:`load`.
        engine: As for :func:`load`.
        threads: As for :func:`load`.
        given: Shapes of inputs with open axes, and values that inputs need.

    Raises:
        ValueError: As :func:`load`.
        MissingExtraError: As :func:`load`.
        ModelFileError: As :func:`load`; or an input is without a shape.
    """
    loaded: AnyModel = _load("load_any", path, engine, threads, given)
    return loaded


def _load(function: str, path: Path, engine: EngineInfo, threads: int, given: Given | None) -> Any:
    """What a function of an engine's module loads, by its name."""
    threads = cores.check_count("threads", threads)
    factory = getattr(import_engine(engine), function)
    with refusal(engine.name, path, "load"), forks.loading:
        loaded = factory(path, threads, given or Given())
    forks.never_destroy(loaded)
    return loaded


@contextlib.contextmanager
def refusal(engine: str, path: Path, verb: str) -> Iterator[None]:
    """Turn an engine's exception about a model file into a ModelFileError that quotes it.

    Args:
        engine: The engine's name.
        path: The model file.
        verb: What it cannot do with the file, for example ``"load"``.
    """
    try:
        yield
    except (MemoryError, PneumoEdgeError):
        raise
    except Exception as error:  # each library has its own exception types for a bad model
        raise ModelFileError(
            f"{engine} cannot {verb} {path} ({error})",
            "a complete model file that this engine supports",
            "Copy it again, or try another format or --engine",
        ) from error
