"""The service as schemathesis finds it in its OpenAPI description: every answer is one that is described."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("schemathesis", reason="the service is fuzzed with schemathesis")

_CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.slow
def test_every_answer_is_one_that_is_described(serve: Any) -> None:
    with serve() as service:
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(_CONFIG)]
        done = subprocess.run(
            [*command, "run", f"{service.url}openapi.json"],
            cwd=_CONFIG.parents[2], capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        log = service.log.read_text()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Operations:       4 selected / 4 total" in done.stdout
    statuses = Counter(line.split()[4] for line in log.splitlines() if "POST /predict " in line)
    assert {"200", "415", "422"} <= set(statuses) <= {"200", "413", "415", "422"}
    assert statuses["200"] >= 20
