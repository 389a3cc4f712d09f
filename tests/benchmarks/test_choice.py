from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks import results as raw
from benchmarks.choice import Limits, choose
from benchmarks.results import Results
from benchmarks.summary import Summary, summarise
from pneumo_edge.cli import app
from pneumo_edge.errors import ExitCode

MakeResults = Callable[..., Results]


@pytest.fixture
def results(make_results: MakeResults) -> Results:
    """All files say the same, so that none misses its accuracy gate."""
    found = make_results(speeds={"efficientnetb0": 9.0, "mobilenetv2": 4.0})
    same = found.units[0].probabilities
    return replace(found, units=tuple(replace(unit, probabilities=same) for unit in found.units))


@pytest.fixture
def summary(results: Results) -> Summary:
    return summarise(results)


def test_without_limits_the_most_accurate_and_then_the_fastest_fits(summary: Summary) -> None:
    chosen = choose(summary, Limits())
    assert chosen.best is not None
    assert chosen.best.model.backbone == "mobilenetv2"
    assert len(chosen.others) == 3
    assert chosen.ruled_out == ()
    better = replace(summary.rows[0].accuracy, auc=replace(summary.rows[0].accuracy.auc, value=0.99))
    best = choose(replace(summary, rows=(replace(summary.rows[0], accuracy=better), *summary.rows[1:])), Limits()).best
    assert best is not None
    assert best.model.file == "efficientnetb0-fp32.tflite"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    latency=st.floats(1, 20) | st.none(),
    size=st.sampled_from([1e6, 3e6, 9e6, None]),
    memory=st.sampled_from([1e6, 2e7, None]),
    sensitivity=st.floats(0, 1) | st.none(),
)
def test_what_fits_keeps_every_limit_and_what_does_not_breaks_one(
    summary: Summary, latency: float | None, size: float | None, memory: float | None, sensitivity: float | None
) -> None:
    chosen = choose(summary, Limits(latency, size, memory, sensitivity))
    fits = [row for row in (chosen.best, *chosen.others) if row]
    for row in summary.rows:
        kept = (
            (latency is None or row.file_to_verdict.p90_ms <= latency)
            and (size is None or row.model.size_bytes <= size)
            and (memory is None or row.peak_bytes <= memory)
            and (sensitivity is None or row.accuracy.confusion.sensitivity.value >= sensitivity)
        )
        assert (row in fits) == kept
    assert len(fits) + len(chosen.ruled_out) == len(summary.rows)


def test_each_limit_that_rules_a_file_out_is_named(summary: Summary) -> None:
    chosen = choose(summary, Limits(latency_ms=1, size_bytes=1e6, memory_bytes=1e6, sensitivity=1, specificity=1))
    assert chosen.best is None
    for _, reasons in chosen.ruled_out:
        text = "; ".join(reasons)
        for limit in ("over 1 ms", "over 1.00 MB", "peak memory", "sensitivity is", "specificity is"):
            assert limit in text


def test_a_time_from_too_few_calls_keeps_no_limit_of_time(make_results: MakeResults) -> None:
    summary = summarise(make_results(speeds={"mobilenetv2": 4.0}, processes=3))
    ruled_out = choose(summary, Limits(latency_ms=100)).ruled_out
    assert all(any("its time is not known well enough" in why for why in reasons) for _, reasons in ruled_out)
    assert choose(summary, Limits(size_bytes=1e9)).best is not None


def test_a_file_that_misses_its_accuracy_gate_never_fits(results: Results) -> None:
    wrong = dict.fromkeys(results.test_set.labels, 0.5)
    units = tuple(
        replace(unit, probabilities=wrong) if unit.unit.model == "mobilenetv2-int8.tflite" else unit
        for unit in results.units
    )
    ((row, reasons),) = choose(summarise(replace(results, units=units)), Limits()).ruled_out
    assert row.model.file == "mobilenetv2-int8.tflite"
    assert "it misses its accuracy gate" in reasons[0]


def test_the_command_names_the_file_or_what_rules_each_out(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    raw.write(path, results)

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["choose", str(path), *words])
        return result.exit_code, result.output

    code, output = run("--max-latency", "10ms", "--max-size", "3MB", "--min-sensitivity", "0.1")
    assert code == ExitCode.OK
    assert output.startswith("mobilenetv2-int8.tflite on litert: AUC ")
    assert "ruled out: mobilenetv2-fp32.tflite on litert: the file has 8.00 MB, over 3.00 MB" in output

    code, output = run("--max-latency", "0.001s", "--max-size", "1MiB")
    assert code == ExitCode.FAILED
    assert len(re.findall("^ruled out: ", output, re.MULTILINE)) == 4
    assert "error: no file fits" in output


@pytest.mark.parametrize(
    "wrong", [("--max-latency", "10"), ("--max-size", "3 apples"), ("--max-size", "MB"), ("--min-sensitivity", "95")]
)
def test_a_limit_that_is_no_quantity_is_wrong_usage(wrong: tuple[str, str], tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["choose", str(tmp_path / "none.json"), *wrong]).exit_code == ExitCode.USAGE
