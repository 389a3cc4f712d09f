from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")
pytest.importorskip("httptools", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")


@dataclass(frozen=True)
class Answer:
    """What a service answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Service:
    """A running ``pneumo-edge serve``; ``log`` is the file of its standard error."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname and parts.port
        return parts.hostname, parts.port

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)

    def ask(
        self, method: str, path: str, body: bytes | Iterator[bytes] | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, response.read())
        finally:
            connection.close()

    def predict(
        self, body: bytes | Iterator[bytes], media_type: str = "image/png", query: str = "", **headers: str
    ) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", f"/predict{query}", body, {"Content-Type": media_type, **named})


Serve = Callable[..., AbstractContextManager[Service]]

_MAIN = "from pneumo_edge.cli import app; app(prog_name='pneumo-edge')"


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Start ``pneumo-edge serve`` in a process of its own, after the Python in ``first`` and behind ``before``."""

    @contextmanager
    def start(*options: object, first: str = "", before: tuple[str, ...] = ()) -> Iterator[Service]:
        log = tmp_path_factory.mktemp("service") / "log"
        python = [sys.executable, "-c", f"{first}\n{_MAIN}"] if first else [sys.executable, "-m", "pneumo_edge"]
        command = [*before, *python, "serve", "--port", "0", *map(str, options)]
        with (
            log.open("w") as stderr,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            ) as process,
        ):  # fmt: skip
            try:
                assert process.stdout
                line = process.stdout.readline()
                found = re.fullmatch(r"Listening on (http://\S+/) \(stop with Ctrl-C\)\n", line)
                assert found, line + log.read_text()
                yield Service(found[1], process, log)
            finally:
                # With what runs it: strace, killed alone, leaves the service behind.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    return start


@pytest.fixture(scope="session")
def service(serve: Serve) -> Iterator[Service]:
    """A service as it is by default."""
    with serve() as running:
        yield running


@pytest.fixture(scope="session")
def png() -> bytes:
    return _encode(Image.effect_noise((300, 250), 60))


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """An image as the bytes of a file of some kind, by default PNG."""
    return _encode


def _encode(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()
