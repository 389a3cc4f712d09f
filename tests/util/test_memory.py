from __future__ import annotations

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
