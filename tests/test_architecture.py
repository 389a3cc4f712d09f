"""The architecture page, and what other pages say of the code, is true of it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import pneumo_edge

_REPOSITORY = Path(__file__).parents[1]
_DOCS = _REPOSITORY / "docs"


@pytest.mark.parametrize("page", sorted(page.name for page in _DOCS.glob("*.md")))
def test_every_module_that_a_page_names_is_there(page: str) -> None:
    text = (_DOCS / page).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:pneumo_edge|converters|benchmarks|tools|tests)/[\w/]+\.py)`", text):
        # In the source distribution the linked packages are inside pneumo_edge alone.
        assert any((folder / path).is_file() for folder in (_REPOSITORY, _REPOSITORY / "pneumo_edge")), path


def test_the_architecture_shows_the_layers_that_the_linter_checks() -> None:
    settings = tomllib.loads((_REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each.get("containers") == ["pneumo_edge"])
    page = (_DOCS / "architecture.md").read_text(encoding="utf-8")
    shown = page.split("## Dependencies")[1].split("```")[1].split()
    assert shown == " ".join(layers).split()


def test_package_and_architecture_name_every_package() -> None:
    root = _REPOSITORY / "pneumo_edge"
    names = {path.name for path in root.iterdir() if (path / "__init__.py").is_file()}
    names |= {path.stem for path in root.glob("[a-z]*.py")}
    assert set(re.findall(r"^``(\w+)``", pneumo_edge.__doc__ or "", re.MULTILINE)) == names - {"_util"}
    table = (_DOCS / "architecture.md").read_text(encoding="utf-8").split("## Packages")[1].split("## Dep")[0]
    assert set(re.findall(r"^\| `pneumo_edge\.(\w+)` \|", table, re.MULTILINE)) == names
