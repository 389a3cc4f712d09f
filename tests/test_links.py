"""Links between the pages lead somewhere, and the project's address is the same everywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import pneumo_edge
from tests import pages

_ROOT = pages.REPOSITORY
_DOCUMENTS = sorted(
    [
        *_ROOT.glob("*.md"),
        *(_ROOT / "docs").rglob("*.md"),
        *(_ROOT / "pneumo_edge" / "bundled").glob("*.md"),
        _ROOT / "chest_xray_sample" / "README.md",
    ]
)
#: Pages of the site that `tools/site.py` generates.
_GENERATED = {"docs/benchmark-report.html", "docs/reference/commands.md", "docs/reference/schemas.md"}


@pytest.mark.parametrize("page", _DOCUMENTS, ids=lambda path: path.relative_to(_ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if file.is_relative_to(_ROOT) and file.relative_to(_ROOT).as_posix() in _GENERATED:
            continue
        assert file.exists(), target
        if anchor:
            assert anchor in _anchors(file), target


def test_the_readme_has_absolute_links_to_what_is_there() -> None:
    """So that they work on a package index, which shows the README without the repository."""
    urls = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    targets = re.findall(r"\]\(([^)\s]+)\)", (_ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(targets) > 10
    for target in targets:
        if target.startswith(urls["Documentation"]):
            path, _, anchor = target.removeprefix(urls["Documentation"]).partition("#")
            page = _ROOT / "docs" / path.replace(".html", ".md")
            assert page.exists() and (not anchor or anchor in _anchors(page)), target
        else:
            path = re.sub(rf"^{re.escape(urls['Source'])}/(blob|raw)/main/", "", target)
            assert path != target and (_ROOT / path).is_file(), target


def _anchors(page: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_project_has_one_address() -> None:
    urls = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert urls["Homepage"] == urls["Source"] and all(url.startswith("https://") for url in urls.values())
    for file in [*_DOCUMENTS, _ROOT / "CITATION.cff", *(_ROOT / ".github").rglob("*.*")]:
        for url in re.findall(r"https://github\.com/[\w-]+/pneumo-edge", file.read_text(encoding="utf-8")):
            assert url == urls["Source"], file


def test_the_citation_is_of_this_version() -> None:
    yaml = pytest.importorskip("yaml")
    cited = yaml.safe_load((_ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert str(cited["version"]) == pneumo_edge.__version__
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited["license"] == project["license"]
    assert cited["repository-code"] == project["urls"]["Source"]


def test_the_changelog_has_this_version() -> None:
    changelog = (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## [{pneumo_edge.__version__}] - " in changelog
    assert changelog.index("## [Unreleased]") < changelog.index(f"## [{pneumo_edge.__version__}]")
