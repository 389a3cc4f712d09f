"""The table of several devices in docs/training.md, from the record in results/devices."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev

from scipy import stats  # noqa: TID253

from tools import several_devices

_ROOT = Path(__file__).parents[2]
_FOUND = several_devices.load(_ROOT / several_devices.RESULTS)


def test_the_page_holds_the_table_that_follows_from_the_record() -> None:
    assert several_devices.table(_FOUND) in (_ROOT / several_devices.PAGE).read_text(encoding="utf-8")


def test_two_devices_differ_from_one_by_no_more_than_seeds_do() -> None:
    one, two = ([run for run in _FOUND.runs if run.devices == count] for count in (1, 2))
    assert [run.seed for run in one] == [run.seed for run in two] and len(one) >= 5
    for name in ("auc", "log_loss"):
        apart = [b.validation[name] - a.validation[name] for a, b in zip(one, two, strict=True)]
        assert stats.ttest_1samp(apart, 0).pvalue > 0.05, name
        assert abs(mean(apart)) < stdev(run.validation[name] for run in one), name
