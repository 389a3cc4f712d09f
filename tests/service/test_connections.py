"""Connections under attack: how many there are, how long each may take, and that a refusal is read by its client."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from pneumo_edge.errors import ServiceError
from pneumo_edge.service import limits

_HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
#: The time for a head and that before the least rate, cut short, so that a test need not wait.
_HASTY = (
    "from pneumo_edge.service import arrivals, connections; connections.HEAD_SECONDS = 0.3; arrivals._GRACE = 0.3; "
    "connections._SETTLED = 0"
)
#: A prediction waits for the end of standard input.
_WAITING = """
import sys
from pneumo_edge import Classifier
predict = Classifier.predict
def wait_and_predict(*arguments, **options):
    print("begun", file=sys.stderr, flush=True)
    sys.stdin.read()
    return predict(*arguments, **options)
Classifier.predict = wait_and_predict
"""


@contextmanager
def _connected(service: Any, data: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection(service.address, timeout=30) as connection:
        connection.sendall(data)
        yield connection


def _read_all(connection: socket.socket) -> bytes:
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def _detail(response: bytes) -> str:
    return str(json.loads(response.partition(b"\r\n\r\n")[2])["detail"])


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "this did not happen within 30 seconds"
        time.sleep(0.02)


def _files(most: int) -> str:
    return f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({most}, {most}))"


def test_more_idle_connections_than_files_do_not_stop_it(serve: Any, png: bytes) -> None:
    with serve(first=_files(256)) as service, ExitStack() as stack:
        for number in range(400):
            stack.enter_context(_connected(service, b"" if number % 2 else _HEAD))
        assert service.predict(png).status == 200
        stack.close()
        assert service.predict(png).status == 200
        log = service.log.read_text()
    assert "Traceback" not in log
    assert len(log) < 20_000


def test_connections_that_the_system_cannot_give_are_logged_once_in_a_while(serve: Any, png: bytes) -> None:
    # The files that the service counts on are taken away after its start.
    late = (
        "import resource; from pneumo_edge.service.connections import Door; opened = Door.open\n"
        "def open_with_few(self, *arguments):\n"
        "    opened(self, *arguments)\n"
        "    import os; most = len(os.listdir('/proc/self/fd')) + 3\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))\n"
        "Door.open = open_with_few"
    )
    with serve(first=late) as service, ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(_connected(service))
        _wait_until(lambda: "cannot accept a connection: Too many open files" in service.log.read_text())
        assert service.ask("GET", "/healthz").status == 200
        stack.close()
        assert service.predict(png).status == 200
        log = service.log.read_text()
    assert "Traceback" not in log
    assert len(log) < 20_000


def test_too_few_files_are_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_file_limit", lambda: 70)
    with pytest.raises(ServiceError, match=r"the limit of 70 open files .* ulimit -n 1024"):
        limits.connections_within_file_limit()


@pytest.mark.parametrize(("sent", "status"), [(_HEAD, b" 408 "), (b"", b"")])
def test_a_head_that_does_not_come_is_given_up(serve: Any, png: bytes, sent: bytes, status: bytes) -> None:
    with serve(first=_HASTY) as service:
        with _connected(service, sent) as connection:
            response = _read_all(connection)
        assert status in response[:20]
        assert bool(response) == bool(sent)
        assert service.predict(png).status == 200


def test_a_head_that_trickles_after_an_answer_is_given_up_too(serve: Any) -> None:
    with serve(first=_HASTY) as service, _connected(service) as connection:
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        connection.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        assert b"HTTP/1.1 408 " in _read_all(connection)


def test_a_head_without_end_is_refused(service: Any) -> None:
    with _connected(service, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: 0123456789\r\n" * 5000) as connection:
        response = _read_all(connection)
    assert response.startswith(b"HTTP/1.1 431 ")
    assert "at most 32,768 bytes" in _detail(response)


def test_what_is_no_http_is_told_as_everything_else(service: Any) -> None:
    with _connected(service, b"\x16\x03\x01\x02\x00nonsense\r\n\r\n") as connection:
        response = _read_all(connection)
    assert response.startswith(b"HTTP/1.1 400 ")
    assert b"x-content-type-options: nosniff" in response.lower()
    assert "Use an HTTP client" in _detail(response)


def test_beyond_the_connections_that_are_busy_there_is_503(serve: Any, png: bytes) -> None:
    request = _HEAD + f"Content-Length: {len(png)}\r\n\r\n".encode() + png
    with serve("--max-connections", 8, "--workers", 1, "--queue", 20, first=_WAITING) as service, ExitStack() as stack:
        busy = [stack.enter_context(_connected(service, request)) for _ in range(8)]
        _wait_until(lambda: "begun" in service.log.read_text())
        with ThreadPoolExecutor() as threads:
            # The last of the eight may be arriving still, and could be dropped in favour of this one.
            time.sleep(2)
            refused = threads.submit(service.predict, png).result()
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert "reached its limit of connections" in refused.json["detail"]
        service.process.stdin.close()
        assert [connection.recv(12) for connection in busy] == [b"HTTP/1.1 200"] * 8


# Refusals


def _send_with_urllib(service: Any, body: bytes, media_type: str) -> int:
    """As the documented Python does."""
    request = urllib.request.Request(f"{service.url}predict", body, {"Content-Type": media_type})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    with caught.value as error:
        assert json.load(error)["status"] == error.code
    return caught.value.code


def test_who_sends_too_much_gets_to_read_why(service: Any) -> None:
    large, other = bytes(51_000_000), bytes(20_000_000)
    with ThreadPoolExecutor(4) as threads:
        statuses = [
            threads.submit(_send_with_urllib, service, body, media_type)
            for body, media_type in [(large, "image/png"), (other, "text/plain")] * 4
        ]
        assert [each.result() for each in statuses] == [413, 415] * 4


@pytest.mark.parametrize(
    ("head", "chunk"),
    [(b"Content-Length: 1000000000000", bytes(65536)),
     (b"Transfer-Encoding: chunked", b"10000\r\n" + bytes(65536) + b"\r\n")],
)  # fmt: skip
def test_after_a_413_no_more_is_read_than_a_bound(serve: Any, png: bytes, head: bytes, chunk: bytes) -> None:
    bound = limits.Limits(body=100_000).discarded
    with serve("--max-body", "100kB") as service:
        with _connected(service, _HEAD + head + b"\r\n\r\n") as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            sent = 0
            with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
                while sent < 4 * bound:
                    sent += connection.send(chunk)
        # And what the kernel holds.
        assert sent < bound + 32_000_000
        assert service.predict(png).status == 200


# Bodies


def test_a_body_in_one_byte_chunks_is_a_body(service: Any, png: bytes) -> None:
    small = service.predict(iter([png[i : i + 1] for i in range(len(png))]))
    assert small.status == 200
    assert small.json["probabilities"] == service.predict(png).json["probabilities"]


def test_framing_without_content_is_refused(service: Any) -> None:
    chunk = b"1;" + b"x" * 2000 + b"\r\nx\r\n"
    with _connected(service, _HEAD + b"Transfer-Encoding: chunked\r\n\r\n") as connection:
        connection.sendall(chunk * 500)
        response = _read_all(connection)
    assert response.startswith(b"HTTP/1.1 400 ")
    assert "Send larger chunks" in _detail(response)


def test_bodies_that_trickle_take_no_place(serve: Any, png: bytes) -> None:
    with serve("--workers", 1, "--queue", 0) as service, ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(_connected(service, _HEAD + b"Content-Length: 1000\r\n\r\nabc"))
        assert service.ask("GET", "/readyz").status == 200
        for _ in range(3):
            assert service.predict(png).status == 200


def test_a_body_keeps_to_the_least_rate(serve: Any, png: bytes) -> None:
    with serve("--min-rate", "100MB", first=_HASTY) as service:
        with _connected(service, _HEAD + b"Content-Length: 1000\r\n\r\nabc") as connection:
            response = _read_all(connection)
        assert response.startswith(b"HTTP/1.1 408 ")
        assert "less than 100,000,000 bytes per second" in _detail(response)
        assert service.predict(png).status == 200


def test_more_trickling_bodies_than_connections_give_way(serve: Any, png: bytes) -> None:
    impatient = "from pneumo_edge.service import connections; connections._SETTLED = 0"
    with serve("--max-connections", 8, first=impatient) as service, ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(_connected(service, _HEAD + b"Content-Length: 1000\r\n\r\nabc"))
        assert service.predict(png).status == 200


def test_the_largest_body_gives_way_where_memory_is_short(serve: Any, png: bytes) -> None:
    sizes = [900_000, 990_000, 900_000]
    with serve("--max-body", "1MB") as service, ExitStack() as stack:
        held = []
        for size in sizes:
            held.append(stack.enter_context(_connected(service, _HEAD + b"Content-Length: 1000000\r\n\r\n")))
            held[-1].sendall(bytes(size))
            # Each answer is a turn of the loop, which reads a part of the body.
            assert all(service.ask("GET", "/healthz").status == 200 for _ in range(50))
        response = _read_all(held[1])
        assert response.startswith(b"HTTP/1.1 503 ")
        assert "Retry-After: 1" in response.decode() or "retry-after: 1" in response.decode()
        assert "at most 2,000,000 bytes" in _detail(response)
        assert service.predict(png).status == 200


def test_the_memory_of_what_was_refused_goes_back_at_once(serve: Any, png: bytes) -> None:
    psutil = pytest.importorskip("psutil")
    # Without the collector, whatever refers to itself stays.
    with serve("--max-body", "20MB", first="import gc; gc.disable()") as service:
        assert service.predict(png).status == 200
        before = psutil.Process(service.process.pid).memory_info().rss
        for _ in range(8):
            assert service.predict(bytes(19_000_000)).status == 415
            assert service.predict(b"\x89PNG\r\n\x1a\n" + bytes(19_000_000)).status in (415, 422)
            assert service.predict(iter([bytes(1_000_000)] * 25)).status == 413
        assert psutil.Process(service.process.pid).memory_info().rss - before < 64_000_000


def test_who_does_not_read_the_answers_is_given_up(serve: Any) -> None:
    with serve("--timeout", "300ms") as service:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(60)
            connection.connect(service.address)
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)
            # The one that asks is left.
            _wait_until(lambda: _connections(service) == 1)
            answers = _read_all(connection).count(b"HTTP/1.1 200")
        assert answers < 2000


def _connections(service: Any) -> float:
    text = service.ask("GET", "/metrics").body.decode()
    return sum(map(float, re.findall(r"^pneumo_edge_connections{.*} (.*)$", text, re.MULTILINE)))


def test_a_client_that_sends_no_more_still_gets_its_answer(service: Any, png: bytes) -> None:
    with _connected(service, _HEAD + f"Content-Length: {len(png)}\r\n\r\n".encode() + png) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert _read_all(connection).startswith(b"HTTP/1.1 200 ")
