"""The web page: its files, read once and kept in memory."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from string import Template

from pneumo_edge import __version__
from pneumo_edge._util.assets import ASSETS
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.service import openapi
from pneumo_edge.service.limits import Limits

_HERE = Path(__file__).parent
_FILES = {
    "/": (_HERE / "page.html", "text/html"),
    "/style.css": (ASSETS / "style.css", "text/css"),
    "/script.js": (_HERE / "script.js", "text/javascript"),
    "/icon.svg": (ASSETS / "icon.svg", "image/svg+xml"),
}


@dataclass(frozen=True)
class File:
    """A file of the page: its bytes and their media type."""

    content: bytes
    media_type: str


def render(classifier: Classifier, limits: Limits, needs_token: bool = False) -> dict[str, File]:
    """Return the files of the page by their URL paths."""
    spec, engine = classifier.spec, classifier.engine
    facts = {
        "model": spec.name,
        "engine": f"{engine.name} {engine.version}",
        "positive": spec.decision.positive_class or "",
        "explained": spec.decision.positive_class or "the class that is shown",
        "training": f"{spec.data_use} "
        f"{'X-rays' if spec.data.real else 'PHANTOM images, not X-rays; do not use it on patients'}",
        "version": __version__,
        "accept": ",".join([*openapi.MEDIA_TYPES[:-1], ".dcm", ".dicom"]),
        "body": str(limits.body),
        "token": "" if needs_token else "hidden",
    }
    escaped = {name: html.escape(text) for name, text in facts.items()}
    rendered = {}
    for path, (source, media_type) in _FILES.items():
        text = source.read_text(encoding="utf-8")
        content = Template(text).substitute(escaped) if media_type == "text/html" else text
        rendered[path] = File(content.encode(), media_type)
    return rendered
