"""Inference engines: one file each, imported only when that engine is used.

An engine is a module with the functions ``load(path, threads, given) -> Engine`` and ``load_any``, which gives an
:class:`AnyModel`. Other packages add theirs by an entry point, see :mod:`pneumo_edge.runtime.engines.table`.
"""

from __future__ import annotations

import contextlib
import importlib
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
from pneumo_edge.runtime.engines.table import EngineInfo as EngineInfo
from pneumo_edge.runtime.engines.table import EngineTable
from pneumo_edge.runtime.engines.tensors import Given, Shape, TensorInfo
from pneumo_edge.runtime.engines.tensors import Tensor as Tensor
from pneumo_edge.spec import ONNX, SUFFIXES_IN_WORDS, TFLITE

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


#: In order of preference for each kind of file.
ENGINES = EngineTable(
    (
        EngineInfo("litert", ".litert", "ai_edge_litert", (TFLITE.suffix,), "litert"),
        EngineInfo("tflite-runtime", ".tflite_runtime", "tflite_runtime", (TFLITE.suffix,), "tflite", (3, 11)),
        EngineInfo("onnxruntime", ".onnxruntime", "onnxruntime", (ONNX.suffix,), "onnx"),
        EngineInfo("openvino", ".openvino", "openvino", (TFLITE.suffix, ONNX.suffix), "openvino", further=True),
    )
)
#: Engines on which formats have to pass their acceptance checks, and which `benchmark` measures on by default.
USUAL = tuple(row.name for row in ENGINES.own.values() if not row.further)


def engines_for(path: Path) -> tuple[EngineInfo, ...]:
    """Return the engines that run this kind of file, best first, installed or not."""
    return tuple(row for row in ENGINES.values() if row.runs(path))


def usual_engines_for(path: Path) -> tuple[EngineInfo, ...]:
    """Return those of :data:`USUAL` that run this kind of file, best first, installed or not."""
    return tuple(row for row in ENGINES.own.values() if row.runs(path) and not row.further)


def installed_engines_for(path: Path) -> tuple[EngineInfo, ...]:
    """Return the installed engines that run this kind of file, best first.

    Engines that are not in :data:`USUAL` are among them only where none of those is installed.
    """
    usual = tuple(row for row in usual_engines_for(path) if row.is_installed)
    return usual or tuple(row for row in engines_for(path) if row.is_installed)


def choose(path: Path, name: str | None = None) -> EngineInfo:
    """Pick the engine for a model file.

    Args:
        path: The model file; its ending sets which engines can run it.
        name: An engine's name, or None for the best one installed.

    Raises:
        ModelFileError: No engine of that name runs this kind of file.
        MissingExtraError: No engine for this kind of file is installed.
    """
    if name is not None:
        if name in ENGINES and ENGINES[name].runs(path):
            return ENGINES[name]
        names = " or ".join(row.name for row in engines_for(path) if not row.problem) or f"a {SUFFIXES_IN_WORDS} file"
        raise ModelFileError(
            f"the engine {name!r} does not run {path.name}", names, "Give an engine that runs this kind of file"
        )
    installed = installed_engines_for(path)
    if installed:
        return installed[0]
    rows = usual_engines_for(path)
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
        "Run: " + " or: ".join(f"pip install {row.requirement}" for row in rows),
    )


def import_engine(engine: EngineInfo) -> ModuleType:
    """Import an engine's module, and with it the engine's library.

    Raises:
        MissingExtraError: The library is not installed or does not import; or the engine is of another package, and
            cannot be used.
    """
    if not engine.package:
        return extras.need(engine.full_module, engine.extra, engine.library)
    try:
        if engine.problem:
            raise ImportError(engine.problem)
        return importlib.import_module(engine.full_module)
    except (Exception, SystemExit) as error:  # the code of another package may raise anything
        raise MissingExtraError(
            f"the engine {engine.name} of the package {engine.package} cannot be used ({error})",
            "an entry point and a module that import",
            f"Update {engine.package} and what it needs, or use another engine",
        ) from error


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
    module = import_engine(engine)
    with refusal(engine.name, path, "load"), forks.loading:
        loaded = getattr(module, function)(path, threads, given or Given())
        if engine.package:
            from pneumo_edge.runtime.engines import checked

            kind = checked.CheckedEngine if function == "load" else checked.CheckedModel
            loaded = kind(loaded, engine, path, threads)
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
