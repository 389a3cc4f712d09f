"""No private words in the texts that users read: help, messages, docstrings and comments, and the pages."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import pages

#: What is searched: the packages below ``pneumo_edge``, its own modules, the tools, and the pages.
_PLACES = (
    *sorted(path.name for path in (pages.REPOSITORY / "pneumo_edge").iterdir() if (path / "__init__.py").exists()),
    *("", "../tools", "../docs", ".."),
)
_SUFFIXES = (".py", ".html", ".js", ".md")
#: What not to write, and what to write instead.
_WORDS = {
    r"\broads?\b": "pipeline",
    r"\bjudg(?:e|es|ed|ing)\b": "classify",
    r"\bforeign\b": "out-of-distribution",
    r"\bwhatever\b": "any",
    r"\bwhoever\b": "everyone who",
    r"\bonce more\b": "again",
    r"\ball the same\b": "anyway, or nothing",
    r"\b(?:goes|go|going) on\b": "resume, continue",
    r"\b(?:says?|tells?) of (?:itself|themselves)\b": "self-describing, the ModelSpec",
    r"\bc[ao]mes? out\b": "results",
    r"\bmiss(?:es|ed) (?:a |its |the |their )?(?:bounds?|gates?)\b": "fails its acceptance checks",
    r"\bhold(?:s|ing)? (?:it|them|files?|a file|model files) to\b": "checks",
}
#: Texts that need such a word: names that JSON, CSV and Python have, and quoted programs.
_ALLOWED = ('"foreign"', "`foreign`", "foreign:", "def foreign")


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """The line number and text of every comment and string of a file; all lines of a file that is not Python."""
    if path.suffix != ".py":
        yield from enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        return
    kinds = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
    with path.open("rb") as stream:
        for token in tokenize.tokenize(stream.readline):
            if token.type in kinds:
                yield token.start[0], token.string


def _found(path: Path) -> Iterator[str]:
    for number, text in _texts(path):
        for allowed in _ALLOWED:
            text = text.replace(allowed, "")
        # A phrase may run over two lines.
        text = re.sub(r"\s+", " ", text)
        for word, instead in _WORDS.items():
            if match := re.search(word, text, re.IGNORECASE):
                yield f"{path.relative_to(pages.REPOSITORY)}:{number}: {match[0]!r}; write: {instead}"


@pytest.mark.parametrize("place", _PLACES)
def test_no_private_words(place: str) -> None:
    folder = pages.REPOSITORY / "pneumo_edge" / place
    found = folder.glob("*") if place in ("", "..") else folder.rglob("*")
    files = sorted(path.resolve() for path in found if path.suffix in _SUFFIXES)
    assert files
    assert [line for path in files for line in _found(path)] == []


def test_private_words_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "REPOSITORY", tmp_path)
    module = tmp_path / "module.py"
    module.write_text('"""Judge an image\n\nand go\non."""\nJUDGE = "foreign"  # Once more\n')
    assert [line.partition(";")[0] for line in _found(module)] == [
        "module.py:1: 'Judge'",
        "module.py:1: 'go on'",
        "module.py:5: 'Once more'",
    ]
