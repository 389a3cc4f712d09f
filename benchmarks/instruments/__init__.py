"""Instruments that time inference: this benchmark's own clock, and instruments by others.

An instrument is a module with a function ``measure(task) -> Reading``, which runs in a fresh process.
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
        name: Its name in reports.
        module: Its module in this package.
        engines: Engines that it can time; empty for all.
        library: The library that it needs.
        extra: The extra of this package that installs the library.
        calls: What one timed call includes, in words.
    """

    name: str
    module: str
    engines: tuple[str, ...]
    library: str
    extra: str
    calls: str

    def fits(self, engine: str) -> bool:
        """Whether it can time units on an engine."""
        return not self.engines or engine in self.engines

    def check(self) -> None:
        """Check that it is installed.

        Raises:
            MissingExtraError: Its library is not installed.
        """
        extras.check(self.library, self.extra)

    def measurer(self) -> Callable[[Task], Reading]:
        """Its function; the library is imported when the function is called."""
        measure: Callable[[Task], Reading] = importlib.import_module(f"{__name__}.{self.module}").measure
        return measure


#: The clock of the benchmark.
OWN = Instrument(
    OWN_NAME, "own", (), "numpy", "bench", "a real image copied in, inference, the probabilities copied out"
)
#: Instruments by others.
OTHERS = (
    Instrument(
        "litert-benchmark",
        "litert_benchmark",
        ("litert",),
        "ai_edge_litert",
        "litert",
        "inference only, through LiteRT's CompiledModel, on one input of random numbers that is not copied again",
    ),
    Instrument(
        "onnxruntime profiler",
        "onnxruntime_profiler",
        ("onnxruntime",),
        "onnxruntime",
        "onnx",
        "the session's run as onnxruntime times it, including the overhead of recording every operator",
    ),
    Instrument(
        "MLPerf LoadGen",
        "loadgen",
        (),
        "mlperf_loadgen",
        "loadgen",
        "from LoadGen's issue of a query to its completion; LoadGen chooses the images",
    ),
)
