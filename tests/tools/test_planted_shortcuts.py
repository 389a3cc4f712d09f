"""The record of planted shortcuts, and what docs/data.md says of it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image

from pneumo_edge._util import records
from tests import pages
from tools import planted_shortcuts
from tools.planted_shortcuts import KINDS, RESULTS, Trials


def test_the_audit_finds_what_was_planted_and_nothing_else() -> None:
    done = records.loads(Trials, (pages.REPOSITORY / RESULTS).read_bytes())
    assert sorted(trial.seed for trial in done.trials) == list(range(20))
    for kind in KINDS:
        found = [each.found > 0 for trial in done.trials for each in trial.planted if each.kind == kind]
        assert sum(found) >= 19
        assert sum(trial.before[kind] > 0 for trial in done.trials) <= 1


def test_the_page_has_the_rates_of_the_record() -> None:
    done = records.loads(Trials, (pages.REPOSITORY / RESULTS).read_bytes())
    page = " ".join((pages.REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8").split())
    for sentence in planted_shortcuts.rates(done):
        assert sentence in page


@pytest.mark.parametrize("kind", KINDS)
def test_a_shortcut_changes_the_images_it_was_planted_in_and_no_others(kind: str, tmp_path: Path) -> None:
    for name in ("NORMAL", "PNEUMONIA"):
        (tmp_path / name).mkdir()
        for number in range(40):
            Image.linear_gradient("L").save(tmp_path / name / f"{number}.png")
    left = {name: sorted((tmp_path / name).iterdir()) for name in ("NORMAL", "PNEUMONIA")}
    before = {path: path.read_bytes() for paths in left.values() for path in paths}
    class_name, _, planted = planted_shortcuts._plant(KINDS[kind], random.Random(0), left)
    assert len(planted) == round(KINDS[kind].share * 40)
    assert {path for path in before if path.read_bytes() != before[path]} == set(planted)
    assert {path.parent.name for path in planted} == {class_name}
    assert not set(planted) & set(left[class_name])
