"""The web page: its files, read once and kept in memory."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from string import Template

from pneumo_edge import __version__
from pneumo_edge._util.assets import ASSETS, page
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.service import openapi
from pneumo_edge.service.limits import Limits

_HERE = Path(__file__).parent
#: Files of the page that are sent as they are, by their URL paths.
_FILES = {
    "/style.css": (ASSETS / "style.css", "text/css"),
    "/script.js": (_HERE / "script.js", "text/javascript"),
    "/page.js": (ASSETS / "page.js", "text/javascript"),
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
        "training": spec.data_remark,
        "version": __version__,
        "body": str(limits.body),
        "token": "" if needs_token else "hidden",
    }
    escaped = {name: html.escape(text) for name, text in facts.items()}
    before, after = (
        Template((_HERE / name).read_text(encoding="utf-8")).substitute(escaped)
        for name in ("before.html", "after.html")
    )
    text = page(
        title="pneumo-edge",
        head="",
        script="script.js",
        where="on this device",
        image=spec.task.image,
        without_script="The service itself does not; see openapi.json.",
        before=before,
        drop="",
        accept=",".join([*openapi.MEDIA_TYPES[:-1], ".dcm", ".dicom"]),
        kinds="JPEG, PNG or DICOM. It is only held in memory, and never stored.",
        status="",
        picture=f'<img id="picture" alt="The classified {spec.task.image}">',
        after=after,
    )
    files = {path: File(source.read_bytes(), media_type) for path, (source, media_type) in _FILES.items()}
    return {"/": File(text.encode(), "text/html"), **files}
