"""Measures the peak memory of loading a model and classifying images in a fresh process."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from pneumo_edge.benchmarks.results import MemorySample
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.runtime.engines import tensors
from pneumo_edge.runtime.engines.tensors import Given

#: Inferences of a file without a ModelSpec.
_CALLS = 5
_STATUS = Path("/proc/self/status")


def peak_rss() -> int:
    """Peak resident memory of this process so far, in bytes."""
    # On Linux ru_maxrss starts at the peak of the process that forked this one; VmHWM starts at exec.
    if _STATUS.exists() and (match := re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())):
        return int(match[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others kilobytes


def measure(model: Path, engine: str, threads: int, images: Iterable[Path]) -> MemorySample:
    """Load a model and classify images with it, in a process that has done nothing else.

    Args:
        model: The model file.
        engine: Name of the engine.
        threads: Threads for one inference.
        images: Image files to classify.

    Raises:
        MissingExtraError: The engine is not installed.
        ModelFileError: The engine refuses the file.
        ImageError: An image cannot be classified.
    """
    engines.import_engine(engines.choose(model, engine))
    baseline = peak_rss()
    classifier = Classifier(model, engine=engine, threads=threads)
    for image in images:
        classifier.predict(image)
    return MemorySample(baseline, peak_rss())


def measure_any(model: Path, engine: str, threads: int, given: Given) -> MemorySample:
    """Load a model file without a ModelSpec and run it, in a process that has done no other work.

    Args:
        model: As for :func:`measure`.
        engine: As for :func:`measure`.
        threads: As for :func:`measure`.
        given: Shapes and values that its inputs need.

    Raises:
        MissingExtraError: As :func:`measure`.
        ModelFileError: As :func:`measure`; or an input is without a shape.
    """
    row = engines.choose(model, engine)
    engines.import_engine(row)
    baseline = peak_rss()
    loaded = engines.load_any(model, row, threads, given)
    feeds = tensors.draw(loaded.inputs, loaded.shapes, given, 0)
    for _ in range(_CALLS):
        loaded.call(feeds)
    return MemorySample(baseline, peak_rss())
