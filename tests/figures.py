"""Figures that are built and not rendered, which takes most of a report's time."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import pytest

from pneumo_edge._util import drawing


def leave_unrendered(patch: pytest.MonkeyPatch) -> None:
    """Let every figure that is saved be an empty file, as long as ``patch`` lasts."""

    def leave(figure: Any, target: Path | IO[str], **_: Any) -> None:
        assert figure.axes
        if isinstance(target, Path):
            target.touch()
        else:
            target.write("<svg></svg>")

    patch.setattr(drawing, "save", leave)
