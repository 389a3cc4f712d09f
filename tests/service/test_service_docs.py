"""The service as the README and its page describe it: each command as written, in an empty folder with an X-ray."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from pneumo_edge.service import openapi
from pneumo_edge.service.limits import Limits

_REPOSITORY = Path(__file__).parents[2]
_README = (_REPOSITORY / "README.md").read_text(encoding="utf-8").split("## As a service")[1].split("\n## ")[0]
_PAGE = (_REPOSITORY / "docs" / "serve.md").read_text(encoding="utf-8")
_START, _SAYS = re.findall(r"^\$ (pneumo-edge serve)\n(.+)$", _PAGE, re.MULTILINE)[0]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with ``x-ray.jpeg``, where the service is running."""
    try:
        socket.create_server(("127.0.0.1", 8000)).close()
    except OSError:
        pytest.skip("the documented port is in use on this machine")
    Image.effect_noise((400, 300), 60).save(tmp_path / "x-ray.jpeg")
    command = [sys.executable, "-m", "pneumo_edge", *shlex.split(_START)[1:]]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().strip() == _SAYS
        yield tmp_path
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_the_commands_work_as_written(folder: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    assert f"$ {_START}\n{_SAYS}\n" in _README
    commands = re.findall(r"^\$ (curl .+)$", _README + _PAGE, re.MULTILINE)
    assert len(commands) == 6
    for command in commands:
        done = subprocess.run(
            [*shlex.split(command), "--fail", "--silent"], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, command
        document = json.loads(done.stdout)
        if openapi.PREDICT in command:
            (example,) = re.findall(r"```json\n(.*?)```", _PAGE, re.DOTALL)
            explanation = ["explanation"] if "explain=true" in command else []
            assert list(document) == list(json.loads(example)) + explanation


def test_the_python_works_as_written(folder: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", block], cwd=folder, capture_output=True, text=True, check=False)
    assert re.match(r"(NORMAL|PNEUMONIA) \{", done.stdout), done.stderr


def test_the_page_has_the_limits_and_refusals_that_there_are() -> None:
    limits = Limits()
    rows = dict(re.findall(r"^\| `--([a-z-]+)` \| (\S+) \|", _PAGE, re.MULTILINE))
    assert rows["max-body"] == f"{limits.body // 10**6}MB"
    assert (int(rows["max-pixels"]), int(rows["queue"])) == (limits.pixels, limits.waiting)
    assert rows["timeout"] == f"{limits.seconds:g}s"
    responses = openapi.describe(limits)["paths"][openapi.PREDICT]["post"]["responses"]
    assert set(responses) - {"200"} == set(
        re.findall(r"\b([45]\d\d)\b(?! \w+ of)", _PAGE.split("## Limits")[1].split("## ")[0])
    )
