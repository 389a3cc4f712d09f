from __future__ import annotations

import hashlib
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pneumo_edge._util.cache import CACHE_VARIABLE
from pneumo_edge.cli import app
from pneumo_edge.data.fetch import PNEUMONIAMNIST_224, Download, fetch_medmnist, find_fetched
from pneumo_edge.errors import DataError

pytest.importorskip("pooch")

CONTENT = b"an archive" * 100_000
MD5 = hashlib.md5(CONTENT).hexdigest()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object, **kwargs: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a web server on this machine that has the file data.npz."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "data.npz").write_bytes(CONTENT)
    handler = partial(_Quiet, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_file_is_fetched_once_and_whole(server: str, tmp_path: Path) -> None:
    download = Download(f"{server}/data.npz", "kept.npz", MD5)
    path = fetch_medmnist(tmp_path / "cache", download)
    assert path == tmp_path / "cache" / "kept.npz"
    assert path.read_bytes() == CONTENT
    (tmp_path / "web" / "data.npz").unlink()
    assert fetch_medmnist(tmp_path / "cache", download) == path


def test_a_file_put_there_by_hand_is_taken_without_a_network(tmp_path: Path) -> None:
    (tmp_path / "kept.npz").write_bytes(CONTENT)
    path = fetch_medmnist(tmp_path, Download(_nobody_listens(), "kept.npz", MD5))
    assert path.read_bytes() == CONTENT


def test_a_wrong_hash_is_refused_and_leaves_nothing(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="another MD5") as caught:
        fetch_medmnist(tmp_path / "cache", Download(f"{server}/data.npz", "kept.npz", "0" * 32))
    assert "0" * 32 in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_file_says_what_the_server_said(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="404"):
        fetch_medmnist(tmp_path / "cache", Download(f"{server}/other.npz", "kept.npz", MD5))
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_a_connection_it_says_at_once_what_to_do_by_hand(tmp_path: Path) -> None:
    download = Download(_nobody_listens(), "kept.npz", MD5)
    started = time.monotonic()
    with pytest.raises(DataError) as caught:
        fetch_medmnist(tmp_path / "cache", download)
    assert time.monotonic() - started < 30
    for needed in (download.url, MD5, str(tmp_path / "cache" / "kept.npz")):
        assert needed in str(caught.value)


def test_the_command_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: object, **kwargs: object) -> None:
        raise socket.gaierror("no name server")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    result = CliRunner().invoke(app, ["data", "fetch"])
    assert result.exit_code == 3
    assert PNEUMONIAMNIST_224.url in result.stderr
    assert str(tmp_path / "cache" / PNEUMONIAMNIST_224.name) in result.stderr
    assert result.stdout == ""


def test_what_was_fetched_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert find_fetched() is None
    path = tmp_path / "pneumoniamnist_224.npz"
    path.touch()
    assert find_fetched() == path


def _nobody_listens() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/data.npz"
