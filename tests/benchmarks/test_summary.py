from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from dataclasses import asdict, astuple, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, roc_auc_score

from pneumo_edge._util import markdown
from pneumo_edge.benchmarks.measures import accuracy, latency
from pneumo_edge.benchmarks.protocol import Unit
from pneumo_edge.benchmarks.report.compose import compose
from pneumo_edge.benchmarks.report.runs import gather
from pneumo_edge.benchmarks.results import Calls, Conditions, Results, UnitResult, read
from pneumo_edge.benchmarks.summary import summarise
from pneumo_edge.evaluation.metrics import Confusion
from tests.present import present

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
    unit = UnitResult(Unit("a.tflite", "litert", 1), "", "", 0, shuffled, (), ())
    found = accuracy.summarise(np.array(list(labels.values())), unit.scores(names), threshold=0.5)

    truth, values = list(labels.values()), [scores[name] for name in names]
    assert found.auc.value == pytest.approx(roc_auc_score(truth, values))
    (tn, fp), (fn, tp) = confusion_matrix(truth, [value >= 0.5 for value in values])
    confusion = found.confusion
    assert isinstance(confusion, Confusion)
    assert (confusion.true_negatives, confusion.false_positives) == (tn, fp)
    assert (confusion.false_negatives, confusion.true_positives) == (fn, tp)


def test_a_probability_at_the_threshold_is_called_positive() -> None:
    found = accuracy.summarise(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.4]), threshold=0.3)
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
    assert {row.peak_bytes for row in summary.rows} == {10 * 2**20 + 1}
    assert {(row.load_ms, row.first_inference_ms) for row in summary.rows} == {(30.0, 9.0)}
    assert summary.rows[0].inference.median_ms == pytest.approx(8.8, rel=0.05)
    assert set(summary.rows[0].stages_ms) == {"read", "decode", "resize", "tensor", "inference", "decision"}
    assert summary.class_counts == {"NORMAL": 20, "PNEUMONIA": 20}
    assert summary.majority_share == 0.5


def test_ratios_compare_backbones_of_one_format_on_one_engine(make_results: MakeResults) -> None:
    ratios = summarise(make_results(speeds={"efficientnetb0": 9.0, "mobilenetv2": 3.0})).ratios
    assert [(r.numerator.model.backbone, r.denominator.model.backbone, r.numerator.model.format) for r in ratios] == [
        ("efficientnetb0", "mobilenetv2", "fp32"),
        ("efficientnetb0", "mobilenetv2", "int8"),
    ]
    for ratio in ratios:
        found = present(ratio.inference)
        assert found.value == pytest.approx(3.0, rel=0.02)
        assert 2.9 < found.low <= found.value <= found.high < 3.1
        assert ratio.relation == "more"


def test_a_process_on_a_slower_machine_does_not_move_the_ratio(make_results: MakeResults) -> None:
    results = make_results()

    def slowed(calls: Calls) -> Calls:
        return replace(calls, cpu_ns=tuple(5 * ns for ns in present(calls.cpu_ns)))

    units = tuple(
        replace(
            unit,
            latency=(
                replace(
                    unit.latency[0],
                    inference=slowed(unit.latency[0].inference),
                    file_to_verdict=slowed(present(unit.latency[0].file_to_verdict)),
                ),
                *unit.latency[1:],
            ),
        )
        for unit in results.units
    )
    before, after = summarise(results).ratios, summarise(replace(results, units=units)).ratios
    for one, other in zip(before, after, strict=True):
        assert astuple(present(one.inference)) == pytest.approx(astuple(present(other.inference)))


def test_a_single_backbone_has_no_ratio(make_results: MakeResults) -> None:
    assert summarise(make_results(speeds={"mobilenetv2": 3.0})).ratios == ()


def test_a_file_against_itself_shows_no_difference(make_results: MakeResults) -> None:
    (test,) = summarise(make_results()).null_tests
    assert (test.model, test.engine, test.threads) == ("mobilenetv2-int8.tflite", "litert", 1)
    assert test.passed
    found = present(test.inference)
    assert 0.95 < found.low < 1 < found.high < 1.05


@pytest.mark.parametrize(
    ("conditions", "named"),
    [
        ({"steal_share": 0.05}, "the host took 5.0% of the processor time"),
        ({"involuntary_switches": 6000}, "the process was preempted 100 times a second"),
        ({"load_average": 3.5}, "the load average was 3.5"),
        ({"governor": "powersave"}, "the frequency governor was powersave"),
        ({"throttled_s": 3.0}, "its control group was throttled for 3 of 60 s"),
        ({"throttled_s": 0.5}, ""),
        ({"threads": 4}, "it used 4 threads on 2 cores"),
        ({"steal_share": None, "involuntary_switches": None, "load_average": None, "governor": "performance"}, ""),
    ],
)
def test_a_disturbed_process_is_named_with_what_disturbed_it(
    make_results: MakeResults, conditions: dict[str, object], named: str
) -> None:
    results = make_results()
    quiet = results.conditions
    assert summarise(results).disturbed == ()
    changed: Conditions = replace(quiet[3], **conditions)  # type: ignore[arg-type]
    disturbed = summarise(replace(results, conditions=(*quiet[:3], changed, *quiet[4:]))).disturbed
    assert [(each.conditions.process, each.by) for each in disturbed] == ([(3, (named,))] if named else [])


def test_threads_beyond_a_quota_are_a_disturbance_and_the_report_names_the_quota(make_results: MakeResults) -> None:
    before = make_results()
    results = replace(
        before,
        machine=replace(before.machine, quota=1.5),
        conditions=tuple(replace(each, threads=2, throttled_s=0.0) for each in before.conditions),
    )
    assert {each.by for each in summarise(results).disturbed} == {("it used 2 threads on 2 cores with a quota of 1.5",)}
    report = markdown.render(compose(gather([summarise(results)])))
    assert "2 cores with a quota of 1.5" in report
    assert "Throttled" in report


def test_results_from_before_quotas_were_told_are_read_as_they_were(make_results: MakeResults, tmp_path: Path) -> None:
    document = asdict(make_results())
    del document["machine"]["quota"]
    for each in document["conditions"]:
        del each["throttled_s"]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    found = read(path)
    assert found.machine.quota is None
    assert summarise(found).disturbed == ()


def test_wall_time_well_above_cpu_time_is_a_disturbance(make_results: MakeResults) -> None:
    results = make_results()
    units = tuple(
        replace(
            unit,
            latency=(
                replace(
                    unit.latency[0],
                    inference=replace(
                        unit.latency[0].inference, cpu_ns=tuple(ns // 2 for ns in unit.latency[0].inference.wall_ns)
                    ),
                ),
                *unit.latency[1:],
            ),
        )
        for unit in results.units
    )
    (disturbed,) = summarise(replace(results, units=units)).disturbed
    assert disturbed.by == ("wall time is 2.00 times CPU time",)


def test_a_result_that_falls_short_of_its_preset_says_of_what(make_results: MakeResults) -> None:
    assert [row.shortfalls for row in summarise(make_results(speeds={"mobilenetv2": 4.0})).rows] == [(), ()]
    (row, _) = summarise(make_results(speeds={"mobilenetv2": 1.0}, processes=3)).rows
    *counts, seconds = row.shortfalls
    assert counts == ["3 of at least 10 processes", "60 of at least 64 end-to-end calls"]
    # 480 calls of about 1.1 ms.
    assert re.fullmatch(r"0\.5\d of at least 6 s of inference", seconds)
