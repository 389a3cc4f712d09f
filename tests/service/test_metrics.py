"""What the service tells of itself: its metrics, its readiness, its log."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pneumo_edge.service import logs

_ON_LINE = """
import sys
from pneumo_edge import Classifier
predict = Classifier.predict
def predict_on_line(*arguments, **options):
    print("begun", file=sys.stderr, flush=True)
    sys.stdin.readline()
    return predict(*arguments, **options)
Classifier.predict = predict_on_line
"""


def _samples(service: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    parser = pytest.importorskip("prometheus_client.parser")
    answer = service.ask("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def test_the_metrics_count_what_was_done(serve: Any, png: bytes) -> None:
    with serve("--workers", 2, "--queue", 3) as service:
        verdict = service.predict(png).json
        service.predict(b"nothing")
        service.ask("PUT", "/doe-jane-1950.png", png)
        service.ask("GET", "/", headers={"Host": "evil.example"})
        samples = _samples(service)
    requests = {
        tuple(label for _, label in labels): value
        for (name, labels), value in samples.items()
        if name == "pneumo_edge_requests_total"
    }
    assert requests == {
        ("POST", "/predict", "200"): 1, ("POST", "/predict", "415"): 1, ("PUT", "(another path)", "404"): 1,
        ("GET", "/", "403"): 1,
    }  # fmt: skip
    assert samples["pneumo_edge_verdicts_total", (("label", verdict["label"]),)] == 1
    assert sum(value for (name, _), value in samples.items() if name == "pneumo_edge_verdicts_total") == 1
    for stage in verdict["timings"]:
        assert samples["pneumo_edge_stage_seconds_count", (("stage", stage),)] == 1
    assert samples["pneumo_edge_places", ()] == samples["pneumo_edge_places_free", ()] == 5
    assert samples["pneumo_edge_arriving_bytes", ()] == 0
    assert samples["pneumo_edge_connection_outcomes_total", (("outcome", "accepted"),)] == 5
    assert samples["process_resident_memory_bytes", ()] > 1e6


def test_no_label_names_a_file_or_an_address(serve: Any, png: bytes) -> None:
    with serve() as service:
        service.ask("PUT", "/doe-jane-1950.png?name=doe-jane", png, {"Referer": "http://doe.example/jane"})
        service.ask("POST", "/predict?name=doe-jane-1950.png", png, {"Content-Type": "image/doe-jane"})
        service.ask("GET", "/", headers={"Host": "doe.example"})
        text = service.ask("GET", "/metrics").body.decode()
    assert "doe" not in text.lower()
    assert "127.0.0.1" not in text


def test_it_is_ready_while_there_is_room(serve: Any, png: bytes) -> None:
    with serve("--workers", 1, "--queue", 0, first=_ON_LINE) as service, ThreadPoolExecutor() as threads:
        assert service.ask("GET", "/readyz").json == {"status": "ready"}
        running = threads.submit(service.predict, png)
        end = time.monotonic() + 30
        while "begun" not in service.log.read_text():
            assert time.monotonic() < end
            time.sleep(0.01)
        busy = service.ask("GET", "/readyz")
        assert (busy.status, busy.headers["retry-after"]) == (503, "1")
        assert service.ask("GET", "/healthz").status == 200
        service.process.stdin.write("\n")
        service.process.stdin.flush()
        assert running.result().status == 200
        assert service.ask("GET", "/readyz").status == 200


def test_many_refusals_leave_few_lines_and_the_others_theirs(serve: Any, png: bytes) -> None:
    with serve() as service:
        connection = service.connect()
        for _ in range(1500):
            connection.request("GET", "/", headers={"Host": "evil.example"})
            connection.getresponse().read()
        connection.close()
        service.predict(png)
        end = time.monotonic() + 30
        while "POST /predict 200" not in (log := service.log.read_text()):
            assert time.monotonic() < end
            time.sleep(0.01)
    assert 50 <= log.count("GET / 403") < 1000
    assert log.count("POST /predict 200") == 1


def _record(message: str, *arguments: object, **extra: Any) -> logging.LogRecord:
    record = logging.LogRecord("x", logging.INFO, "", 0, message, arguments, None)
    vars(record).update(extra)
    return record


def test_what_is_left_out_of_the_log_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    sparing = logs.Sparing()
    kept = sum(sparing.filter(_record("line %d", number)) for number in range(1000))
    assert kept == 100
    assert sparing.filter(_record("another"))
    assert sparing.filter(_record("line %d", 0, kind=503))
    now[0] += 1
    record = _record("line %d", 7)
    assert sparing.filter(record)
    assert record.getMessage() == "line 7 (900 more lines like this one were omitted)"


def test_the_log_is_bounded_whatever_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    sparing, lines = logs.Sparing(), 0
    for _ in range(60):
        now[0] += 1
        for number in range(2000):
            record = _record(f"kind {number % 500}\nand more")
            lines += (1 + record.getMessage().count("\n")) * sparing.filter(record)
    assert lines * 100 < 1_000_000


def test_an_exception_that_a_library_logs_does_not_quote_what_was_sent() -> None:
    try:
        raise ValueError("DOE^JANE")
    except ValueError as error:
        record = logging.LogRecord("x", 40, "", 0, "failed", (), (type(error), error, error.__traceback__))
    assert logs.Sparing().filter(record)
    assert logging.Formatter().format(record) == "failed (ValueError)"
