"""The report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from benchmarks.report import figures
from benchmarks.report.content import Report
from benchmarks.summary import Summary
from pneumo_edge import extras

if TYPE_CHECKING:
    from markupsafe import Markup

_TEMPLATE = "report.html.jinja"
_DRAW = {"tradeoff": figures.draw_tradeoff, "latency": figures.draw_latency}


def render(report: Report, summary: Summary) -> str:
    """Write the report as a page with its style and its figures inside.

    Args:
        report: The content.
        summary: What the figures show.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    extras.need("jinja2", "report")
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("benchmarks.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["code"] = _code
    drawn = {
        (name, layout): Markup(draw(summary, layout)) for name, draw in _DRAW.items() for layout in figures.LAYOUTS
    }
    return environment.get_template(_TEMPLATE).render(report=report, figures=drawn)


def _code(text: str) -> Markup:
    """Escape a text, and set what stands between backticks as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
