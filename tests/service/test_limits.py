"""What a service takes on at most, that it keeps nothing, and how it starts and ends."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from pneumo_edge._util import extras
from pneumo_edge.cli import app

Encode = Callable[..., bytes]

#: Each prediction waits for a line on standard input.
_ON_DEMAND = """
import sys, threading
from pneumo_edge import Classifier
from pneumo_edge.runtime.classifier import Prediction
predict, permits = Classifier.predict, threading.Semaphore(0)
def wait_for_lines():
    for line in sys.stdin:
        permits.release()
threading.Thread(target=wait_for_lines, daemon=True).start()
def predict_on_demand(*arguments, **options):
    print("begun", file=sys.stderr, flush=True)
    permits.acquire()
    return predict(*arguments, **options)
Classifier.predict = predict_on_demand
"""


def _release(service: Any, count: int = 1) -> None:
    service.process.stdin.write("\n" * count)
    service.process.stdin.flush()


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "this did not happen within 30 seconds"
        time.sleep(0.01)


@pytest.fixture
def later() -> Iterator[Callable[..., Future[Any]]]:
    """Call something in a thread."""
    with ThreadPoolExecutor(8) as threads:
        yield threads.submit


# Size


def test_a_body_over_the_limit_is_refused_however_it_comes(serve: Any, png: bytes) -> None:
    with serve("--max-body", "100kB") as service:
        assert service.predict(png[:1000]).status == 422
        for body in (bytes(100_001), iter([bytes(60_000)] * 2)):
            answer = service.predict(body)
            assert answer.status == 413
            assert "at most 100,000 bytes" in answer.json["detail"]
        assert service.predict(iter([png[:500], png[500:]])).status == 200


def test_a_body_over_the_limit_is_refused_before_it_is_sent(service: Any) -> None:
    with socket.create_connection(service.address) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n"
                           b"Expect: 100-continue\r\n\r\n")  # fmt: skip
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_pixels_over_the_limit_are_refused_before_they_are_decoded(serve: Any, encode: Encode) -> None:
    small, large = (encode(Image.new("L", size)) for size in ((300, 300), (300, 334)))
    with serve("--max-pixels", 100_000) as service:
        assert service.predict(small).status == 200
        answer = service.predict(large)
        assert answer.status == 413
        assert "300x334 = 100,200 pixels; expected at most 100,000" in answer.json["detail"]
        bomb = encode(Image.new("1", (30_000, 30_000)))
        assert service.predict(bomb).status == 413


def test_dicom_is_held_to_the_pixels_too(serve: Any) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")
    data = Path(pydicom.data.get_testdata_file("MR_small_RLE.dcm", download=False)).read_bytes()
    with serve("--max-pixels", 4000) as service:
        assert service.predict(data, "application/dicom").status == 413


# Concurrency and time


def test_what_there_is_no_room_for_is_told_to_come_back(
    serve: Any, png: bytes, later: Callable[..., Future[Any]]
) -> None:
    with serve("--workers", 1, "--queue", 2, first=_ON_DEMAND) as service:
        done, waiting = wait([later(service.predict, png) for _ in range(4)], 30, FIRST_COMPLETED)
        (answer,) = (each.result() for each in done)
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "reached its limit of images" in answer.json["detail"]
        # Whatever the workers do, the loop answers.
        assert service.ask("GET", "/healthz").status == 200
        _release(service, 4)
        assert [each.result().status for each in waiting] == [200] * 3
        assert service.predict(png).status == 200


def test_a_verdict_that_takes_too_long_is_given_up_and_keeps_its_place(serve: Any, png: bytes) -> None:
    with serve("--workers", 1, "--queue", 0, "--timeout", "300ms", first=_ON_DEMAND) as service:
        late = service.predict(png)
        assert late.status == 504
        assert "within 0.3 seconds" in late.json["detail"]
        assert service.predict(png).status == 503
        _release(service, 1000)
        _wait_until(lambda: service.predict(png).status == 200)


def test_what_waited_too_long_is_not_judged_after_all(serve: Any, png: bytes) -> None:
    with serve("--workers", 1, "--queue", 3, "--timeout", "300ms", first=_ON_DEMAND) as service:
        for _ in range(8):
            # Of these, one is with the worker; each of the others leaves its place when its time is up.
            assert service.predict(png).status == 504


def test_a_body_that_does_not_come_is_given_up(serve: Any, png: bytes) -> None:
    with serve("--workers", 1, "--queue", 0, "--timeout", "300ms") as service:
        with socket.create_connection(service.address) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
            connection.settimeout(30)
            assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert service.predict(png).status == 200


def test_who_goes_away_leaves_room(serve: Any, png: bytes) -> None:
    with serve("--workers", 1, "--queue", 0) as service:
        with socket.create_connection(service.address) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
        _wait_until(lambda: service.predict(png).status == 200)
        _wait_until(lambda: "POST /predict: the client disconnected" in service.log.read_text())


def test_many_at_a_time_get_the_verdict_of_one(service: Any, png: bytes, later: Callable[..., Future[Any]]) -> None:
    alone = service.predict(png).json["probabilities"]
    answers = [each.result() for each in [later(service.predict, png) for _ in range(40)]]
    assert {answer.status for answer in answers} <= {200, 503}
    together = [answer.json["probabilities"] for answer in answers if answer.status == 200]
    assert len(together) >= 8
    assert all(probabilities == alone for probabilities in together)


# Nothing is kept


def test_nothing_is_written_to_disk(serve: Any, png: bytes, encode: Encode, tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if not strace or subprocess.run([strace, "-qq", "true"], capture_output=True, check=False).returncode:
        pytest.skip("files that are opened are seen with strace, which is not here or not allowed")
    large = encode(Image.effect_noise((3000, 2500), 60))
    calls = "open,openat,openat2,creat,mkdir,mkdirat,mknod,rename,renameat,renameat2,link,linkat,symlink,memfd_create"
    trace = tmp_path / "trace"
    with serve(before=(strace, "-f", "-qq", "-o", str(trace), "-e", f"trace={calls}")) as service:
        before = len(trace.read_text())
        for data, media_type in ((png, "image/png"), (large, "image/png"), (b"nothing", "image/jpeg"),
                                 (encode(Image.new("L", (900, 900)), "TIFF"), "image/tiff")):  # fmt: skip
            service.predict(data, media_type)
        service.ask("POST", "/predict", b"--x\r\n\r\n" + large + b"\r\n--x--",
                    {"Content-Type": "multipart/form-data; boundary=x"})  # fmt: skip
        service.ask("PUT", "/doe-jane-1950.png", large)
        made = trace.read_text()[before:].splitlines()
    assert any("O_RDONLY" in call for call in made)
    to_read = re.compile(r'\bopen(at|at2)?\(.*O_RDONLY(?!.*O_(CREAT|TMPFILE))|"/dev/null"|^\d+ (\+\+\+|---)|resumed')
    assert [call for call in made if not to_read.search(call)] == []


def test_the_log_says_nothing_of_what_was_sent(serve: Any, png: bytes) -> None:
    with serve() as service:
        service.predict(png)
        service.predict(b"DOE^JANE 1950")
        service.ask("PUT", "/doe-jane-1950.png?name=doe-jane", png)
        service.ask("POST", "/predict?name=doe-jane-1950.png", png, {"Content-Type": "image/doe-jane"})
        service.ask("DOE-JANE", "/")
        _wait_until(lambda: len(service.log.read_text().splitlines()) >= 5)
        log = service.log.read_text()
    assert "doe" not in log.lower()
    lines = [re.sub(r"^\S+ \S+ | \d+ ms$", "", line) for line in log.splitlines()]
    assert lines == ["POST /predict 200", "POST /predict 415", "PUT (another path) 404", "POST /predict 415",
                     "(no request) 400"]  # fmt: skip


def test_a_bug_is_told_without_what_was_sent(serve: Any, png: bytes) -> None:
    fail = "def fail(*_, **__): raise ValueError('DOE^JANE')"
    broken = f"from pneumo_edge import Classifier\n{fail}\nClassifier.predict = fail"
    with serve(first=broken) as service:
        for _ in range(12):
            answer = service.predict(png)
            assert answer.status == 500
            assert "the service failed" in answer.json["detail"]
        log = service.log.read_text()
    assert "ValueError" in log
    assert "in fail" in log
    assert "JANE" not in log + answer.json["detail"]


# Start and end


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_ends_when_what_was_begun_is_judged(
    serve: Any, png: bytes, later: Callable[..., Future[Any]], number: signal.Signals, code: int
) -> None:
    with serve("--workers", 1, first=_ON_DEMAND) as service:
        running = later(service.predict, png)
        _wait_until(lambda: "begun" in service.log.read_text())
        service.process.send_signal(number)
        _wait_until(lambda: not _accepts(service))
        _release(service)
        assert running.result().status == 200
        assert service.process.wait(30) == code
        lines = service.log.read_text().splitlines()
    assert lines[1].endswith("POST /predict 200") or " POST /predict 200 " in lines[1]
    assert lines[2:] == (["error: interrupted; finished work is saved"] if code else [])


def _accepts(service: Any) -> bool:
    try:
        socket.create_connection(service.address, timeout=5).close()
    except OSError:
        return False
    return True


def _run(*options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pneumo_edge", "serve", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_port_in_use_is_one_line(service: Any) -> None:
    done = _run("--port", service.address[1])
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: cannot listen on port {service.address[1]} of 127.0.0.1 (Address already in use)")
    assert "--port 0" in line


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "x" * 100, "::zz"])
def test_an_address_that_is_not_here_is_one_line(host: str) -> None:
    done = _run("--port", 0, f"--host={host}")
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: cannot listen on port 0 of ")


@pytest.mark.parametrize(
    "words",
    [["--port", 65536], ["--port", -1], ["--workers", 0], ["--queue", -1], ["--max-body", 3], ["--max-body", "0MB"],
     ["--timeout", "soon"], ["--timeout", "0s"], ["--max-pixels", 0], ["--max-pixels", 50_000_001], ["--threads", 0]],
)  # fmt: skip
def test_limits_that_make_no_sense_are_wrong_usage(words: list[object]) -> None:
    assert _run(*words).returncode == 2


def test_by_default_only_this_machine_can_reach_it(service: Any) -> None:
    assert service.address[0] == "127.0.0.1"
    assert "warning" not in service.log.read_text()


def test_an_open_address_is_warned_of(serve: Any) -> None:
    with serve("--host", "0.0.0.0", "--no-token") as service:
        assert service.ask("GET", "/healthz").status == 200
        (line,) = service.log.read_text().splitlines()[:1]
    assert line.startswith("warning: everyone who can reach 0.0.0.0 can send images")


def test_an_ipv6_address_is_printed_as_a_browser_takes_it(serve: Any) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with serve("--host", "::1") as service:
        assert service.url.startswith("http://[::1]:")
        assert service.ask("GET", "/healthz").status == 200
        assert service.log.read_text().count("warning") == 0


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda module: module != "uvicorn")
    result = CliRunner().invoke(app, ["serve", "--port", "0"])
    assert result.exit_code == 3
    assert 'Run: pip install "pneumo-edge[serve]"' in result.stderr


def test_serving_imports_no_training_library() -> None:
    program = (
        "import json, sys, pneumo_edge.service.server, pneumo_edge.service.app; print(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert "starlette" in imported
    assert not imported & {
        "tensorflow",
        "keras",
        "onnx",
        "matplotlib",
        "pandas",
        "scipy",
        "pydantic",
        "jinja2",
        "fastapi",
    }
