"""Figures that show names as they are, whatever a file, a folder or a class is called."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO, Any

from pneumo_edge.records import encodable


def save(figure: Any, target: Path | IO[str], **options: Any) -> None:
    """Save a ``matplotlib.figure.Figure``.

    matplotlib sets what stands between dollar signs as mathematics, and fails where it is none; its fonts take no lone
    surrogates, and it warns of each character that they lack.

    Args:
        figure: The figure; its texts are changed.
        target: A file, or a stream.
        options: Those of ``savefig``.

    Raises:
        OSError: The file cannot be written.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(encodable(text.get_text()))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(target, **options)
