"""What a model file is, and what it weighs."""

from __future__ import annotations

from pathlib import Path

from pneumo_edge._util import files
from pneumo_edge.benchmarks.results import Model
from pneumo_edge.runtime import verified
from pneumo_edge.spec import ModelSpec


def measure(path: Path, name: str, spec: ModelSpec) -> Model:
    """Describe a model file by its size in bytes, the SHA-256 of its content, and its ModelSpec.

    Args:
        path: The model file.
        name: What it is called in the results.
        spec: The ModelSpec inside it.

    Raises:
        OSError: The file cannot be read.
    """
    return Model(
        file=name,
        size_bytes=path.stat().st_size,
        sha256=files.sha256(path),
        backbone=spec.backbone,
        format=spec.format,
        threshold=spec.decision.threshold,
        recipe=spec.training.recipe,
        initial_weights=spec.training.initial_weights,
        trained_on=spec.data.name,
        trained_on_real=spec.data.real,
        processor=spec.verification.processor if spec.verification else None,
        unverified=verified.remark(name, spec),
    )
