"""Renders the report as one self-contained HTML page."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from typing import TYPE_CHECKING

from pneumo_edge._util import extras
from pneumo_edge._util.document import LAYOUTS, Figure, Report

if TYPE_CHECKING:
    from markupsafe import Markup

#: Number of characters of code that a line on a phone has room for.
_WHOLE = 36
_TEMPLATE, _STYLE, _SCRIPT = "report.html.jinja", "report.css", "report.js"


def render(report: Report) -> str:
    """Render the report as a page with its style, script and figures embedded.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    extras.need("jinja2", "report")
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("pneumo_edge.benchmarks.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"code": _code, "anchor": _anchor, "draw": _draw}
    style, script = (
        resources.files("pneumo_edge.benchmarks.report").joinpath(name).read_text("utf-8") for name in (_STYLE, _SCRIPT)
    )
    return environment.get_template(_TEMPLATE).render(
        report=report,
        style=Markup(style),
        script=Markup(script),
        # The page allows only this script, so no name can inject another one.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _code(text: str) -> Markup:
    """Escape a text, and format text between backticks as code; a short one stays on one line."""
    from markupsafe import Markup, escape

    def code(found: re.Match[str]) -> str:
        kind = ' class="whole"' if len(found[1]) <= _WHOLE else ""
        return f"<code{kind}>{found[1]}</code>"

    return Markup(re.sub(r"`([^`]+)`", code, str(escape(text))))


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _draw(figure: Figure) -> list[tuple[str, Markup]]:
    """The figure in each layout."""
    from markupsafe import Markup

    return [(layout, Markup(figure.draw(layout))) for layout in LAYOUTS]
