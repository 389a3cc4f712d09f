"""Reads the graph of a model file, and reports what each installed engine delegates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pneumo_edge._util import subprocesses
from pneumo_edge.errors import ModelFileError, PneumoEdgeError
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.engines import Delegation, EngineInfo
from pneumo_edge.runtime.engines.graph import Graph
from pneumo_edge.runtime.engines.tensors import Given, TensorInfo

#: How long an engine may take to load a file.
_SECONDS = 120


@dataclass(frozen=True)
class EngineReport:
    """An engine's report on a file: its version and what it delegates, or why it cannot load the file."""

    version: str | None = None
    delegation: Delegation | None = None
    error: str | None = None


@dataclass(frozen=True)
class Inspection:
    """A file's graph, None if no engine could read it, and the report of each installed engine by its name.

    ``input_tensors`` and ``output_tensors`` are empty if no engine could load the file. ``graph_error`` has the reason
    if an engine loaded the file but could not read its graph.
    """

    graph: Graph | None
    engines: Mapping[str, EngineReport]
    input_tensors: tuple[TensorInfo, ...] = ()
    output_tensors: tuple[TensorInfo, ...] = ()
    graph_error: str = ""


@dataclass(frozen=True)
class _Question:
    """A model file, and the engine to load it."""

    model: str
    engine: str
    given: Given


def inspect(path: Path, given: Given | None = None) -> Inspection:
    """Load a model file into each installed engine that runs its kind, each in a separate process.

    A TFLite file is not run; onnxruntime runs an ONNX file once on random values. Engines of other packages that cannot
    be used are in the result with the reason.

    Args:
        path: The model file. It may be damaged: what an engine says of it is part of the result.
        given: Shapes of inputs with open axes, and values that inputs need.
    """
    rows = [row for row in engines.engines_for(path) if row.is_installed or row.problem]
    found = [_inspect_in_subprocess(path, row, given or Given()) for row in rows]
    loaded = max(
        found, key=lambda each: (each.graph is not None, bool(each.input_tensors)), default=Inspection(None, {})
    )
    return replace(loaded, engines={name: report for each in found for name, report in each.engines.items()})


def _inspect_in_subprocess(path: Path, row: EngineInfo, given: Given) -> Inspection:
    question = _Question(str(path), row.name, given)
    if row.problem:
        return Inspection(None, {row.name: EngineReport(error=f"cannot be used: {row.problem} ({row.package})")})
    try:
        return subprocesses.call_untrusted(_inspect, question, f"{row.name} on {path}", _SECONDS)
    except PneumoEdgeError as error:
        return Inspection(None, {row.name: EngineReport(error=str(error))})


def _inspect(question: _Question) -> Inspection:
    path, row = Path(question.model), engines.ENGINES[question.engine]
    engine = engines.load_any(path, row, given=question.given)
    report = {row.name: EngineReport(engine.version, engine.delegation)}
    try:
        engine.shapes  # noqa: B018 - raises where a size is open
        with engines.refusal(row.name, path, "read"):
            graph, error = engine.read_graph(), ""
    except ModelFileError as refusal:
        graph, error = None, str(refusal)
    return Inspection(graph, report, engine.inputs, engine.outputs, error)
