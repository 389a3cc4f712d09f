"""Addresses of images on web servers, and of clusters, that do not answer as they should."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pneumo_edge import Classifier
from pneumo_edge.cli import app
from pneumo_edge.errors import WorkerError
from pneumo_edge.scale import cluster, listing, stores
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
            elif what == "circle":
                self._answer(302, b"", Location=self.path)
            elif what == "moved":
                self._answer(302, b"", Location="/good/i.png")
            elif what == "cut":
                self._answer(200, b"i.png\n" * 10, **{"Content-Length": "1000", "Accept-Ranges": "bytes"})
            elif what == "waits":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"x" * 100)
                self.wfile.flush()
                ends.wait(60)
            else:
                self._answer(int(what), b"")

        def do_HEAD(self) -> None:
            self.do_GET()

        def _answer(self, status: int, content: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
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
    whats = ("403", "404", "500", "good", "waits", "circle", "moved", "cut")
    lines = ["0.png", *(f"{server}/{what}/i.png" for what in whats), "foo://x/y.png"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    found, manifest = archives.score_here(classifier, tmp_path / "list.txt", tmp_path / "out")
    assert [row["name"] for row in found] == lines
    assert manifest.errors == {"ImageError": 7}
    errors = [row["error"] for row in found]
    assert errors[0] is errors[4] is errors[7] is None
    said = {
        1: "HTTP 403",
        2: "there is no such file",
        3: "500",
        6: "redirects again and again",
        9: "foo:// is no protocol",
    }
    for number, words in said.items():
        assert words in errors[number]
    for number in (5, 8):
        assert "its store does not give it" in errors[number]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("404/l.txt", "does not exist; expected a file that exists"),
        ("403/t.tar", "is not given by its server (HTTP 403 Forbidden)"),
        ("500/t.parquet", "cannot be read (HTTP 500 Internal Server Error)"),
        ("circle/l.txt?a=b", "is not given by its server (it redirects again and again)"),
        ("cut/l.txt", "cannot be reached (Response payload is not completed"),
        ("cut/t.tar", "cannot be reached (Response payload is not completed"),
        ("dead", "cannot be read (Cannot connect to host"),
        ("moved/i.png", ""),
    ],
)
def test_source_on_a_web_server_is_read_or_refused_in_true_words(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch, what: str, said: str
) -> None:
    pytest.importorskip("aiohttp", reason="the extra 'scale' is not installed")
    monkeypatch.setattr(stores, "_WAITS", (0.0,))
    source = "http://127.0.0.1:9/l.txt" if what == "dead" else f"{server}/{what}"
    if not said:
        assert [entry.name for entry, _ in listing.entries(listing.open_source(source))] == ["i.png"]
        return
    done = CliRunner().invoke(app, ["score", source, "--out", str(tmp_path / "out")])
    assert done.exit_code == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {source} {said}"), line


def test_cluster_that_is_not_there_is_told_before_the_source_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra 'scale' is not installed")
    monkeypatch.setattr(cluster, "_ANSWERS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # It accepts, and says nothing.
        with pytest.raises(WorkerError, match=r"cannot be reached \(what answers there is not Ray"):
            cluster.check(f"ray://127.0.0.1:{port}")
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


def test_what_needs_a_missing_extra_stops_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives.draw(tmp_path, ["0.png"])
    (tmp_path / "list.txt").write_text("0.png\ns3://bucket/1.png\n")
    for name in ("fsspec", "ray"):
        monkeypatch.setitem(sys.modules, name, None)
    stores.check_library.cache_clear()
    score = ["score", str(tmp_path / "list.txt"), "--out", str(tmp_path / "out")]
    study = ["train", "--data", str(tmp_path), "--study", str(tmp_path / "out"), "--backbone", "resnet50"]
    for command in (score, [*score, "--address", "auto"], [*study, "--address", "auto"]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 3, done.output
        (line,) = done.stderr.splitlines()
        assert line.endswith('Run: pip install "pneumo-edge[scale]".')
        assert not (tmp_path / "out").exists()
