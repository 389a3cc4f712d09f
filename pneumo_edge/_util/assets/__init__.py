"""What the pages have in common, that of the service and the one that classifies in the browser."""

from __future__ import annotations

import html
from pathlib import Path
from string import Template

#: The folder with ``style.css``, ``icon.svg``, and ``page.js``, which takes an image and shows its answer.
ASSETS = Path(__file__).parent
#: What is HTML of its own; what else fills the page is text.
_PARTS = ("head", "before", "after", "picture", "drop")


def page(**parts: str) -> str:
    """The HTML of a page: ``page.html``, filled.

    Args:
        **parts: ``title``, ``script``, ``where`` (it classifies), ``image`` (what it classifies, see
            :attr:`pneumo_edge.task.Task.image`), ``without_script``, ``accept``, ``kinds`` and ``status`` are text.
            ``head``, ``before`` and ``after`` what is above, ``picture`` and ``drop`` (attributes) are HTML.
    """
    parts["what"] = "a chest X-ray" if parts["image"] == "X-ray" else f"an {parts['image']}"
    escaped = {name: text if name in _PARTS else html.escape(text) for name, text in parts.items()}
    return Template((ASSETS / "page.html").read_text(encoding="utf-8")).substitute(escaped)
