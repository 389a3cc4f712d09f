"""The code blocks of the pages, and how they are run: each as a reader would, in a folder with an X-ray.

A block is run unless a comment directly above it says otherwise:

- ``<!-- slow -->``: only in the slow tests, with all other blocks of its page, in order.
- ``<!-- run by: tests/... -->``: that test runs it.
- ``<!-- not run: reason -->``: its options are checked, as in every block.

``<!-- setup: command -->`` above a block is run before it and not shown to the reader. ``make`` and ``pip install``
are not run: their targets and extras are checked. A ``text`` block directly after a Python block is what it prints.
``...`` in an output stands for anything; numbers may differ.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
_FENCE = re.compile(
    r"^((?:<!-- .*? -->\n+)*)```(\w+)\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL
)
_COMMENT = re.compile(r"<!-- (slow|run by|not run|setup)(?:: (.*?))? -->")
#: What is not run, because it takes a package index or hours; it is checked by other means.
_CHECKED = re.compile(r"(make|pip|git|\S*/pip) ")
#: Options for a benchmark from which no file is chosen, and the same in Python.
_FEW = " --processes 2 --queries 10 --seconds 0"
_RAPID, _FEW_IN_PYTHON = 'preset="rapid"', 'preset="rapid", processes=2, queries=10, seconds=0'
_NUMBER = re.compile(r"[+-]?\d[\d.,]*(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Command:
    """A command of a console block, and the output that the page shows; ``None`` where it shows none."""

    line: str
    output: str | None


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Attributes:
        language: ``console``, ``sh`` or ``python``.
        text: What is between the fences.
        setup: Commands that come before it.
        kind: ``run``, ``slow``, ``run by`` or ``not run``.
        reason: What the comment says of its kind.
        prints: What the page shows of what Python code prints; ``None`` where it shows nothing.
    """

    language: str
    text: str
    setup: tuple[str, ...]
    kind: str
    reason: str
    prints: str | None = None

    @property
    def commands(self) -> list[Command]:
        """Those of a console or sh block."""
        if self.language == "sh":
            return [Command(line, None) for line in self.text.splitlines() if line.strip() and line[0] != "#"]
        if self.language != "console":
            return []
        parts = re.split(r"^\$ ", self.text.replace("\\\n", " "), flags=re.MULTILINE)[1:]
        return [Command(line, output.strip() or None) for line, _, output in (part.partition("\n") for part in parts)]


def blocks(page: Path) -> list[Block]:
    """The console, sh and Python blocks of a page, in order."""
    return list(_blocks(page.read_text(encoding="utf-8")))


def _blocks(text: str) -> Iterator[Block]:
    for above, language, code, prints in _FENCE.findall(text):
        if language not in ("console", "sh", "python"):
            continue
        said = _COMMENT.findall(above)
        kinds = [(kind, reason) for kind, reason in said if kind != "setup"] or [("run", "")]
        assert len(kinds) == 1, above
        setup = tuple(what for kind, what in said if kind == "setup")
        yield Block(language, code, setup, *kinds[0], prints=prints.strip() or None)


def run(block: Block, folder: Path, environment: Mapping[str, str] | None = None, *, few_calls: bool = False) -> str:
    """Run a block as it is written, compare what the page shows of its output, and return all output.

    With ``few_calls`` a benchmark makes few calls in few processes, from which no file can be chosen.
    """
    for line in block.setup:
        shell(line, folder, environment)
    if block.language == "python":
        code = with_few_calls(block.text) if few_calls else block.text
        output = python(code, folder, environment)
        _compare("python", output, block.prints)
        return output
    printed = []
    for command in block.commands:
        if _CHECKED.match(command.line):
            continue
        few = _FEW if few_calls and command.line.startswith("pneumo-edge benchmark ") else ""
        output = shell(command.line + few, folder, environment)
        _compare(f"$ {command.line}", output, command.output)
        printed.append(output)
    return "".join(printed)


def with_few_calls(code: str) -> str:
    """Python code whose benchmark of the preset rapid makes few calls in few processes."""
    return code.replace(_RAPID, _FEW_IN_PYTHON)


def _compare(what: str, output: str, shown: str | None) -> None:
    assert shown is None or re.search(_pattern(shown), _normal(output)), (
        f"{what}\nprints\n{output}\nand the page shows\n{shown}"
    )


def shell(command: str, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """What a command prints in a folder, with this environment's ``pneumo-edge``; it must succeed."""
    return _run(["bash", "-c", command], folder, environment)


def python(code: str, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """What Python code prints in a folder; it must succeed."""
    return _run([sys.executable, "-c", code], folder, environment)


def _run(command: list[str], folder: Path, environment: Mapping[str, str] | None) -> str:
    given = dict(os.environ if environment is None else environment)
    given["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{given['PATH']}"
    given |= {"BUNDLED": str(REPOSITORY / "pneumo_edge" / "bundled"), "RESULTS": str(REPOSITORY / "results")}
    done = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _normal(text: str) -> str:
    """Text in which neither numbers nor the width of a terminal show."""
    return " ".join(_NUMBER.sub("#", text).split())


def _pattern(shown: str) -> str:
    return ".*".join(re.escape(_normal(part)) for part in shown.split("..."))
