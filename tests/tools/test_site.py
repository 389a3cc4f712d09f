"""The documentation site: it builds without a warning and without a network, and loads nothing from elsewhere."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pneumo_edge import bundled
from pneumo_edge._util import records
from pneumo_edge.benchmarks import results, verdict_file
from pneumo_edge.benchmarks.report.runs import gather
from pneumo_edge.benchmarks.summary import summarise
from pneumo_edge.cli import SUMMARIES
from pneumo_edge.converters import proof
from pneumo_edge.evaluation.drift import Comparison
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.runtime.identity import PredictorIdentity
from pneumo_edge.scale.run import ScoreManifest, ShardFile
from pneumo_edge.scale.summary import Group, Summary
from pneumo_edge.scoring import scores
from tools import benchmark_pages, site

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="the extra 'docs' is not installed")
    folder = tmp_path_factory.mktemp("site")
    nobody = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)],
        cwd=_ROOT,
        env={**os.environ, **nobody, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(built: Path) -> None:
    pages = list(built.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\s\">]+)", text)
        loaded += re.findall(r"<link rel=\"?(?:stylesheet|icon|preconnect|preload)\b[^>]*href=\"?([^\s\">]+)", text)
        assert not [each for each in loaded if re.match(r"(https?:)?//", each)], page
    for sheet in built.rglob("*.css"):
        assert not re.search(r"url\(\"?(https?:)?//|@import \"?http", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.slow
def test_the_reference_has_every_verb_class_and_schema(built: Path) -> None:
    commands = html.unescape((built / "reference/commands.html").read_text(encoding="utf-8"))
    assert all(f">pneumo-edge {verb}</code>" in commands for verb in SUMMARIES)
    api = (built / "reference/api.html").read_text(encoding="utf-8")
    for name in ("Classifier.predict", "Prediction", "ModelSpec", "PneumoEdgeError"):
        assert re.search(rf'id="pneumo_edge\.[\w.]*{name}"', api), name
    assert "float32" in api
    assert not re.search(r":(class|func|mod|meth|data):", api)
    for name in site.DOCUMENTS:
        assert json.loads((built / f"reference/{name}.schema.json").read_text())["$id"].endswith(f"{name}.schema.json")
    report = (built / "benchmark-report.html").read_text(encoding="utf-8")
    assert "<svg" in report and "not separable" in report


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_its_screen_or_asks_another_host(built: Path, browser: Browser, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name in (
        "index", "tutorial", "how-to/classify", "reference/index", "reference/commands", "reference/api", "models",
        "formats", "quantization", "backbones",
    ):  # fmt: skip
        page.goto((built / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    page.close()
    assert asked and not [url for url in asked if not url.startswith(("file:", "data:"))]


def _documents() -> Iterator[tuple[str, str]]:
    model = bundled.path(bundled.DEFAULT)
    yield "model-spec", records.dumps(read_spec(model))
    yield "proof", proof.path(model).read_text(encoding="utf-8")
    of = PredictorIdentity(
        "mobilenetv2-int8", "0" * 64, "litert", "2", ("NORMAL", "PNEUMONIA"), "PNEUMONIA", True, False
    )
    shards = (ShardFile("0000000-0.parquet", 2, "0" * 64),)
    scored = ScoreManifest(1, "archive", of, 2, {"NORMAL": 1}, 0, 1, {"ImageError": 1}, 0.5, "0" * 64, shards)
    yield "score-manifest", records.dumps(scored)
    compared = Comparison("distance", None, None, 5, 0.1, 0.2, 0.1, 0.2, 0.5)
    group = Group("a", 5, {"NORMAL": 5}, 1, 1, 0)
    summary = Summary(
        5, {"NORMAL": 5}, 1, 1, 0.01, {}, 2.0, 2.5, "folder", (group,), (compared,), None, (5, 0), {"PNEUMONIA": (4, 1)}
    )
    yield "score-summary", records.dumps(summary)
    yield "scores", records.dumps(scores.read(_ROOT / benchmark_pages.SCORES))
    measured = _ROOT / benchmark_pages.FULL
    yield "benchmark-results", records.dumps(results.read(measured))
    (run,) = gather([summarise(results.read(measured))])
    yield "verdict", records.dumps(verdict_file.of(run.summary, run.verdict, measured))


@pytest.mark.parametrize(("name", "document"), list(_documents()), ids=lambda value: value[:20])
def test_what_is_written_fits_its_schema(name: str, document: str) -> None:
    schemas = pytest.importorskip("jsonschema_rs")
    schema = site.schema(name)
    validator = schemas.validator_for(schema)
    assert not [error.message for error in validator.iter_errors(json.loads(document))]
    for field in schema["required"]:
        cut: dict[str, Any] = json.loads(document)
        del cut[field]
        assert not validator.is_valid(cut)
