"""A benchmark that is killed at any moment leaves no image and no process, and is resumed."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pneumo_edge.benchmarks import results
from pneumo_edge.errors import ExitCode

_KILLS = 6
#: A benchmark of this test has begun to time by then.
_SECONDS = 2.5


def _children(process: int) -> list[int]:
    return [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdecimal() and re.search(rf"PPid:\s+{process}\n", _read(path / "status"))
    ]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _is_alive(process: int) -> bool:
    state = re.search(r"State:\s+(\w)", _read(Path(f"/proc/{process}/status")))
    return state is not None and state[1] not in "ZX"


def _wait_until_it_measures(process: subprocess.Popen[bytes], out: Path) -> None:
    while not (out / "results.json.partial").exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it takes Linux's /proc to see children")
def test_kills_at_random_moments_leave_no_image_and_no_process(
    two_backbones: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    out, place = tmp_path / "reports", tmp_path / "temporary"
    place.mkdir()
    command = [
        sys.executable, "-m", "pneumo_edge", "benchmark", str(two_backbones), "--data", str(phantom_folder), "--engine",
        "litert", "--processes", "3", "--queries", "30", "--seconds", "1.5", "--out", str(out), "--resume",
    ]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(place)}
    moments = random.Random(7)
    codes = []
    for number in range(_KILLS):
        kind = signal.SIGKILL if number % 2 else signal.SIGTERM
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            if number:
                time.sleep(moments.uniform(0.1, _SECONDS))
            else:
                # However slow this machine is, one of them is interrupted in its work.
                _wait_until_it_measures(process, out)
            children = _children(process.pid)
            process.send_signal(kind)
            assert process.stderr
            _, error = process.communicate()
        codes.append(process.returncode)
        assert b"Traceback" not in error
        assert [path for path in place.rglob("*") if path.is_file()] == []
        deadline = time.monotonic() + 30
        while any(map(_is_alive, children)):
            assert time.monotonic() < deadline, "a worker outlives its benchmark"
            time.sleep(0.05)
    # One that ended before it was killed, or that was killed before it could handle a signal, is among them, too.
    assert set(codes) <= {ExitCode.OK, ExitCode.INTERRUPTED, -signal.SIGKILL, -signal.SIGTERM}
    assert ExitCode.INTERRUPTED in codes
    assert -signal.SIGKILL in codes
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.OK, done.stderr
    assert all(len(unit.latency) == 3 for unit in results.read(out / "results.json").units)
    assert list(place.iterdir()) == []
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.md", "results.json", "verdict.json"]
