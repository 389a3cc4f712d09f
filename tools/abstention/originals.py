"""Which X-rays at full resolution the rule of the input check was chosen on, and which were scored once, at the end."""

from __future__ import annotations

import hashlib


def is_kept_aside(name: str) -> bool:
    """Whether an original is of the half that no choice looks at.

    Args:
        name: File name without its folder. No two originals here are of one patient.
    """
    return int(hashlib.sha256(f"original {name}".encode()).hexdigest(), 16) % 2 == 1
