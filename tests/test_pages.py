"""Every command and every Python block of the documentation works as written: see ``tests/pages.py``."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from pneumo_edge.backbones import BACKBONES
from pneumo_edge.cli import SUMMARIES, load_verb
from tests import pages

_DOCS = pages.REPOSITORY / "docs"
#: The report is generated, and so are its commands.
_PAGES = {
    path.relative_to(pages.REPOSITORY).as_posix(): found
    for path in sorted([*_DOCS.rglob("*.md"), *pages.REPOSITORY.glob("*.md")])
    if path.name != "benchmark-report.md" and (found := pages.blocks(path))
}
_FAST = [page for page, blocks in _PAGES.items() if any(block.kind == "run" for block in blocks)]
_SLOW = [page for page, blocks in _PAGES.items() if any(block.kind == "slow" for block in blocks)]
_EVERY = [(page, command.line) for page, blocks in _PAGES.items() for block in blocks for command in block.commands]


@pytest.fixture
def folder(tmp_path: Path, sample_pack: Path) -> Path:
    """A folder with ``x-ray.jpeg`` and a small ``chest_xray``."""
    found = tmp_path / "reader"
    found.mkdir()
    (found / "chest_xray").symlink_to(sample_pack)
    shutil.copy(sample_pack / "test" / "PNEUMONIA" / "person121_bacteria_575.jpeg", found / "x-ray.jpeg")
    return found


@pytest.mark.parametrize("page", _FAST)
def test_the_blocks_work_as_written(page: str, folder: Path, offline: Mapping[str, str]) -> None:
    for block in _PAGES[page]:
        if block.kind == "run":
            pages.run(block, folder, offline)


@pytest.mark.slow
@pytest.mark.parametrize("page", _SLOW)
def test_the_long_blocks_work_as_written(
    page: str, folder: Path, offline: Mapping[str, str], request: pytest.FixtureRequest
) -> None:
    if any("$ pneumo-edge train" in block.text for block in _PAGES[page] if block.kind == "slow"):
        _begin_with(request.getfixturevalue("trained"), folder)
    chosen = any("$ pneumo-edge choose" in block.text and not block.setup for block in _PAGES[page])
    for block in _PAGES[page]:
        if block.kind in ("run", "slow"):
            pages.run(block, folder, offline, few_calls=not chosen)


def _begin_with(trained: Path, folder: Path) -> None:
    """Put a finished run into a folder, and the two files that the tutorial exports."""
    shutil.copytree(trained / "runs", folder / "runs")
    (folder / "models").mkdir()
    for path in (trained / "models").iterdir():
        if not re.search(r"fp16|\.onnx", path.name):
            shutil.copy(path, folder / "models")


def test_what_another_test_runs_is_there() -> None:
    for blocks in _PAGES.values():
        for block in blocks:
            if block.kind == "run by":
                assert (pages.REPOSITORY / block.reason).is_file(), block.reason
            assert block.kind != "not run" or block.reason


def test_every_make_target_and_variable_exists() -> None:
    makefile = (pages.REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    for page, line in _EVERY:
        if line.startswith("make "):
            words = shlex.split(line, comments=True)[1:]
            assert {word for word in words if "=" not in word} <= targets, f"{page}: {line}"
            for name in (word.partition("=")[0] for word in words if "=" in word):
                assert f"$({name})" in makefile or f"$(if $({name})" in makefile, f"{page}: {line}"


def test_every_extra_exists_and_is_described() -> None:
    project = tomllib.loads((pages.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    install = (_DOCS / "how-to" / "install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", install, re.MULTILINE)) == set(project["optional-dependencies"])
    for page, line in _EVERY:
        if line.startswith("pip install"):
            for extras in re.findall(r"\[([\w,]+)\]", line):
                assert set(extras.split(",")) <= set(project["optional-dependencies"]), f"{page}: {line}"


@pytest.mark.parametrize(("page", "line"), [each for each in _EVERY if each[1].startswith("pneumo-edge ")])
def test_every_option_exists(page: str, line: str) -> None:
    verb, *words = shlex.split(line, comments=True)[1:]
    if verb.startswith("-"):
        return
    assert verb in SUMMARIES
    command = load_verb(verb)
    if hasattr(command, "commands"):
        command = command.commands[words[0]]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known | {"--help"}


def test_every_command_is_in_the_table() -> None:
    table = (_DOCS / "reference" / "index.md").read_text(encoding="utf-8")
    commands = {
        f"{verb} {inner}".strip() for verb in SUMMARIES for inner in getattr(load_verb(verb), "commands", None) or [""]
    }
    assert set(re.findall(r"^\| `([a-z ]+)` \|", table, re.MULTILINE)) == commands


def test_the_readme_is_short() -> None:
    """A newcomer reads it before anything else: whatever takes more words has a page of its own."""
    assert len((pages.REPOSITORY / "README.md").read_text(encoding="utf-8").split()) <= 700


def test_every_network_is_in_the_page_as_it_is() -> None:
    page = (_DOCS / "training.md").read_text(encoding="utf-8").split("## Networks")[1].split("\n## ")[0]
    rows = [
        f"| `{row.name}` | {row.title} | {', '.join(f'{alpha:g}' for alpha in sorted({1.0, *row.alphas}))} |"
        for row in BACKBONES.values()
    ]
    assert re.findall(r"^\| `.*$", page, re.MULTILINE) == rows
