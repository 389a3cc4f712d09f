"""The load test of the service, in short; ``make serve-load`` has it at full length, with bounds on time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("psutil", reason="the extra 'bench' is not installed")

from tools.service_load import __main__ as load
from tools.service_load import honest
from tools.service_load.attacks import ATTACKS


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[load.Service]:
    # Fewer places than clients that trickle, and enough that other work on this machine does not fill them.
    with load.serve(tmp_path_factory.mktemp("load"), "--queue", "30") as service:
        honest.ask_for(service.port, 1)
        yield service


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_honest_client_is_answered_beside_each_attack(attacked: load.Service, attack: str) -> None:
    # How fast depends on what else this machine does: here, that it is answered at all.
    row = load.meet(attacked, attack, 2, allowed=math.inf)
    assert list(row.faults()) == []
    assert row.counts["connections"] + sum(load.statuses(row.counts).values()) > 0


_GOOD = load.Row("idle", [honest.Answer(200, 0.1)] * 100, 1.0, 1000.0, 10**8, 10**8, 10**8, Counter())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answers": [honest.Answer(200, 0.1)] * 98 + [honest.Answer(200, 1.1)] * 2}, "98.0% of the honest"),
        ({"answers": [honest.Answer(200, 0.1)] * 98 + [honest.Answer(503, 0.1)] * 2}, "98.0% of the honest"),
        ({"log_per_minute": 1e6}, "the log grew"),
        ({"after": 2 * 10**8}, "100 MB of memory stayed"),
        ({"peak": 10**9}, "memory rose by 900 MB"),
        ({"counts": Counter({"answer lost": 1})}, "1 refusals did not arrive"),
        ({"counts": Counter({"most bytes on a connection": 10**9})}, "bytes were read of one body"),
        ({"attack": "hostile", "counts": Counter({"status 403": 9, "status 200": 1})}, "expected 403 alone"),
    ],
)
def test_each_bound_can_be_missed(change: dict[str, Any], words: str) -> None:
    assert list(_GOOD.faults()) == []
    (fault,) = replace(_GOOD, **change).faults()
    assert words in fault


def test_a_missed_bound_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # Nobody is answered within no time.
    monkeypatch.setattr(load, "MORE_SECONDS", -100.0)
    assert load.main(["--seconds", "2", "trickle"]) == 1
    printed = capsys.readouterr().out
    assert "trickle: 0.0% of the honest requests were answered in time; expected 99%" in printed
