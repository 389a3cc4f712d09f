"""The comparison of the times of two trainings of one network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pneumo_edge.benchmarks.results import Results
from pneumo_edge.benchmarks.summary import summarise
from pneumo_edge.errors import ResultsError
from tests.benchmarks.conftest import make_results as make_results
from tests.present import present
from tools.training_latency import compared, table


def test_trainings_of_a_network_are_compared_and_two_networks_are_not(make_results: Callable[..., Results]) -> None:
    results = make_results(speeds={"efficientnetb0": 8.0, "mobilenetv2": 4.0})
    with pytest.raises(ResultsError, match="no two files are of the same network"):
        table(summarise(results))
    models = tuple(replace(model, backbone="mobilenetv2", seed=seed) for seed, model in enumerate(results.models))
    found = list(compared(summarise(replace(results, models=models))))
    assert found
    assert all(present(ratio.inference).value == pytest.approx(0.5, rel=0.1) for ratio in found)
