"""Measures the peak memory of loading a model and classifying images in a fresh process."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from pneumo_edge.benchmarks.results import MemorySample
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.classifier import Classifier

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
