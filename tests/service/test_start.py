"""Where the service listens, with what it starts, and how it ends."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_TOKEN = "0123456789abcdef"


def _command(*options: object) -> list[str]:
    return [sys.executable, "-m", "pneumo_edge", "serve", *map(str, options)]


def _fail(*options: object) -> str:
    done = subprocess.run(_command(*options), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 3, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@contextmanager
def _serving(*options: object) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(_command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline().startswith("Listening on ")
            yield process
        finally:
            process.kill()


# Token files


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "is empty"), (" \n\n", "is empty"), ("short", "does not contain one token"),
     (f"{_TOKEN}\n{_TOKEN}\n", "does not contain one token"), (f"{_TOKEN} x", "does not contain one token"),
     ("ä" * 20, "does not contain one token"), ("x" * 3000, "does not contain one token")],
)  # fmt: skip
def test_a_token_file_without_a_token_is_one_line(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    line = _fail("--token-file", path)
    assert words in line
    assert "openssl rand -hex 32" in line
    assert not content.strip() or content.strip() not in line


def test_a_token_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    assert "(No such file or directory)" in _fail("--token-file", tmp_path / "none")
    assert "(Is a directory)" in _fail("--token-file", tmp_path)


def test_a_token_file_that_all_can_read_is_warned_of(serve: Any, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(_TOKEN)
    for mode, warnings in ((0o644, 1), (0o640, 0)):
        path.chmod(mode)
        with serve("--token-file", path) as service:
            assert service.log.read_text().count("warning: every user of this machine can read") == warnings


def test_an_open_address_needs_a_token_or_the_word_that_it_needs_none(serve: Any, tmp_path: Path) -> None:
    line = _fail("--host", "0.0.0.0", "--port", 0)
    assert "--token-file FILE, or --no-token" in line
    path = tmp_path / "token"
    path.write_text(_TOKEN)
    path.chmod(0o600)
    with serve("--host", "0.0.0.0", "--token-file", path) as service:
        assert service.ask("POST", "/predict").status == 401
        assert "warning: everyone with the token can send images" in service.log.read_text()


@pytest.mark.parametrize(
    "words",
    [["--token-file", "x", "--no-token"], ["--unix-socket", "x", "--host", "127.0.0.1"],
     ["--unix-socket", "x", "--port", 8000], ["--allow-host", "*"], ["--allow-host", "http://x.example"],
     ["--allow-host", ""], ["--max-connections", 0], ["--min-rate", 0], ["--min-rate", "fast"]],
)  # fmt: skip
def test_options_that_make_no_sense_are_wrong_usage(words: list[object]) -> None:
    assert subprocess.run(_command(*words), capture_output=True, check=False, timeout=60).returncode == 2


# Unix sockets


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, host: str = "localhost") -> None:
        super().__init__(host, timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self._path))


def _ask(path: Path, method: str, target: str, body: bytes | None = None, host: str = "localhost") -> int:
    connection = _UnixConnection(path, host)
    try:
        connection.request(method, target, body)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Short: a Unix socket's path is bounded.
    return tmp_path_factory.mktemp("s") / "s"


def test_a_unix_socket_serves_and_is_gone_in_the_end(socket_path: Path, png: bytes) -> None:
    with _serving("--unix-socket", socket_path) as process:
        assert _ask(socket_path, "GET", "/healthz") == 200
        assert _ask(socket_path, "POST", "/predict", png) == 200
        assert _ask(socket_path, "GET", "/", host="evil.example") == 403
        assert socket_path.stat().st_mode & 0o777 == 0o660
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr
        assert "warning" not in process.stderr.read()
    assert not socket_path.exists()


def test_a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not(socket_path: Path) -> None:
    with _serving("--unix-socket", socket_path) as killed:
        assert "another process listens on it" in _fail("--unix-socket", socket_path)
        killed.kill()
        killed.wait(30)
    assert socket_path.is_socket()
    with _serving("--unix-socket", socket_path):
        assert _ask(socket_path, "GET", "/healthz") == 200


def test_a_path_where_no_socket_can_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    assert "exists and is not a socket" in _fail("--unix-socket", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
    assert "exists and is not a socket" in _fail("--unix-socket", tmp_path)
    assert "(No such file or directory)" in _fail("--unix-socket", tmp_path / "none" / "s")
    assert "at most 107 bytes" in _fail("--unix-socket", tmp_path / ("x" * 120))


# The end


@pytest.mark.parametrize("moment", ["typer", "numpy", "starlette.applications", "prometheus_client"])
def test_sigterm_while_it_starts_ends_it_with_0(moment: str) -> None:
    command = [sys.executable, "-X", "importtime", *_command("--port", 0)[1:]]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        # A part of the library has been imported, and most often not yet all of it.
        assert any(f" {moment}." in line or line.endswith(f" {moment}\n") for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(60) == 0


def test_sigterm_as_soon_as_it_listens_ends_it_with_0() -> None:
    for _ in range(3):
        with _serving("--port", 0) as process:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def test_what_trickles_does_not_keep_it_from_ending(serve: Any) -> None:
    with serve("--timeout", "1s") as service:
        connections = [socket.create_connection(service.address) for _ in range(3)]
        connections[1].sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\n")
        connections[2].sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nx")
        assert service.ask("GET", "/healthz").status == 200
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 0
        for connection in connections:
            connection.close()
