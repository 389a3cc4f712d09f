"""Warns if a model file was not verified on this engine, or on this processor where its answers depend on it."""

from __future__ import annotations

from pneumo_edge.runtime.engines import USUAL
from pneumo_edge.spec import ModelSpec, VerificationSpec


def remark(name: str, spec: ModelSpec, engine: str | None = None) -> str | None:
    """Return a warning for a file that was not verified as it is used here.

    Args:
        name: The file's name.
        spec: Its ModelSpec.
        engine: The engine that runs it; None if it is not run. A warning is made for an engine that formats are not
            verified on when files are made, unless this file was.

    Returns:
        Sentences on one line; None if the file was verified on this kind of processor, or answers the same on all.
    """
    verification = spec.verification
    if engine is not None and engine not in USUAL and engine not in (verification.engines if verification else ()):
        return (
            f"{name} was not verified on {engine} when it was made. If its .proof.json is beside it, check it with "
            f"`pneumo-edge verify --engine {engine}`."
        )
    if verification is None or not _depends(spec, verification):
        return None
    # Imported only here, because the answers of most files do not depend on the processor.
    from pneumo_edge._util import processor

    here = processor.kind()
    if verification.processor == here:
        return None
    there = (
        f"was not verified on this kind of processor, {here}, but on {verification.processor}"
        if verification.processor
        else f"does not say on which kind of processor it was verified; this one is {here}"
    )
    return (
        f"{name} {there}. Its integer arithmetic may give other answers on another kind. If its .proof.json is beside "
        "it, check it on this machine with `pneumo-edge verify`."
    )


def _depends(spec: ModelSpec, verification: VerificationSpec) -> bool:
    if verification.by_processor is not None:
        return verification.by_processor
    # Only for older files without this field.
    from pneumo_edge.formats import FORMATS

    rows = [row for row in FORMATS.values() if row.signed_before and row.name == spec.format]
    return any(engine in verification.engines for row in rows for engine in row.engines)
