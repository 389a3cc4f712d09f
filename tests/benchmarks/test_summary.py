from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, roc_auc_score

from benchmarks.measures import accuracy, latency
from benchmarks.results import Calls, LatencySamples, Results
from benchmarks.summary import summarise

MakeResults = Callable[..., Results]

nanoseconds = st.lists(st.integers(1, 10**9), min_size=2, max_size=30)


def calls_of(wall_ns: list[int], cpu_ns: list[int] | None = None) -> Calls:
    return Calls(tuple(range(len(wall_ns))), tuple(wall_ns), tuple(cpu_ns or wall_ns))


@given(st.lists(nanoseconds, min_size=1, max_size=4))
def test_latency_pools_the_calls_of_all_processes(processes: list[list[int]]) -> None:
    summary = latency.summarise(calls_of(wall) for wall in processes)
    pooled = [ns / 1e6 for wall in processes for ns in wall]
    assert summary.calls == len(pooled)
    assert summary.median_ms == pytest.approx(statistics.median(pooled))
    assert summary.p90_ms == pytest.approx(statistics.quantiles(pooled, n=10, method="inclusive")[8])
    assert summary.cpu_medians_ms == pytest.approx([statistics.median(wall) / 1e6 for wall in processes])


def test_accuracy_agrees_with_scikit_learn() -> None:
    generator = np.random.default_rng(5)
    names = [f"image {index}" for index in range(200)]
    labels = dict(zip(names, generator.integers(0, 2, 200).tolist(), strict=True))
    # Rounded as an int8 model's output is, so that there are ties.
    scores = {name: round(min(1.0, 0.4 * labels[name] + 0.6 * generator.uniform()) * 16) / 16 for name in names}
    shuffled = dict(sorted(scores.items(), reverse=True))
    found = accuracy.summarise(labels, shuffled, threshold=0.5)

    truth, values = list(labels.values()), [scores[name] for name in names]
    assert found.auc.value == pytest.approx(roc_auc_score(truth, values))
    (tn, fp), (fn, tp) = confusion_matrix(truth, [value >= 0.5 for value in values])
    confusion = found.confusion
    assert (confusion.true_negatives, confusion.false_positives) == (tn, fp)
    assert (confusion.false_negatives, confusion.true_positives) == (fn, tp)


def test_a_probability_at_the_threshold_is_called_positive() -> None:
    labels = {"a": 0, "b": 0, "c": 1, "d": 1}
    found = accuracy.summarise(labels, {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}, threshold=0.3)
    assert found.confusion.sensitivity.value == 1.0
    assert found.confusion.specificity.value == 1.0


def test_rows_say_what_the_units_are(make_results: MakeResults) -> None:
    summary = summarise(make_results())
    assert [(row.model.backbone, row.model.format) for row in summary.rows] == [
        ("efficientnetb0", "fp32"),
        ("mobilenetv2", "fp32"),
        ("efficientnetb0", "int8"),
        ("mobilenetv2", "int8"),
    ]
    assert {row.memory_bytes for row in summary.rows} == {10 * 2**20}
    assert summary.rows[0].inference.median_ms == pytest.approx(8.8, rel=0.05)
    assert set(summary.rows[0].stages_ms) == {"read", "decode", "resize", "tensor", "inference", "decision"}
    assert summary.class_counts == {"NORMAL": 20, "PNEUMONIA": 20}
    assert summary.majority_share == 0.5


def test_ratios_compare_backbones_of_one_format_on_one_engine(make_results: MakeResults) -> None:
    ratios = summarise(make_results(speeds={"efficientnetb0": 9.0, "mobilenetv2": 3.0})).ratios
    assert [(ratio.numerator, ratio.denominator, ratio.format) for ratio in ratios] == [
        ("efficientnetb0", "mobilenetv2", "fp32"),
        ("efficientnetb0", "mobilenetv2", "int8"),
    ]
    for ratio in ratios:
        assert ratio.inference.median == pytest.approx(3.0, rel=0.1)
        assert ratio.inference.low <= ratio.inference.median <= ratio.inference.high


def test_a_process_on_a_slower_machine_does_not_move_the_ratio(make_results: MakeResults) -> None:
    results = make_results()

    def slowed(calls: Calls) -> Calls:
        return replace(calls, cpu_ns=tuple(5 * ns for ns in calls.cpu_ns))

    units = tuple(
        replace(
            unit,
            latency=(
                LatencySamples(slowed(unit.latency[0].inference), slowed(unit.latency[0].file_to_verdict)),
                *unit.latency[1:],
            ),
        )
        for unit in results.units
    )
    before, after = summarise(results).ratios, summarise(replace(results, units=units)).ratios
    for one, other in zip(before, after, strict=True):
        assert one.inference.median == pytest.approx(other.inference.median)
        assert (one.inference.low, one.inference.high) == pytest.approx((other.inference.low, other.inference.high))


def test_a_single_backbone_has_no_ratio(make_results: MakeResults) -> None:
    assert summarise(make_results(speeds={"mobilenetv2": 3.0})).ratios == ()
