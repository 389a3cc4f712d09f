from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pneumo_edge._util import markdown
from pneumo_edge.benchmarks import results as raw
from pneumo_edge.benchmarks.choice import Limits, choose
from pneumo_edge.benchmarks.report.compose import compose
from pneumo_edge.benchmarks.report.runs import gather
from pneumo_edge.benchmarks.results import Results, UnitResult
from pneumo_edge.benchmarks.summary import Summary, summarise
from pneumo_edge.cli import app
from pneumo_edge.errors import ExitCode
from tests.present import present

MakeResults = Callable[..., Results]


@pytest.fixture
def results(make_results: MakeResults) -> Results:
    """All files say the same, so that none misses its accuracy target."""
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


def test_a_file_of_unknown_accuracy_comes_after_those_that_were_scored(summary: Summary) -> None:
    """Its time is that of inference alone, which is less than the time from file to answer of any."""
    first, *rows = sorted(summary.rows, key=lambda row: row.inference.median_ms)
    bare = replace(first, accuracy=None, file_to_verdict=None)
    chosen = choose(replace(summary, rows=(bare, *rows)), Limits())
    assert chosen.best is not None
    assert chosen.best.accuracy is not None
    assert chosen.others[-1] is bare
    # Where nothing else fits, it is what there is.
    assert choose(replace(summary, rows=(bare,)), Limits()).best is bare
    assert choose(replace(summary, rows=()), Limits()).best is None


def with_probabilities(results: Results, scores: dict[str, list[float]], images: int) -> Results:
    """Other test images, each of a patient of its own, and the probabilities of each file."""
    labels = {f"test/{index}": index % 2 for index in range(images)}
    test_set = replace(present(results.test_set), labels=labels, patients={name: name for name in labels})
    units = tuple(
        replace(unit, probabilities=dict(zip(labels, scores[unit.unit.model], strict=True))) for unit in results.units
    )
    return replace(results, test_set=test_set, units=units)


@pytest.mark.parametrize(("noise", "slow"), [(0.001, False), (1.5, True)])
def test_a_slower_file_is_taken_only_where_it_is_more_accurate_beyond_doubt(
    results: Results, noise: float, slow: bool
) -> None:
    """EfficientNetB0 is the slower one; MobileNetV2 gets noise of its own, a little or much."""
    generator = np.random.default_rng(3)
    logits = np.array([index % 2 for index in range(600)]) * 3 - 1.5 + generator.normal(0, 1.2, 600)

    def scores(noise: float) -> list[float]:
        return [float(score) for score in 1 / (1 + np.exp(-(logits + noise * generator.normal(0, 1, 600))))]

    # EfficientNetB0 lies a hair higher, which means nothing.
    more = (np.array(scores(0.0)) + 0.004 * (np.arange(600) % 2)).clip(0, 1).tolist()
    own = {f"efficientnetb0-{kind}.tflite": more for kind in ("fp32", "int8")}
    own |= {f"mobilenetv2-{kind}.tflite": same for same in (scores(noise),) for kind in ("fp32", "int8")}
    summary = summarise(with_probabilities(results, own, 600))
    aucs = {row.model.backbone: present(row.accuracy).auc.value for row in summary.rows}
    assert aucs["efficientnetb0"] > aucs["mobilenetv2"]
    chosen = choose(summary, Limits())
    assert chosen.best is not None
    assert (chosen.best.model.backbone == "efficientnetb0") == slow
    assert {row.model.backbone for row in chosen.less_accurate} == ({"mobilenetv2"} if slow else set())
    assert len(chosen.others) == 3


def test_of_one_file_on_two_engines_the_faster_is_taken(results: Results, tmp_path: Path) -> None:
    """Engines round in their own ways, so that the slower one may lie a hair higher."""
    generator = np.random.default_rng(5)
    labels = np.array([index % 2 for index in range(300)])
    scores = np.clip(labels * 0.5 + 0.25 + generator.normal(0, 0.2, 300), 0, 1)
    slow = np.clip(scores + 0.004 * (labels - 0.5) + generator.normal(0, 0.002, 300), 0, 1)
    unit = next(unit for unit in results.units if unit.unit.model == "mobilenetv2-int8.tflite")
    other = next(unit for unit in results.units if unit.unit.model == "efficientnetb0-int8.tflite")
    test_set = replace(
        present(results.test_set),
        labels={f"test/{i}": int(label) for i, label in enumerate(labels)},
        patients={f"test/{i}": str(i) for i in range(300)},
    )
    units = tuple(
        replace(
            each,
            unit=replace(unit.unit, engine=engine),
            probabilities=dict(zip(test_set.labels, answers.tolist(), strict=True)),
        )
        for each, engine, answers in ((unit, "litert", scores), (other, "tflite-runtime", slow))
    )
    models = tuple(model for model in results.models if model.file == unit.unit.model)
    twins = tuple(replace(results.twins[0], unit=each.unit) for each in units)
    both = replace(results, units=units, models=models, test_set=test_set, twins=twins)
    by_engine = {row.result.unit.engine: row for row in summarise(both).rows}
    assert present(by_engine["tflite-runtime"].accuracy).auc.value > present(by_engine["litert"].accuracy).auc.value
    best = choose(summarise(both), Limits()).best
    assert best is not None
    assert best.result.unit.engine == "litert"
    raw.write(tmp_path / "results.json", both)
    output = CliRunner().invoke(app, ["choose", str(tmp_path / "results.json")]).output
    assert output.startswith("mobilenetv2-int8.tflite on litert: AUC ")


def test_each_file_that_fits_is_named_with_its_sensitivity_and_specificity(
    make_results: MakeResults, tmp_path: Path
) -> None:
    results = make_results()
    raw.write(tmp_path / "results.json", results)
    lines = CliRunner().invoke(app, ["choose", str(tmp_path / "results.json")]).output.splitlines()
    rows = {row.result.unit.name: row for row in summarise(results).rows}
    best, *others = (line for line in lines if re.match(r"\S+\.tflite ", line))
    counts = present(rows[best.split(": ")[0]].accuracy).confusion
    assert f"sensitivity {counts.sensitivity}, specificity {counts.specificity}, " in best
    assert re.search(r"sensitivity \d\.\d{3} \[.+\], specificity \d\.\d{3} \[.+\]", best)
    assert len(others) > 1
    for line in others:
        file, engine, *_ = line.split()
        counts = present(rows[f"{file} on {engine}"].accuracy).confusion
        assert f"{counts.sensitivity}  {counts.specificity}" in line


@pytest.mark.parametrize(
    ("operators", "briefly", "why"),
    [
        ((100, 1), "1 of 100 ops", "XNNPACK took 1 of 100 operators"),
        ((None, None), "not recorded", "pneumo-edge supplement"),
    ],
)
def test_a_file_that_is_slower_than_its_float_file_is_warned_of(
    make_results: MakeResults, tmp_path: Path, operators: tuple[int | None, int | None], briefly: str, why: str
) -> None:
    results = make_results(speeds={"mobilenetv2": 4.0})
    slow = make_results(speeds={"mobilenetv2": 32.0})
    same = results.units[0].probabilities
    delegated = {"fp32": (90, 90), "int8": operators}

    def unit(fast: UnitResult, other: UnitResult) -> UnitResult:
        kind = "int8" if "int8" in fast.unit.model else "fp32"
        count, inside = delegated[kind]
        latency = other.latency if kind == "int8" else fast.latency
        return replace(fast, latency=latency, probabilities=same, operators=count, delegated=inside)

    units = tuple(unit(*pair) for pair in zip(results.units, slow.units, strict=True))
    raw.write(tmp_path / "results.json", replace(results, units=units))
    output = CliRunner().invoke(app, ["choose", str(tmp_path / "results.json")]).output
    (line,) = [line for line in output.splitlines() if line.startswith("mobilenetv2-int8.tflite")]
    assert re.search(rf"\d\.\d times fp32's time \({briefly}\)$", line)
    assert "fp32's time" not in next(line for line in output.splitlines() if line.startswith("mobilenetv2-fp32"))
    text = markdown.render(compose(gather([summarise(replace(results, units=units))])))
    assert why in text


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
            (latency is None or present(row.file_to_verdict).p90_ms <= latency)
            and (size is None or row.model.size_bytes <= size)
            and (memory is None or present(row.peak_bytes) <= memory)
            and (sensitivity is None or present(row.accuracy).confusion.sensitivity.value >= sensitivity)
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


def test_a_time_from_too_few_calls_meets_no_limit_of_time(make_results: MakeResults) -> None:
    summary = summarise(make_results(speeds={"mobilenetv2": 4.0}, processes=3))
    ruled_out = choose(summary, Limits(latency_ms=100)).ruled_out
    assert all(any("its time was not measured well enough" in why for why in reasons) for _, reasons in ruled_out)
    assert choose(summary, Limits(size_bytes=1e9)).best is not None


def test_a_file_that_misses_its_accuracy_target_never_fits(results: Results) -> None:
    wrong = dict.fromkeys(present(results.test_set).labels, 0.5)
    units = tuple(
        replace(unit, probabilities=wrong) if unit.unit.model == "mobilenetv2-int8.tflite" else unit
        for unit in results.units
    )
    ((row, reasons),) = choose(summarise(replace(results, units=units)), Limits()).ruled_out
    assert row.model.file == "mobilenetv2-int8.tflite"
    assert "it misses its accuracy target" in reasons[0]


def test_the_command_names_the_file_or_what_rules_each_out(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    raw.write(path, results)

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["choose", str(path), *words])
        return result.exit_code, result.output

    code, output = run("--max-latency", "10ms", "--max-size", "3MB", "--min-sensitivity", "0.1")
    assert code == ExitCode.OK
    assert "warning: too few test images: 20 in the smaller class" in output
    assert "\nmobilenetv2-int8.tflite on litert: AUC " in output
    assert "ruled out: mobilenetv2-fp32.tflite on litert: its size is 8.00 MB, over 3.00 MB" in output

    code, output = run("--max-latency", "0.001s", "--max-size", "1MiB")
    assert code == ExitCode.FAILED
    assert len(re.findall("^ruled out: ", output, re.MULTILINE)) == 4
    assert "error: no file fits" in output


@pytest.mark.parametrize(
    "wrong", [("--max-latency", "10"), ("--max-size", "3 apples"), ("--max-size", "MB"), ("--min-sensitivity", "95")]
)
def test_a_limit_that_is_no_quantity_is_wrong_usage(wrong: tuple[str, str], tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["choose", str(tmp_path / "none.json"), *wrong]).exit_code == ExitCode.USAGE
