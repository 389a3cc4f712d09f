"""What a terminal shows of a benchmark: a table that fits it, a sentence for each claim, the end of the demo."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pneumo_edge.benchmarks import results as raw
from pneumo_edge.benchmarks.report import brief
from pneumo_edge.benchmarks.report.runs import Runs, gather
from pneumo_edge.benchmarks.results import Results
from pneumo_edge.benchmarks.summary import summarise
from pneumo_edge.cli import app, demo, screen
from tests.present import present

MakeResults = Callable[..., Results]


@pytest.fixture
def results(make_results: MakeResults) -> Results:
    """All files say the same, so that each passes."""
    found = make_results()
    same = found.units[0].probabilities
    return replace(found, units=tuple(replace(unit, probabilities=same) for unit in found.units))


@pytest.fixture
def runs(results: Results) -> Runs:
    return gather([summarise(results)])


@pytest.mark.parametrize("columns", [60, 80, 120, 160])
def test_a_table_fits_a_terminal_and_names_every_unit(
    columns: int, runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    screen.show_table(brief.table(runs), brief.LEAST)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert sum(line.startswith(("MobileNetV2", "EfficientNetB0")) for line in lines) == len(runs[0].summary.rows)
    assert all(text in lines[0] for text in ("Size MB", "AUC", "Passes"))


def test_in_a_pipe_a_table_has_its_intervals(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    screen.show_table(brief.table(runs), brief.LEAST)
    shown = capsys.readouterr().out
    assert all(str(present(row.accuracy).auc) in shown for row in runs[0].summary.rows)


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal is POSIX's")
@pytest.mark.parametrize(("no_colour", "has_colours"), [("", True), ("1", False)])
def test_colours_are_for_terminals_without_no_color(
    no_colour: str, has_colours: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", no_colour)
    screen.show("fails", "bad")
    assert capsys.readouterr().out == "fails\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert screen.has_colours() == has_colours


def test_each_claim_is_one_sentence_over_all_its_pairs(runs: Runs) -> None:
    told = dict(sentence.split(": ", 1) for sentence, _ in brief.claims(runs[0]))
    properties = {claim.property for claim in runs[0].verdict.claims}
    assert len(told) == len(properties)
    assert told["MobileNetV2 is faster"].startswith("supported in both pairs (")
    effects = sorted(claim.effect for claim in runs[0].verdict.claims if claim.property == "faster" and claim.effect)
    assert f"({effects[0]:.2f} times)" in told["MobileNetV2 is faster"]
    assert told["MobileNetV2 is as accurate"] == "not separable (too few images)"


def test_outcomes_that_differ_are_counted(runs: Runs) -> None:
    (run,) = runs
    faster = [claim for claim in run.verdict.claims if claim.property == "faster"]
    mixed = (replace(faster[0], outcome="refuted", why_open=None), *faster[1:])
    assert {claim.outcome for claim in mixed} == {"supported", "refuted"}
    ((sentence, tone),) = brief.claims(replace(run, verdict=replace(run.verdict, claims=mixed)))
    assert f" in 1 of {len(mixed)} pairs (" in sentence and "refuted in 1" in sentence
    assert tone == "open"


def test_a_file_that_loses_too_much_auc_does_not_pass(results: Results) -> None:
    wrong = dict.fromkeys(present(results.test_set).labels, 0.5)
    units = tuple(
        replace(unit, probabilities=wrong) if unit.unit.model == "mobilenetv2-int8.tflite" else unit
        for unit in results.units
    )
    (run,) = gather([summarise(replace(results, units=units))])
    cells = {row.model.file: brief.passes(row, run) for row in run.summary.rows}
    assert cells.pop("mobilenetv2-int8.tflite").text == "no"
    assert {cell.text for cell in cells.values()} == {"yes"}


def test_the_report_is_shown_in_brief_and_its_path_is_last(results: Results, tmp_path: Path) -> None:
    raw.write(tmp_path / "results.json", results)
    page = tmp_path / "report.md"
    done = CliRunner().invoke(app, ["report", str(tmp_path / "results.json"), "--out", str(page)])
    assert done.exit_code == 0
    *_, claim, last = done.output.splitlines()
    assert claim.startswith("MobileNetV2 ")
    assert last == f"Report: {page}"
    assert len(done.output.splitlines()) < 25


def test_the_demo_ends_with_at_most_15_lines(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.html").touch()
    raw.write(report / "results.json", results)
    demo._summarise(tmp_path / "models", report)
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) <= 15
    assert lines[0] == f"== Made: 2 trained networks and 4 model files in {tmp_path / 'models'}"
    assert lines[-1] == f"Report: {report / 'report.html'}"
    # What the demo wanted and has no numbers of did not pass.
    missing = [line for line in lines if " onnx-fp32 " in line]
    assert len(missing) == 2
    assert all(line.rstrip().endswith("no") for line in missing)
    claims = [line for line in lines if line.startswith("MobileNetV2 ") and ": " in line]
    assert len(claims) == len({claim.property for claim in gather([summarise(results)])[0].verdict.claims})
