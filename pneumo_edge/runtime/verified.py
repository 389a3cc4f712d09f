"""Warns if a model file was not verified on this kind of processor and its answers depend on it."""

from __future__ import annotations

from pneumo_edge.spec import ModelSpec, VerificationSpec


def remark(name: str, spec: ModelSpec) -> str | None:
    """Return a warning for a file whose answers depend on the kind of processor and were not verified on this one.

    Args:
        name: The file's name.
        spec: Its ModelSpec.

    Returns:
        One or two sentences; None if the file was verified on this kind of processor, or answers the same on all.
    """
    verification = spec.verification
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
