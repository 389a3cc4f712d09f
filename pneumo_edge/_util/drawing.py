"""Saves figures that show any name of a file, folder or class unchanged."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pneumo_edge._util.records import encodable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colours of what matters less, and of lines behind the data.
MUTED, RULE = "#62656b", "#dcdcd7"
#: Settings of matplotlib that figures share.
STYLE: dict[Any, Any] = {
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.size": 9,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
}


def save(figure: Figure, target: Path | IO[str] | IO[bytes], **options: Any) -> None:
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
    with _plain_texts(figure):
        figure.savefig(target, **options)


def lay_out(figure: Figure) -> None:
    """Give what a ``matplotlib.figure.Figure`` holds its places, as :func:`save` will; its texts are changed."""
    with _plain_texts(figure):
        figure.draw_without_rendering()


@contextmanager
def _plain_texts(figure: Figure) -> Iterator[None]:
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
        text.set_text(encodable(text.get_text()))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        yield
