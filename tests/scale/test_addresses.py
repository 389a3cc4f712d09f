"""Addresses of images on web servers, and of clusters, that do not answer as they should."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pneumo_edge import Classifier
from pneumo_edge.cli import app
from pneumo_edge.scale import stores
from tests.scale import archives

pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")


@pytest.fixture
def server() -> Iterator[str]:
    """A web server; the path says what it answers."""
    ends = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            what = self.path.split("/")[1]
            if what == "good":
                self._answer(200, archives.content(1))
            elif what == "waits":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"x" * 100)
                self.wfile.flush()
                ends.wait(60)
            else:
                self._answer(int(what), b"")

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.daemon_threads = True
        thread = threading.Thread(target=found.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        ends.set()
        found.shutdown()
        thread.join()


def test_address_that_cannot_be_read_costs_its_row(
    classifier: Classifier, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp", reason="the extra 'scale' is not installed")
    monkeypatch.setattr(stores, "_WAITS", (0.0,))
    monkeypatch.setattr(stores, "_QUIET_SECONDS", 0.3)
    archives.draw(tmp_path, ["0.png"])
    lines = ["0.png", *(f"{server}/{what}/i.png" for what in ("403", "404", "500", "good", "waits")), "foo://x/y.png"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    found, manifest = archives.score_here(classifier, tmp_path / "list.txt", tmp_path / "out")
    assert [row["name"] for row in found] == lines
    assert manifest.errors == {"ImageError": 5}
    errors = [row["error"] for row in found]
    assert errors[0] is errors[4] is None
    for number, said in ((1, "HTTP 403"), (2, "there is no such file"), (3, "500"), (6, "foo:// is no protocol")):
        assert said in errors[number]
    assert "its store does not give it" in errors[5]


def test_cluster_that_is_not_there_is_told_before_the_source_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    place = tmp_path / "out"
    archives.draw(tmp_path / "in", ["0.png"])
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "nonsense"):
        result = CliRunner().invoke(app, ["score", str(tmp_path / "in"), "--out", str(place), "--address", address])
        assert result.exit_code == 3, result.output
        (line,) = result.stderr.strip().splitlines()
        assert f"the Ray cluster {address!r} cannot be reached" in line
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    result = CliRunner().invoke(app, ["score", str(tmp_path / "in"), "--out", str(place), "--address", "auto"])
    assert "the Ray cluster 'auto' cannot be reached" in result.stderr
    assert not place.exists()
