"""The Python in the pages names what there is."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

_DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", sorted(page.name for page in _DOCS.glob("*.md")))
def test_every_import_in_a_page_finds_its_names(page: str) -> None:
    for block in re.findall(r"```python\n(.*?)```", (_DOCS / page).read_text(encoding="utf-8"), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pneumo_edge"):
                package = importlib.import_module(node.module)
                for alias in node.names:
                    if not hasattr(package, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("page", sorted(page.name for page in _DOCS.glob("*.md")))
def test_every_module_that_a_page_names_is_there(page: str) -> None:
    text = (_DOCS / page).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:pneumo_edge|converters|benchmarks|tools|tests)/[\w/]+\.py)`", text):
        assert (_DOCS.parent / path).is_file(), path
