from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


@dataclass(frozen=True)
class Done:
    """A finished ``pneumo-edge``, its output as text and its peak memory in MiB."""

    code: int
    out: str
    err: str
    peak: float

    @property
    def errors(self) -> list[str]:
        return self.err.splitlines()


Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def usual_buffering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output is buffered as in a user's shell, whatever the test runner was started with."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


@pytest.fixture
def command() -> list[str]:
    """What starts ``pneumo-edge``; a test may put something else in its place."""
    return [sys.executable, "-m", "pneumo_edge"]


@pytest.fixture
def run(tmp_path: Path, command: list[str]) -> Run:
    """Run ``pneumo-edge`` as a user does, in a process of its own."""

    def run_command(*arguments: object, **options: Any) -> Done:
        out, err = tmp_path / "stdout", tmp_path / "stderr"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen([*command, *map(str, arguments)], stdout=stdout, stderr=stderr, **options)
            # Popen's own wait does not tell the memory of this one child.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        kibibytes = usage.ru_maxrss / 1024 if sys.platform == "darwin" else usage.ru_maxrss
        return Done(process.returncode, out.read_text(), err.read_text(), kibibytes / 1024)

    return run_command


@pytest.fixture
def x_rays(tmp_path: Path) -> Path:
    """A folder with a dark image, and a bright one in a folder of its own."""
    folder = tmp_path / "x-rays"
    (folder / "more").mkdir(parents=True)
    Image.new("L", (300, 250), 40).save(folder / "dark.png")
    Image.new("RGB", (250, 300), (200, 200, 200)).save(folder / "more" / "bright.JPG")
    return folder
