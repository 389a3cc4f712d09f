from __future__ import annotations

import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pneumo_edge._util import memory


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, 4096000), ("max", 4096000), ("1000000", 1000000), ("9999999999", 4096000)]
)
def test_what_is_free_is_that_of_the_machine_within_the_limit_of_the_container(
    limit: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  8000 kB\nMemAvailable:    4000 kB\n")
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr(memory, "_SYSTEM", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory.available() == expected


def test_it_is_not_known_on_every_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_SYSTEM", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory.available() is None


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc of glibc")
def test_memory_that_was_freed_is_kept_for_the_next_block() -> None:
    program = textwrap.dedent(
        """
        import resource, sys
        from pneumo_edge._util import memory

        if sys.argv[1] == "keep":
            memory.keep_freed()
        for _ in range(2):  # the second time, the memory is there
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            block = bytearray(256 << 20)
            block[::4096] = bytes(len(block) // 4096)
            del block
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        """
    )
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", program, how], check=True, capture_output=True).stdout)
        for how in ("keep", "return")
    )
    assert kept < returned / 10
