from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from pneumo_edge._util import connectivity
from pneumo_edge._util.connectivity import UnreachableError


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def _url(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}/file.h5"


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "405 Method Not Allowed", "503 Service Unavailable"])
def test_whatever_is_answered_is_an_answer(listener: socket.socket, status: str) -> None:
    asked = []

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(1000))
            connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    thread = threading.Thread(target=answer)
    thread.start()
    connectivity.check(_url(listener))
    thread.join()
    assert asked[0].startswith(b"HEAD /file.h5")


def test_who_takes_the_connection_and_says_nothing_is_not_waited_for(listener: socket.socket) -> None:
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:\d+"):
        connectivity.check(_url(listener), seconds=0.2)


def test_a_look_up_without_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits of sockets do not bound it."""
    ended = threading.Event()

    def look_up(*_: object, **__: object) -> None:
        ended.wait(60)
        raise socket.gaierror("no name server")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    started = time.monotonic()
    with pytest.raises(UnreachableError, match=r"zenodo\.org: no answer in 0\.2 s"):
        connectivity.check("https://zenodo.org/file", seconds=0.2)
    ended.set()
    assert time.monotonic() - started < 30


def test_a_proxy_of_the_environment_is_gone_through(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", _url(listener))
    listener.close()
    with pytest.raises(UnreachableError, match="refused"):
        connectivity.check("http://zenodo.invalid/file")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "nothing"])
def test_what_cannot_be_asked_is_said(url: str) -> None:
    with pytest.raises(UnreachableError):
        connectivity.check(url)


def test_patience_ends_with_its_block() -> None:
    with connectivity.patience(0.25):
        assert socket.getdefaulttimeout() == 0.25
    assert socket.getdefaulttimeout() is None
