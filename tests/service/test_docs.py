"""The service as its page describes it: each command as written, in an empty folder with an X-ray."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pneumo_edge.service import connections, logs, openapi
from pneumo_edge.service.limits import Limits

_REPOSITORY = Path(__file__).parents[2]
_PAGE = (_REPOSITORY / "docs" / "serve.md").read_text(encoding="utf-8")
_REFERENCE = (_REPOSITORY / "docs" / "reference" / "service.md").read_text(encoding="utf-8")
_START, _SAYS = re.findall(r"^\$ (pneumo-edge serve)\n(.+)$", _PAGE, re.MULTILINE)[0]


def _skip_where_the_port_is_taken() -> None:
    try:
        socket.create_server(("127.0.0.1", 8000)).close()
    except OSError:
        pytest.skip("the documented port is in use on this machine")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with ``x-ray.jpeg``, where the service is running."""
    _skip_where_the_port_is_taken()
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
    others = _PAGE.split("## Let others in")[1].split("\n## ")[0]
    commands = re.findall(r"^\$ (curl .+)$", _PAGE.replace(others, ""), re.MULTILINE)
    assert len(commands) == 7
    for command in commands:
        done = subprocess.run(
            [*shlex.split(command), "--fail", "--silent"], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, command
        if openapi.METRICS in command:
            assert "pneumo_edge_verdicts_total" in done.stdout
            continue
        document = json.loads(done.stdout)
        if openapi.PREDICT in command:
            (example,) = re.findall(r"```json\n(.*?)```", _PAGE, re.DOTALL)
            explanation = ["explanation"] if "explain=true" in command else []
            assert list(document) == list(json.loads(example)) + explanation


def test_the_python_works_as_written(folder: Path) -> None:
    block, _ = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", block], cwd=folder, capture_output=True, text=True, check=False)
    assert re.match(r"(NORMAL|PNEUMONIA) \{", done.stdout), done.stderr


@pytest.mark.parametrize("example", range(2))
def test_others_are_let_in_as_written(tmp_path: Path, example: int) -> None:
    _skip_where_the_port_is_taken()
    if not shutil.which("curl") or not shutil.which("openssl"):
        pytest.skip("curl or openssl is not installed")
    Image.effect_noise((400, 300), 60).save(tmp_path / "x-ray.jpeg")
    section = _PAGE.split("## Let others in")[1].split("\n## ")[0]
    commands = re.findall(r"^\$ (.+)$", re.findall(r"```console\n(.*?)```", section, re.DOTALL)[example], re.MULTILINE)
    *before, start, ask = commands
    for command in before:
        subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    python = [sys.executable, "-m", "pneumo_edge", *shlex.split(start)[1:]]
    with subprocess.Popen(
        python, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("Listening on ")
        done = subprocess.run(
            ["sh", "-c", f"{ask} --silent"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert json.loads(done.stdout)["label"] in ("NORMAL", "PNEUMONIA"), done.stdout + done.stderr


def test_the_application_answers_in_another_server() -> None:
    _, block = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"nothing", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    # In a thread: the loop of the browser that other tests drive runs in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, names["app"](scope, receive, send)).result()
    assert sent[0]["status"] == 415


def test_the_page_has_the_limits_and_refusals_that_there_are() -> None:
    limits = Limits()
    rows = dict(re.findall(r"^\| `--([a-z-]+)` \| (\S+) \|", _REFERENCE, re.MULTILINE))
    assert rows["max-body"] == f"{limits.body // 10**6}MB"
    assert (int(rows["max-pixels"]), int(rows["queue"])) == (limits.pixels, limits.waiting)
    assert rows["timeout"] == f"{limits.seconds:g}s"
    assert rows["min-rate"] == f"{limits.rate / 1000:g}kB"
    assert int(rows["max-connections"]) == limits.connections
    section = _REFERENCE
    for words in (
        f"{connections.HEAD_SECONDS:g} seconds for the head",
        f"{connections.HEAD_BYTES // 1024} KiB for the head",
        f"{logs.BURST} lines of a kind at once, then {logs.PER_SECOND} a second",
    ):
        assert words in section
    responses = openapi.describe(limits, needs_token=True)["paths"][openapi.PREDICT]["post"]["responses"]
    # A head that is too large never becomes a request.
    assert {*responses, "431"} - {"200"} == set(re.findall(r"\b([45]\d\d)\b", section))
