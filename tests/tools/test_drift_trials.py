"""The record of the trials of drift, and the page's table of it."""

from __future__ import annotations

import pytest

from pneumo_edge._util import markdown, records
from pneumo_edge.training.shifts import SHIFTS
from tests import pages
from tools import drift_trials
from tools.drift_trials import ONE_CLASS, UNCHANGED, Trials


@pytest.fixture(scope="module")
def done() -> Trials:
    return records.loads(Trials, (pages.REPOSITORY / drift_trials.RESULTS).read_bytes())


def test_images_without_drift_raise_an_alarm_in_at_most_5_percent_of_40_trials(done: Trials) -> None:
    unchanged = [trial for trial in done.trials if trial.change == UNCHANGED]
    assert sorted(trial.seed for trial in unchanged) == list(range(40))
    assert sum(trial.alarm for trial in unchanged) <= 0.05 * 40


def test_changes_raise_the_index_and_most_are_found(done: Trials) -> None:
    usual = max(trial.index("distance") for trial in done.trials if trial.change == UNCHANGED)
    for change in ("darker", "brighter", "flat", "steep", "collimated"):
        trials = [trial for trial in done.trials if trial.change == change]
        assert len(trials) >= 5
        assert all(trial.alarm for trial in trials), change
        assert min(trial.index("distance") for trial in trials) > usual, change
    assert {trial.change for trial in done.trials} == {UNCHANGED, ONE_CLASS, *SHIFTS}


def test_the_page_has_the_table_of_the_record(done: Trials) -> None:
    page = (pages.REPOSITORY / drift_trials.PAGE).read_text(encoding="utf-8")
    assert markdown.table(drift_trials.table(done)) in page
