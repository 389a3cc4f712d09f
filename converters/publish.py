"""Last step of an export: gives a file that passed its name, its ModelSpec and its proof."""

from __future__ import annotations

from pathlib import Path

from pneumo_edge._util import files, processor
from pneumo_edge.converters import convert, metadata, proof
from pneumo_edge.converters.prepare import Prepared
from pneumo_edge.converters.proof import Origin, Proof
from pneumo_edge.converters.verify import Verified
from pneumo_edge.evaluation.conformal import COVERAGE, NEAREST
from pneumo_edge.evaluation.drift import BINS
from pneumo_edge.formats import Format
from pneumo_edge.runtime import engines
from pneumo_edge.spec import ModelSpec


def is_up_to_date(prepared: Prepared, row: Format) -> bool:
    """Whether a format's file and its proof exist and are up to date."""
    return proof.still_holds(prepared.path(row), _origin(prepared, row))


def remove(prepared: Prepared, row: Format) -> None:
    """Remove a format's file and its proof, so that every file in the folder has passed."""
    for path in (prepared.path(row), proof.path(prepared.path(row))):
        path.unlink(missing_ok=True)


def publish(prepared: Prepared, row: Format, converted: Path, spec: ModelSpec, verified: Verified) -> ModelSpec:
    """Write a file to its final path, with its ModelSpec inside and its proof beside it.

    Args:
        prepared: The inputs of the conversion.
        row: The format of the file.
        converted: The file without a ModelSpec.
        spec: The ModelSpec to write into it.
        verified: The results of its verification.

    Returns:
        The spec that was written.
    """
    path = prepared.path(row)
    with files.atomic(path) as temporary:
        spec = metadata.write_spec(converted, temporary, spec)
        Proof(
            path.name,
            temporary.stat().st_size,
            files.sha256(temporary),
            _origin(prepared, row),
            verified.threshold,
            verified.verification,
            spec.calibration,
        ).save(path)
    return spec


def _origin(prepared: Prepared, row: Format) -> Origin:
    run = prepared.opened.run
    rows = [engines.ENGINES[name] for name in row.engines]
    versions = {engine.name: engine.version for engine in rows if engine.is_installed}
    return Origin(
        run.backbone,
        prepared.checkpoint,
        run.data.fingerprint,
        prepared.representative.manifest if row.calibrated else None,
        prepared.reference_sha256,
        row.record,
        {**convert.versions(), **versions},
        COVERAGE,
        processor.kind() if row.by_processor else None,
        BINS,
        NEAREST,
    )
