"""The record of the simulation of claims about networks, and a slice of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pneumo_edge._util import markdown, records
from pneumo_edge.evaluation import networks
from pneumo_edge.evaluation.metrics import wilson
from tools import network_simulation
from tools.network_simulation import SCENARIOS, Counted, Scenario, Simulation

_ROOT = Path(__file__).parents[2]
#: "Worse by the margin": no claim "as accurate" is true of it.
_MARGIN = "worse by the margin"


@pytest.fixture(scope="module")
def counted() -> tuple[Counted, ...]:
    return records.loads(Simulation, (_ROOT / network_simulation.RESULTS).read_bytes()).counted


def _claimed(counted: tuple[Counted, ...]) -> list[Counted]:
    """The scenarios with as many trainings as a claim takes."""
    return [each for each in counted if min(each.scenario.trainings) >= networks.LEAST_TRAININGS]


def test_intervals_hold_the_truth_as_often_as_they_say(counted: tuple[Counted, ...]) -> None:
    """In 93 to 97 % of trials, as far as the number of trials tells."""
    assert [each.scenario for each in counted] == list(SCENARIOS)
    for each in _claimed(counted):
        assert each.trials >= 1000
        for covered in (each.auc_covered, each.accuracy_covered):
            found = wilson(covered, each.pairs)
            assert found.high >= 0.93 and found.low <= 0.97, each.scenario
    pairs = sum(each.pairs for each in _claimed(counted))
    assert 0.945 <= sum(each.auc_covered for each in _claimed(counted)) / pairs <= 0.965


def test_equal_networks_are_rarely_called_different(counted: tuple[Counted, ...]) -> None:
    equal = [each for each in _claimed(counted) if len(set(zip(each.scenario.auc, each.scenario.sd, strict=True))) == 1]
    assert any(len(each.scenario.trainings) == 3 for each in equal)
    for each in equal:
        assert wilson(each.alarms, each.trials).low <= 0.05, each.scenario
    assert sum(each.alarms for each in equal) / sum(each.trials for each in equal) <= 0.05
    worse = [each for each in counted if each.scenario.name == _MARGIN]
    assert len(worse) == 2 and all(each.as_accurate / each.pairs <= 0.05 for each in worse)


def test_the_bootstrap_has_narrower_intervals_that_hold_the_truth_less_often(counted: tuple[Counted, ...]) -> None:
    asked = [each for each in counted if each.bootstrap_trials]
    trials = sum(each.bootstrap_trials for each in asked)
    assert sum(each.bootstrap_covered for each in asked) / trials < 0.93
    assert all(each.bootstrap_width < each.beside_width for each in asked)


def test_a_slice_of_the_simulation_agrees_with_the_record(
    counted: tuple[Counted, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(_ROOT)
    images = network_simulation.test_images()
    scenario = Scenario("a slice", (3, 3), (0.98, 0.98), (0.005, 0.005), bootstrap=True)
    found = network_simulation.simulate(scenario, images, 60, bootstrap_trials=3)
    recorded = next(each for each in counted if each.scenario == SCENARIOS[1])
    assert found.auc_covered >= 0.85 * found.pairs
    assert found.auc_width == pytest.approx(recorded.auc_width, rel=0.15)
    assert found.bootstrap_trials == 3


def test_the_page_has_the_table_of_the_record(counted: tuple[Counted, ...]) -> None:
    page = (_ROOT / network_simulation.PAGE).read_text(encoding="utf-8")
    assert markdown.table(network_simulation.table(Simulation(counted))) in page
