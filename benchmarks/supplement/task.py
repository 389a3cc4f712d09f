"""What a fresh process of the supplement gets: a unit, real images, and how long or how often."""

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

#: At least so many calls however slow a unit is, and no more than so many however fast.
_LEAST_CALLS, _MOST_CALLS = 5, 2000
_WARMUPS, _WARMUP_SECONDS = 10, 0.5


@dataclass(frozen=True)
class Task:
    """A unit, the path of its model file, and how its calls are made.

    Attributes:
        unit: What is called.
        path: Its model file.
        pixels: A ``.npy`` file of the test images at its input size, uint8 of shape (images, height, width).
        calls: How many calls count.
        warmups: How many calls come before them.
        folder: Where files of the process go.
    """

    unit: Unit
    path: str
    pixels: str
    calls: int
    warmups: int
    folder: str

    def load(self) -> tuple[Classifier, Pixels]:
        """The unit, ready to be called, and images of shape (images, height, width, 3)."""
        classifier = Classifier(self.path, engine=self.unit.engine, threads=self.unit.threads)
        return classifier, images.grey_to_rgb(np.load(self.pixels))

    @property
    def out(self) -> Path:
        """The folder as a path."""
        return Path(self.folder)


def plan_calls(seconds: float, call_ms: float) -> tuple[int, int]:
    """How many calls, and how many warm-ups before them, fill some seconds at so many milliseconds each."""
    call_ms = max(call_ms, 1e-3)
    calls = math.ceil(1e3 * seconds / call_ms)
    warmups = math.ceil(1e3 * _WARMUP_SECONDS / call_ms)
    return min(max(calls, _LEAST_CALLS), _MOST_CALLS), min(max(warmups, 2), _WARMUPS)


def carry_out(
    function: Callable[[Argument], Answer], argument: Argument, doing: str, environment: Mapping[str, str] | None = None
) -> Answer:
    """Carry out a measure in a fresh process, as :func:`pneumo_edge._util.subprocesses.call` does.

    Args:
        function: The measure, at the top of its module.
        argument: What it gets.
        doing: What it does, for people.
        environment: Variables that the process has beside those of this one.

    Raises:
        PneumoEdgeError: The measure raised it.
        ResultsError: The process crashed.
    """

    def crashed(how: str) -> ResultsError:
        return ResultsError(
            f"the process that was {doing} ended with {how}",
            "a process that lives until it has measured",
            "Leave out the file, or this measure",
        )

    return subprocesses.call(function, argument, crashed, environment=environment)
