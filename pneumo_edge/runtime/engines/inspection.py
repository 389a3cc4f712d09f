"""What a model file holds, and what each engine that is installed here makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pneumo_edge._util import subprocesses
from pneumo_edge.errors import PneumoEdgeError
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.engines import Delegation, EngineInfo
from pneumo_edge.runtime.engines.graph import Graph

#: How long an engine may take to load a file.
_SECONDS = 120


@dataclass(frozen=True)
class EngineReport:
    """What an engine makes of a file: its version and what it delegated, or why it cannot load the file."""

    version: str | None = None
    delegation: Delegation | None = None
    error: str | None = None


@dataclass(frozen=True)
class Inspection:
    """A file's graph, None where no engine could read it, and the report of each installed engine by its name."""

    graph: Graph | None
    engines: Mapping[str, EngineReport]


@dataclass(frozen=True)
class _Question:
    """A model file, and the engine that shall load it."""

    model: str
    engine: str


def inspect(path: Path) -> Inspection:
    """Load a model file into each installed engine that runs its kind, each in a process of its own.

    A TFLite file is not run; onnxruntime runs an ONNX file once on zeros.

    Args:
        path: The model file. It may be damaged: what an engine says of it is part of the result.
    """
    found = [_inspect_in_subprocess(path, row) for row in engines.installed_engines_for(path)]
    return Inspection(
        graph=next((each.graph for each in found if each.graph), None),
        engines={name: report for each in found for name, report in each.engines.items()},
    )


def _inspect_in_subprocess(path: Path, row: EngineInfo) -> Inspection:
    try:
        return subprocesses.call_untrusted(_inspect, _Question(str(path), row.name), f"{row.name} on {path}", _SECONDS)
    except PneumoEdgeError as error:
        return Inspection(None, {row.name: EngineReport(error=str(error))})


def _inspect(question: _Question) -> Inspection:
    path, row = Path(question.model), engines.ENGINES[question.engine]
    engine = engines.load(path, row)
    with engines.refusal(row.name, path, "read"):
        return Inspection(engine.read_graph(), {row.name: EngineReport(engine.version, engine.delegation)})
