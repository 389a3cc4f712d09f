"""What the documentation site has beside the pages in ``docs/``, as a hook of MkDocs: see ``mkdocs.yml``.

Pages that follow from the code or from raw results are generated here at each build, so that none can be out of date:
the commands from their own help, the JSON Schemas from the dataclasses, the benchmark's page from its results. Links
to files of the repository that the site does not have become links to the repository.
"""

from __future__ import annotations

import json
import logging
import os
import posixpath
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumo_edge import benchmarks
from pneumo_edge._util import records
from pneumo_edge.benchmarks import report, results, verdict_file
from pneumo_edge.benchmarks.report.runs import gather
from pneumo_edge.benchmarks.summary import summarise
from pneumo_edge.converters.proof import Proof
from pneumo_edge.kit.documents import KitVectors, PortResults
from pneumo_edge.runs import Run
from pneumo_edge.scale.run import ScoreManifest
from pneumo_edge.scale.summary import Summary
from pneumo_edge.scoring import scores
from pneumo_edge.spec import ModelSpec
from pneumo_edge.studies import Study
from tools.benchmark_pages import FULL, SCORES

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

_ROOT = Path(__file__).parents[1]
_log = logging.getLogger("mkdocs.hooks.site")
#: Files of the repository that are pages of the site, and their place there.
COPIES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "chest_xray_sample/README.md": "sample-pack.md",
    "pneumo_edge/bundled/efficientnetb0-int8.md": "cards/efficientnetb0-int8.md",
    "pneumo_edge/bundled/mobilenetv2-int8.md": "cards/mobilenetv2-int8.md",
}
#: JSON documents that others may read: file name, dataclass, what writes it.
DOCUMENTS: dict[str, tuple[type, str]] = {
    "model-spec": (ModelSpec, "is inside every model file; `pneumo-edge info FILE --json` prints it"),
    "run": (Run, "is `run.json` in the folder of a training run"),
    "study": (Study, "is `study.json` in the folder of a study"),
    "proof": (Proof, "is `FILE.proof.json` beside an exported model file"),
    "benchmark-results": (results.Results, "is `results.json`, which `pneumo-edge benchmark` writes"),
    "verdict": (verdict_file.VerdictRecord, "is `verdict.json`, which `pneumo-edge benchmark` writes"),
    "score-manifest": (ScoreManifest, "is `_manifest.json` in a data set that `pneumo-edge score` writes"),
    "score-summary": (Summary, "is `_summary.json` in a data set that `pneumo-edge score` writes"),
    "kit-vectors": (KitVectors, "is `vectors/vectors.json` in a kit, which `pneumo-edge kit` writes"),
    "port-results": (PortResults, "is what a port writes and `pneumo-edge kit check` grades"),
    "scores": (scores.EvaluationScores, "is `scores.json`, which `pneumo-edge evaluate` writes"),
}
#: A role of Sphinx, as docstrings use them, after Markdown has made code of its name.
_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):<code>(~?)([\w.]+)</code>")
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def urls() -> dict[str, str]:
    """The project's addresses, of ``pyproject.toml``."""
    urls: dict[str, str] = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    return urls


def on_config(config: MkDocsConfig) -> None:
    """Set the addresses."""
    config.site_url = urls()["Documentation"]
    # Not as `repo_url`: of that the theme asks GitHub for stars, in each reader's browser.
    config.extra["social"] = [{"icon": "material/source-repository", "link": urls()["Source"], "name": "Source"}]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the generated pages and the copies."""
    from mkdocs.structure.files import File

    texts = {**dict(_copies()), "reference/commands.md": commands(), "reference/schemas.md": _schemas_page()}
    texts |= {f"reference/{name}.schema.json": json.dumps(schema(name), indent=2) + "\n" for name in DOCUMENTS}
    for path, text in texts.items():
        files.append(File.generated(config, path, content=text))
    files.append(File.generated(config, "benchmark-report.html", abs_src_path=str(_benchmark_page(config))))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links out of ``docs/`` to where their files are for a reader of the site."""
    here = page.file.src_uri
    origin = {site: repository for repository, site in COPIES.items()}.get(here, f"docs/{here}")

    def lead(link: re.Match[str]) -> str:
        target = link[2]
        if re.match(r"[a-z]+:|/", target):
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        place = COPIES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if place and files.get_file_from_path(place):
            return f"{link[1]}{os.path.relpath(place, posixpath.dirname(here) or '.')}{link[3]}"
        if not (_ROOT / path).exists():
            _log.warning("%s links to %s, which is not there", origin, target)
        return f"{link[1]}{urls()['Source']}/blob/main/{path}{link[3]}"

    return _LINK.sub(lead, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show the roles of Sphinx in docstrings, such as ``:class:`Within```, as code."""
    return _ROLE.sub(lambda role: f"<code>{role[2].rpartition('.')[2] if role[1] else role[2]}</code>", html)


def commands() -> str:
    """A page with every verb: the text of its help, its arguments and its options."""
    import typer
    from typer.cli import get_docs_for_click

    from pneumo_edge.cli import SUMMARIES, app, load_verb

    parts = ["# Commands", f"`pneumo-edge VERB --help` prints the same. {app.info.epilog}"]
    for verb in SUMMARIES:
        command, name = load_verb(verb), f"pneumo-edge {verb}"
        text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name=name), name=name, indent=1)
        # A list of what stands below it, with each line cut off.
        text = re.sub(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+\n*", "", text)
        parts.append(re.sub(r"^\* `--help`: .*\n", "", text, flags=re.MULTILINE).strip())
    return "\n\n".join(parts) + "\n"


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a document of :data:`DOCUMENTS`."""
    kind, _ = DOCUMENTS[name]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{urls()['Documentation']}reference/{name}.schema.json",
        "title": kind.__name__,
        **records.schema(kind, earlier=True),
    }


def _schemas_page() -> str:
    parts = [
        "# JSON documents",
        "Each document is described by a JSON Schema (2020-12), generated from the dataclass that writes it. Earlier "
        "files may lack fields that the schema does not require. A reader ignores fields that it does not know, so "
        "that it reads files of later minor versions.",
    ]
    for name, (kind, what) in DOCUMENTS.items():
        rows = "\n".join(f"| `{field}` | {_kind(of)} |" for field, of in records.schema(kind)["properties"].items())
        parts.append(
            f"## {kind.__name__}\n\n`{kind.__name__}` {what}. [JSON Schema]({name}.schema.json).\n\n"
            f"| field | type |\n| --- | --- |\n{rows}"
        )
    return "\n\n".join(parts) + "\n"


def _kind(schema: dict[str, Any]) -> str:
    """The type of a field in a few words."""
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema["type"] == "array":
        return f"array of {_kind(schema['items'])}"
    if schema["type"] == "object" and "properties" in schema:
        return "object: " + ", ".join(f"`{name}`" for name in schema["properties"])
    return f"object of {_kind(schema['additionalProperties'])}" if schema["type"] == "object" else schema["type"]


def _copies() -> Iterator[tuple[str, str]]:
    for path, place in COPIES.items():
        yield place, (_ROOT / path).read_text(encoding="utf-8")


def _benchmark_page(config: MkDocsConfig) -> Path:
    """The benchmark's page, drawn again where it is older than what it is drawn from."""
    made = _ROOT / "out" / "benchmark-report.html"
    sources = [_ROOT / FULL, _ROOT / SCORES, *Path(benchmarks.__path__[0]).rglob("*.*")]
    if not made.exists() or made.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        made.parent.mkdir(exist_ok=True)
        report.write(gather([summarise(results.read(_ROOT / FULL))], scores.read(_ROOT / SCORES)), made)
    return made
