from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import comparison
from benchmarks import results as raw
from benchmarks.results import Results
from benchmarks.summary import Summary, summarise
from pneumo_edge.cli import app
from pneumo_edge.errors import ExitCode, ResultsError

MakeResults = Callable[..., Results]


def drawn(summary: Summary, generator: np.random.Generator, noise: float, slower: float = 1.0) -> Summary:
    """A run of the same units with other processes; ``slower`` multiplies the time of the first unit."""

    def medians(factor: float) -> tuple[float, ...]:
        return tuple((5 * factor * np.exp(noise * generator.standard_t(6, 10))).tolist())

    return replace(
        summary,
        rows=tuple(
            replace(
                row,
                inference=replace(row.inference, cpu_medians_ms=medians(1.0 if index else slower)),
                file_to_verdict=replace(row.file_to_verdict, cpu_medians_ms=medians(1.0)),
                memory_bytes=tuple((1e7 * np.exp(noise * generator.normal(0, 1, 3))).astype(int).tolist()),
            )
            for index, row in enumerate(summary.rows)
        ),
    )


@pytest.mark.parametrize("noise", [0.005, 0.02, 0.08])
@pytest.mark.parametrize("allowed", [0.0, 0.05])
def test_two_runs_that_are_alike_raise_hardly_any_alarm(
    make_results: MakeResults, noise: float, allowed: float
) -> None:
    summary, generator = summarise(make_results()), np.random.default_rng(1)
    alarms = [
        any(
            each.regressions
            for each in comparison.compare(drawn(summary, generator, noise), drawn(summary, generator, noise), allowed)
        )
        for _ in range(100)
    ]
    assert sum(alarms) <= 5


def test_a_true_regression_is_found_where_it_is(make_results: MakeResults) -> None:
    summary, generator = summarise(make_results()), np.random.default_rng(2)
    found = [
        [each.regressions for each in comparison.compare(drawn(summary, generator, 0.01), worse, 0.05)]
        for worse in (drawn(summary, generator, 0.01, slower=1.12) for _ in range(100))
    ]
    assert sum(each == [("inference",), (), (), ()] for each in found) >= 95


def test_what_became_better_is_no_regression(make_results: MakeResults) -> None:
    slow, fast = (summarise(make_results(speeds={"efficientnetb0": ms, "mobilenetv2": 4})) for ms in (9, 6))
    better, worse = comparison.compare(slow, fast, 0.05), comparison.compare(fast, slow, 0.05)
    assert all(each.regressions == () for each in better)
    assert {each.after.model.backbone for each in worse if each.regressions} == {"efficientnetb0"}
    assert better[0].ratios["inference"].value == pytest.approx(6 / 9, rel=0.05)


def test_a_machine_too_noisy_for_its_own_unit_raises_no_alarm(make_results: MakeResults) -> None:
    before, after = (summarise(make_results(speeds={"mobilenetv2": ms})) for ms in (4, 5))
    assert any(each.regressions for each in comparison.compare(before, after, 0.05))
    (test,) = after.null_tests
    noisy = replace(after, null_tests=(replace(test, inference=replace(test.inference, high=1.4)),))
    assert not any(each.regressions for each in comparison.compare(before, noisy, 0.05))


def test_units_are_those_of_both_runs(make_results: MakeResults) -> None:
    both, one = summarise(make_results()), summarise(make_results(speeds={"mobilenetv2": 4}))
    assert [each.after.result.unit for each in comparison.compare(both, one)] == [row.result.unit for row in one.rows]
    other = summarise(make_results(speeds={"efficientnetb0": 4}))
    with pytest.raises(ResultsError, match="no unit in common"):
        comparison.compare(one, other)


def test_the_command_ends_with_its_code_on_a_regression(make_results: MakeResults, tmp_path: Path) -> None:
    for name, ms in (("a.json", 4.0), ("b.json", 5.0)):
        raw.write(tmp_path / name, make_results(speeds={"mobilenetv2": ms}))

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["compare", *(str(tmp_path / w) if w.endswith("json") else w for w in words)])
        return result.exit_code, result.output

    assert run("a.json", "b.json")[0] == ExitCode.OK
    code, output = run("a.json", "b.json", "--fail-on-regression", "5%")
    assert code == ExitCode.GATE_MISSED
    assert "worse in inference" in output
    assert run("a.json", "b.json", "--fail-on-regression", "60%")[0] == ExitCode.OK
    assert run("b.json", "a.json", "--fail-on-regression", "5%")[0] == ExitCode.OK
    assert run("a.json", "b.json", "--fail-on-regression", "five")[0] == ExitCode.USAGE
    assert run("a.json", "none.json")[0] == ExitCode.FAILED


def test_another_file_of_the_same_name_is_told(make_results: MakeResults, tmp_path: Path) -> None:
    results = make_results()
    changed = replace(results, models=tuple(replace(model, sha256="1" * 64) for model in results.models))
    assert all(each.same_file for each in comparison.compare(summarise(results), summarise(results)))
    raw.write(tmp_path / "a.json", results)
    raw.write(tmp_path / "b.json", changed)
    output = CliRunner().invoke(app, ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]).output
    assert "another file" in output
