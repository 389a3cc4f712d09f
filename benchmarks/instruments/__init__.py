"""Instruments that time inference: this benchmark's own clock, and those that others wrote.

An instrument is a module with a function ``measure(task) -> Reading``, carried out in a fresh process.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from pneumo_edge._util import extras
from pneumo_edge.benchmarks.supplement.records import OWN_NAME, Reading
from pneumo_edge.benchmarks.supplement.task import Task


@dataclass(frozen=True)
class Instrument:
    """A row of the table of instruments.

    Attributes:
        name: What it is called.
        module: Its module in this package.
        engines: Engines that it can time; empty for every one.
        library: The library that brings it, and ``extra`` the extra that brings that.
        calls: What one call of it holds, for people.
    """

    name: str
    module: str
    engines: tuple[str, ...]
    library: str
    extra: str
    calls: str

    def fits(self, engine: str) -> bool:
        """Whether it can time units of an engine."""
        return not self.engines or engine in self.engines

    def check(self) -> None:
        """Make sure that it is installed.

        Raises:
            MissingExtraError: Its library is not there.
        """
        extras.check(self.library, self.extra)

    def measurer(self) -> Callable[[Task], Reading]:
        """Its function; the library itself is imported when that is called."""
        measure: Callable[[Task], Reading] = importlib.import_module(f"{__name__}.{self.module}").measure
        return measure


#: The clock that the benchmark times with.
OWN = Instrument(
    OWN_NAME, "own", (), "numpy", "bench", "a real image copied in, inference, the probabilities copied out"
)
#: Those that others wrote.
OTHERS = (
    Instrument(
        "litert-benchmark",
        "litert_benchmark",
        ("litert",),
        "ai_edge_litert",
        "litert",
        "inference alone, through LiteRT's CompiledModel, on one input of random numbers that stays where it is",
    ),
    Instrument(
        "onnxruntime profiler",
        "onnxruntime_profiler",
        ("onnxruntime",),
        "onnxruntime",
        "onnx",
        "the session's run as onnxruntime times it, with the work of noting every operator in it",
    ),
    Instrument(
        "MLPerf LoadGen",
        "loadgen",
        (),
        "mlperf_loadgen",
        "loadgen",
        "from LoadGen's issue of a query to its completion; it draws the images",
    ),
)
