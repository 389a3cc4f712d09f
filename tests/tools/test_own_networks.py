"""The table of keras.applications networks in docs/how-to/own-keras-model.md, from results/own-networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from pneumo_edge._util import records
from tools import own_networks
from tools.own_networks import Results

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results() -> Results:
    return records.loads(Results, (_ROOT / own_networks.RESULTS).read_bytes())


def test_the_page_has_the_table_that_follows_from_the_results(results: Results) -> None:
    text = own_networks.table(results)
    assert text in (_ROOT / own_networks.PAGE).read_text(encoding="utf-8")
    assert not [line for line in text.splitlines() if "|  |" in line], "no cell is empty"


def test_one_command_exports_each_network_and_keeps_98_percent_of_its_decisions(results: Results) -> None:
    assert len(results.networks) >= 12
    page = (_ROOT / own_networks.PAGE).read_text(encoding="utf-8")
    for each in results.networks.values():
        assert each.validation_images >= 200 and f"{each.validation_images} validation images" in page
        assert max(each.agreement.values()) >= 0.98, each.network
        assert {*each.agreement, *each.failures} <= {own_networks.INT8, own_networks.MIXED}
        # The second is searched where the first fails.
        assert (own_networks.INT8 in each.failures) == (each.operators > 0)


def test_the_export_refused_the_wrong_scaling_of_every_network_and_named_the_right_one(results: Results) -> None:
    for each in results.networks.values():
        assert f"Give --input-range {each.input_range}, or" in each.refusal, each.network
