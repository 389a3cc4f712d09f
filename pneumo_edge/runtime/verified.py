"""Whether a model file was verified on a processor such as this one, where that makes a difference."""

from __future__ import annotations

from pneumo_edge.spec import ModelSpec, VerificationSpec


def remark(name: str, spec: ModelSpec) -> str | None:
    """What is to be said of a file whose answers depend on the kind of processor, and were not verified on this one.

    Args:
        name: What the file is called.
        spec: What it says of itself.

    Returns:
        A sentence or two; None where the file was verified on this kind, or answers alike on all.
    """
    verification = spec.verification
    if verification is None or not _depends(spec, verification):
        return None
    # Not at the top: the answers of most files do not depend on it.
    from pneumo_edge._util import processor

    here = processor.kind()
    if verification.processor == here:
        return None
    there = (
        f"was never verified on a processor of this kind, {here}: it was on {verification.processor}"
        if verification.processor
        else f"does not say on which kind of processor it was verified; this one is {here}"
    )
    return (
        f"{name} {there}. Its integer arithmetic may give other answers on another kind. Where its proof lies beside "
        "it, `pneumo-edge verify` tells whether it is right here."
    )


def _depends(spec: ModelSpec, verification: VerificationSpec) -> bool:
    if verification.by_processor is not None:
        return verification.by_processor
    # Only for files from before they said so.
    from pneumo_edge.formats import FORMATS

    rows = [row for row in FORMATS.values() if row.signed_before and row.name == spec.format]
    return any(engine in verification.engines for row in rows for engine in row.engines)
