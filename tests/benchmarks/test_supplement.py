"""What is added to a benchmark's results, what the report makes of it, and the whole command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pneumo_edge.benchmarks import machine, report, verdict_file
from pneumo_edge.benchmarks import results as raw
from pneumo_edge.benchmarks.report.runs import gather
from pneumo_edge.benchmarks.results import Machine, Results
from pneumo_edge.benchmarks.summary import Summary, summarise
from pneumo_edge.benchmarks.supplement import measures, run, task
from pneumo_edge.benchmarks.supplement.records import Unavailable
from pneumo_edge.benchmarks.supplement.summary import achieved, reasons
from pneumo_edge.benchmarks.verdict import BenchmarkVerdict, decide
from pneumo_edge.cli import app
from pneumo_edge.data.sources import open_source
from pneumo_edge.errors import ExitCode, ResultsError
from tests.benchmarks import supplements

MakeResults = Callable[..., Results]


@pytest.fixture
def supplemented(make_results: MakeResults) -> Results:
    results = make_results()
    return replace(results, supplement=supplements.supplement(results))


def test_what_is_written_is_read_again_and_older_results_have_none(
    supplemented: Results, make_results: MakeResults, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    raw.write(path, supplemented)
    assert raw.read(path) == supplemented
    document = json.loads(path.read_text())
    del document["supplement"]
    path.write_text(json.dumps(document))
    assert raw.read(path) == make_results()


def test_a_units_rate_is_its_multiply_adds_by_its_time_and_its_share_that_of_the_higher_limit(
    supplemented: Results,
) -> None:
    summary = summarise(supplemented)
    by_unit = {each.row.result.unit: each for each in achieved(summary)}
    one = by_unit[supplements.unit("mobilenetv2")]
    assert one.multiply_adds_per_s == pytest.approx(300e6 / (one.row.inference.median_ms / 1e3))
    assert one.share == pytest.approx(one.multiply_adds_per_s / 120e9)
    whole = by_unit[supplements.unit("mobilenetv2", "int8")]
    assert whole.share == pytest.approx(whole.multiply_adds_per_s / 400e9)


def test_a_limit_of_another_number_of_threads_is_none(supplemented: Results) -> None:
    assert supplemented.supplement
    limits = tuple(each for each in supplemented.supplement.limits if each.threads == 2)
    without = replace(supplemented, supplement=replace(supplemented.supplement, limits=limits))
    assert {each.share for each in achieved(summarise(without))} == {None}


def test_the_reason_for_a_ratio_of_times_multiplies_out(supplemented: Results) -> None:
    found = list(reasons(summarise(supplemented)))
    assert len(found) == 2
    for each in found:
        assert each.slower.row.model.backbone == "efficientnetb0"
        assert each.work == pytest.approx(1.3)
        assert each.time == pytest.approx(each.work / each.speed)
        assert 1.7 < each.time < 2.3


def test_the_report_shows_every_part_and_says_what_differs(supplemented: Results, tmp_path: Path) -> None:
    runs = gather([summarise(supplemented)])
    report.write(runs, tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    for title in (
        "Why one file is slower",
        "Throughput",
        "Energy",
        "Disk space of the engines",
        "Other instruments",
        "Not available on this machine",
    ):
        assert f"## {title}" in text
    assert "as MobileNetV2: 1.30 times the multiply-adds at 0." in text
    assert "with 239 operators against 67" in text
    assert "Conv 75%, Mul 25%" in text
    # 60 J in 1000 inferences; over idle, 5 W times 5 s less.
    assert "| MobileNetV2 | fp32 | litert | 60.00 | 35.00 | 12.0 | 5.0 |" in text
    assert "| MobileNetV2 | fp32 | litert | 250.0 | 400.0 | 450.0 | 1.80 |" in text
    assert "| litert | ai-edge-litert 2.3.0 | numpy 78.0 | 61.4 | 78.0 | 139.4 |" in text
    assert "Of 2 comparisons with other instruments, 1 agree within 10%, 1 differ" in text
    assert "| litert-benchmark | 4.28 | 4.08 | 1.05 [1.05, 1.05] |" in text
    (line,) = [line for line in text.splitlines() if "| MLPerf LoadGen |" in line]
    assert line.endswith("| differs |")
    # LoadGen's own result: 99 queries, no 90th percentile told, its estimate, our bound, no rate told.
    (line,) = [line for line in text.splitlines() if line.endswith("| VALID |")]
    assert line.startswith("| MobileNetV2 | fp32 | litert | 99 | none | 5.50 | ")
    assert "operators of litert: its Python package offers no profile" in text


def test_a_report_without_a_supplement_has_none_of_it(make_results: MakeResults, tmp_path: Path) -> None:
    report.write(gather([summarise(make_results())]), tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    for title in (
        "Why one file is slower",
        "Throughput",
        "Energy",
        "Other instruments",
        "Not available on this machine",
    ):
        assert f"## {title}" not in text


def _here(results: Results) -> Results:
    found = machine.describe()
    return replace(results, machine=Machine(found.cpu, found.architecture, found.cores, 1, "", ""))


def test_results_of_another_machine_are_refused(
    make_results: MakeResults, fake_model: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ResultsError, match="the results come from A processor with 2 cores"):
        run.measure(make_results(), [fake_model], open_source(phantom_folder), ["limit"], tmp_path)


def test_files_that_the_results_are_not_of_are_refused(
    make_results: MakeResults, fake_model: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ResultsError, match="none of the model files is in the results"):
        run.measure(_here(make_results()), [fake_model], open_source(phantom_folder), ["limit"], tmp_path)


def test_a_measure_replaces_what_was_there_of_it_and_leaves_the_rest(
    supplemented: Results, fake_model: Path, phantom_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file stands in for one of the results'; of it there is a profile and a throughput."""
    from pneumo_edge._util import files

    monkeypatch.setattr("pneumo_edge.benchmarks.measures.energy.POWERCAP", tmp_path / "none")
    name = supplements.unit("mobilenetv2").model
    models = tuple(
        replace(model, sha256=files.sha256(fake_model)) if model.file == name else model
        for model in supplemented.models
    )
    before = _here(replace(supplemented, models=models))
    told: list[Unavailable] = []
    kept: list[Results] = []
    after = run.measure(
        before, [fake_model], open_source(phantom_folder), ["energy"], tmp_path, keep=kept.append, tell=told.append
    ).supplement
    assert after
    assert before.supplement
    assert kept[-1].supplement == after
    assert after.energy == ()
    assert after == replace(before.supplement, energy=(), unavailable=after.unavailable)
    assert [each.measure for each in after.unavailable] == ["operators", "energy"]
    assert told == [after.unavailable[-1]]


def _settled(results: Results) -> tuple[Summary, BenchmarkVerdict]:
    summary = summarise(results)
    return summary, decide(summary)


def _pneumo_edge(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pneumo_edge", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))


def test_an_unknown_measure_is_wrong_usage(fake_model: Path, phantom_folder: Path) -> None:
    words = ("results.json", fake_model, "--data", phantom_folder, "--measure", "beauty")
    done = _pneumo_edge("supplement", *words)
    assert done.returncode == ExitCode.USAGE
    assert "cross-check" in done.stderr


@pytest.mark.slow
def test_the_command_adds_to_the_results_of_a_benchmark(
    two_backbones: Path, phantom_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path = two_backbones / "mobilenetv2-fp32.tflite", tmp_path / "results.json"
    common = ("--data", phantom_folder)
    few = ("--engine", "litert", "--processes", "1", "--queries", "5", "--seconds", "0", "--out", tmp_path)
    done = _pneumo_edge("benchmark", two_backbones, *common, *few)
    assert done.returncode == ExitCode.OK, done.stderr
    before = raw.read(path)

    # A tenth of the usual time for each measurement.
    for name in ("_LIMIT_SECONDS", "_PROFILE_SECONDS", "_ENERGY_SECONDS", "_THROUGHPUT_SECONDS", "_TURN_SECONDS"):
        monkeypatch.setattr(measures, name, getattr(measures, name) / 10)
    monkeypatch.setattr(task, "_WARMUP_SECONDS", 0.05)
    added = CliRunner().invoke(app, ["supplement", str(path), str(model), *map(str, common)])
    assert added.exit_code == ExitCode.OK, added.output
    assert "not available: operators of litert" in added.stderr
    after = raw.read(path)
    settled = verdict_file.read(tmp_path / verdict_file.NAME)
    assert settled.basis.results_sha256 == sha256(path.read_bytes()).hexdigest()
    assert settled == verdict_file.of(*_settled(after), path)
    found = after.supplement
    assert found
    assert replace(after, supplement=None) == before
    assert [each.engine for each in found.installations] == ["litert"]
    assert {(each.arithmetic, each.threads) for each in found.limits} == {("float32", 1), ("int8", 1)}
    (graph,) = found.graphs
    # Of the tiny network: 14 x 14 positions of 16 x 16 x 3 x 2 weights and the heatmap's 2; a dense layer of 2 x 2.
    assert (graph.model, graph.graph.multiply_adds) == (model.name, 14 * 14 * (16 * 16 * 3 * 2 + 2) + 4)
    assert {each.unit.model for each in found.throughput} == {model.name}
    (check,) = found.cross_checks
    assert {"pneumo-edge", "litert-benchmark"} <= {each.instrument for each in check.readings}
    assert "litert-benchmark reads" in added.stdout
    if any(each.instrument == "MLPerf LoadGen" for each in check.readings):
        (summary,) = (tmp_path / "loadgen").rglob("mlperf_log_summary.txt")
        assert "Scenario : SingleStream" in summary.read_text()

    done = _pneumo_edge("report", path, "--out", tmp_path / "report.md")
    assert done.returncode == ExitCode.OK, done.stderr
    assert "## Other instruments" in (tmp_path / "report.md").read_text(encoding="utf-8")
