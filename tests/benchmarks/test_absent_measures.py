"""Results without CPU time, memory and end-to-end calls: what is absent is shown as absent, and never as 0."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pneumo_edge.benchmarks import comparison, results, verdict, verdict_file
from pneumo_edge.benchmarks.choice import Limits, choose
from pneumo_edge.benchmarks.report import brief, spreadsheet
from pneumo_edge.benchmarks.report.compose import compose
from pneumo_edge.benchmarks.report.html import render
from pneumo_edge.benchmarks.report.runs import gather
from pneumo_edge.benchmarks.results import LatencySamples, MemorySample, Results
from pneumo_edge.benchmarks.summary import summarise
from pneumo_edge.cli import app

MakeResults = Callable[..., Results]


def _wall_alone(latency: tuple[LatencySamples, ...]) -> tuple[LatencySamples, ...]:
    return tuple(
        replace(each, inference=replace(each.inference, cpu_ns=None), file_to_verdict=None) for each in latency
    )


@pytest.fixture
def wall_alone(make_results: MakeResults) -> Results:
    """Only the wall time of inference was measured."""
    found = make_results(speeds={"efficientnetb0": 9.0, "mobilenetv2": 4.0})
    return replace(
        found,
        test_set=None,
        units=tuple(
            replace(each, probabilities={}, memory=(), latency=_wall_alone(each.latency)) for each in found.units
        ),
        twins=tuple(replace(each, latency=_wall_alone(each.latency)) for each in found.twins),
    )


def test_wall_time_decides_claims_where_cpu_time_is_absent(wall_alone: Results) -> None:
    summary = summarise(wall_alone)
    assert {ratio.decides for ratio in summary.ratios} == {"wall"}
    decided = verdict.decide(summary)
    assert {claim.property for claim in decided.claims} == {"faster", "smaller"}
    for claim in decided.claims:
        if claim.property == "faster":
            assert claim.outcome == "supported"
            assert claim.evidence.time
            assert (claim.evidence.time.deciding, list(claim.by_clock)) == ("wall", ["wall"])


def test_absent_measures_are_empty_in_every_report(wall_alone: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results.write(path, wall_alone)
    read = results.read(path)
    assert read == wall_alone
    runs = gather([summarise(read)])
    for line in csv.DictReader(io.StringIO(spreadsheet.render(runs))):
        assert {line["peak_memory_bytes"], line["imports_memory_bytes"], line["inference_cpu_ms"]} == {""}
        assert "file_to_verdict_median_ms" not in line
        assert float(line["inference_median_ms"]) > 3
    columns = brief.table(runs).columns
    assert "Inference ms" in columns
    assert not {"Peak memory MiB", "End to end ms", "AUC"} & {*columns}
    page = render(compose(runs))
    assert "CPU time not measured" in page
    record = verdict_file.of(runs[0].summary, runs[0].verdict, path)
    verdict_file.write(tmp_path / "verdict.json", record)
    assert verdict_file.read(tmp_path / "verdict.json") == record
    assert not record.basis.accuracy_counts
    first = json.loads((tmp_path / "verdict.json").read_text())["claims"][0]
    assert list(first["evidence"]["time"]["by_clock"]) == ["wall"]


def test_choose_says_which_limit_cannot_be_judged(wall_alone: Results, tmp_path: Path) -> None:
    chosen = choose(summarise(wall_alone), Limits(memory_bytes=50e6))
    assert chosen.best is None
    assert {why for _, why in chosen.ruled_out} == {
        ("its peak memory was not measured, and at most 50.00 MB are required",)
    }
    path = tmp_path / "results.json"
    results.write(path, wall_alone)
    told = CliRunner().invoke(app, ["choose", str(path), "--max-latency", "50ms"])
    assert told.exit_code == 0, told.output
    assert "inference alone" in told.output
    assert "memory not measured" in told.output
    assert "end to end was not measured, so --max-latency is compared with inference alone" in told.output


def test_memory_above_an_unknown_baseline_counts_as_memory(wall_alone: Results) -> None:
    memory = (MemorySample(None, 12 * 2**20),)
    summary = summarise(replace(wall_alone, units=tuple(replace(each, memory=memory) for each in wall_alone.units)))
    assert {row.peak_bytes for row in summary.rows} == {12 * 2**20}
    runs = gather([summary])
    (line, *_) = csv.DictReader(io.StringIO(spreadsheet.render(runs)))
    assert (line["peak_memory_bytes"], line["imports_memory_bytes"]) == (str(12 * 2**20), "")
    assert "12.0" in render(compose(runs))


def test_runs_are_compared_in_what_both_measured(wall_alone: Results, make_results: MakeResults) -> None:
    whole = make_results(speeds={"efficientnetb0": 9.0, "mobilenetv2": 4.0})
    for before, after in ((whole, wall_alone), (wall_alone, whole), (wall_alone, wall_alone)):
        compared = comparison.compare(summarise(before), summarise(after), 0.05)
        for unit in compared.units:
            assert unit.findings["inference"].outcome == "no regression"
            assert unit.findings.get("memory") is None or unit.findings["memory"].outcome == "cannot tell"
