"""The task of a fresh process that takes further measurements: a unit, real images, and the number of calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumo_edge._util import subprocesses
from pneumo_edge._util.subprocesses import Answer, Argument
from pneumo_edge.benchmarks.protocol import Unit
from pneumo_edge.errors import ResultsError
from pneumo_edge.imaging import images
from pneumo_edge.imaging.images import Pixels
from pneumo_edge.runtime.classifier import Classifier

#: Minimum number of calls of a slow unit, and maximum number of a fast one.
_LEAST_CALLS, _MOST_CALLS = 5, 2000
_WARMUPS, _WARMUP_SECONDS = 10, 0.5


@dataclass(frozen=True)
class Task:
    """A unit, the path of its model file, and how its calls are made.

    Attributes:
        unit: The unit.
        path: Its model file.
        pixels: A ``.npy`` file of the test images at its input size, uint8 of shape (images, height, width).
        calls: Number of calls that count.
        warmups: Number of calls before them.
        folder: Folder for files of the process.
    """

    unit: Unit
    path: str
    pixels: str
    calls: int
    warmups: int
    folder: str

    def load(self) -> tuple[Classifier, Pixels]:
        """Load the unit, and its images as uint8 of shape (images, height, width, 3)."""
        classifier = Classifier(self.path, engine=self.unit.engine, threads=self.unit.threads)
        return classifier, images.grey_to_rgb(np.load(self.pixels))

    @property
    def out(self) -> Path:
        """The folder as a path."""
        return Path(self.folder)


def plan_calls(seconds: float, call_ms: float) -> tuple[int, int]:
    """Number of calls and of warm-up calls that take about ``seconds`` at ``call_ms`` milliseconds each."""
    call_ms = max(call_ms, 1e-3)
    calls = math.ceil(1e3 * seconds / call_ms)
    warmups = math.ceil(1e3 * _WARMUP_SECONDS / call_ms)
    return min(max(calls, _LEAST_CALLS), _MOST_CALLS), min(max(warmups, 2), _WARMUPS)


def carry_out(
    function: Callable[[Argument], Answer], argument: Argument, doing: str, environment: Mapping[str, str] | None = None
) -> Answer:
    """Run a measure in a fresh process, by :func:`pneumo_edge._util.subprocesses.call`.

    Args:
        function: The measure, at the top of its module.
        argument: Its argument.
        doing: A description for messages.
        environment: Additional environment variables of the process.

    Raises:
        PneumoEdgeError: The measure raised it.
        ResultsError: The process crashed.
    """

    def crashed(how: str) -> ResultsError:
        return ResultsError(
            f"the process that was {doing} ended with {how}",
            "a process that runs until it has measured",
            "Leave out the file or this measure",
        )

    return subprocesses.call(function, argument, crashed, environment=environment)
