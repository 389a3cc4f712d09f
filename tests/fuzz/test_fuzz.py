"""The corpus, and with it what the fuzzer once found, through every target; and some seconds of fuzzing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

_HERE = Path(__file__).parent
_SEEDS = sorted(path for path in (_HERE / "corpus").rglob("*") if path.is_file())
_SECONDS = 3


@pytest.mark.parametrize("path", _SEEDS, ids=[f"{path.parent.name}-{path.name}" for path in _SEEDS])
def test_the_corpus_is_read_or_refused(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def test_every_target_has_seeds_that_are_read() -> None:
    assert {path.parent.name for path in _SEEDS} == set(TARGETS)
    assert sum(path.stat().st_size for path in _SEEDS) < 200_000


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_some_seconds_of_fuzzing_find_nothing(target: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    command = [
        sys.executable, "-m", "tests.fuzz.fuzz", target, f"-max_total_time={_SECONDS}", "-max_len=16384", "-timeout=60",
        "-rss_limit_mb=2048", f"-artifact_prefix={tmp_path}/", str(tmp_path), str(_HERE / "corpus" / target),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=_HERE.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Done " in done.stderr
