from __future__ import annotations

import os
from pathlib import Path

import pytest

from pneumo_edge._util import cores


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cgroup of this process in a made-up hierarchy of version 2, two levels below its root."""
    folder = tmp_path / "fs" / "a" / "b"
    folder.mkdir(parents=True)
    membership = tmp_path / "cgroup"
    membership.write_text("0::/a/b\n")
    monkeypatch.setattr(cores, "_MOUNT", tmp_path / "fs")
    monkeypatch.setattr(cores, "_MEMBERSHIP", membership)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    return folder


def test_without_a_quota_the_affinity_mask_counts(group: Path) -> None:
    (group / "cpu.max").write_text("max 100000\n")
    assert cores.quota() is None
    assert cores.available() == 8


@pytest.mark.parametrize(("granted", "whole"), [(50_000, 1), (100_000, 1), (150_000, 2), (400_000, 4), (1_600_000, 8)])
def test_a_quota_limits_the_cores(group: Path, granted: int, whole: int) -> None:
    (group / "cpu.max").write_text(f"{granted} 100000\n")
    assert cores.quota() == granted / 100_000
    assert cores.available() == whole


def test_the_tightest_level_counts(group: Path) -> None:
    (group / "cpu.max").write_text("400000 100000\n")
    (group.parent / "cpu.max").write_text("200000 100000\n")
    assert cores.available() == 2


def test_version_1_is_read(tmp_path: Path, group: Path) -> None:
    cores._MEMBERSHIP.write_text("4:memory:/m\n3:cpu,cpuacct:/docker/x\n")
    folder = tmp_path / "fs" / "cpu,cpuacct" / "docker" / "x"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("250000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    (folder / "cpu.stat").write_text("nr_periods 10\nnr_throttled 3\nthrottled_time 1500000000\n")
    assert cores.quota() == 2.5
    assert cores.available() == 3
    assert cores.throttled_seconds() == 1.5


def test_throttling_is_read(group: Path) -> None:
    (group / "cpu.stat").write_text("usage_usec 9\nnr_throttled 2\nthrottled_usec 250000\n")
    assert cores.throttled_seconds() == 0.25


@pytest.mark.parametrize("damage", ["", "max", "x y", "1 0 0", "100000 0"])
def test_what_cannot_be_read_limits_nothing(group: Path, damage: str) -> None:
    (group / "cpu.max").write_text(damage)
    (group / "cpu.stat").write_text(damage)
    assert cores.available() == 8
    assert cores.throttled_seconds() is None


def test_a_system_without_cgroups_limits_nothing(group: Path) -> None:
    cores._MEMBERSHIP.unlink()
    assert cores.quota() is None
    assert cores.throttled_seconds() is None
