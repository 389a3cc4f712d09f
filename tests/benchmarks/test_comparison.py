from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pneumo_edge.benchmarks import comparison
from pneumo_edge.benchmarks import results as raw
from pneumo_edge.benchmarks.results import Results
from pneumo_edge.benchmarks.summary import Summary, summarise
from pneumo_edge.cli import app
from pneumo_edge.errors import ExitCode, ResultsError
from tests.present import present

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
                file_to_verdict=replace(present(row.file_to_verdict), cpu_medians_ms=medians(1.0)),
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
            for each in comparison.compare(
                drawn(summary, generator, noise), drawn(summary, generator, noise), allowed
            ).units
        )
        for _ in range(100)
    ]
    assert sum(alarms) <= 5


def test_a_true_regression_is_found_where_it_is(make_results: MakeResults) -> None:
    summary, generator = summarise(make_results()), np.random.default_rng(2)
    found = [
        [each.regressions for each in comparison.compare(drawn(summary, generator, 0.01), worse, 0.05).units]
        for worse in (drawn(summary, generator, 0.01, slower=1.12) for _ in range(100))
    ]
    assert sum(each == [("inference",), (), (), ()] for each in found) >= 95


def test_what_became_better_is_no_regression(make_results: MakeResults) -> None:
    slow, fast = (summarise(make_results(speeds={"efficientnetb0": ms, "mobilenetv2": 4})) for ms in (9, 6))
    better, worse = comparison.compare(slow, fast, 0.05).units, comparison.compare(fast, slow, 0.05).units
    assert all(each.regressions == () for each in better)
    assert {each.after.model.backbone for each in worse if each.regressions} == {"efficientnetb0"}
    assert better[0].ratios["inference"].value == pytest.approx(6 / 9, rel=0.05)


def test_a_machine_too_noisy_for_its_own_unit_raises_no_alarm(make_results: MakeResults) -> None:
    before, after = (summarise(make_results(speeds={"mobilenetv2": ms})) for ms in (4, 5))
    assert comparison.compare(before, after, 0.05).worse
    (test,) = after.null_tests
    noisy = replace(after, null_tests=(replace(test, inference=replace(present(test.inference), high=1.4)),))
    assert not comparison.compare(before, noisy, 0.05).worse


def test_units_are_those_of_both_runs_and_the_others_are_listed(make_results: MakeResults) -> None:
    both, one = summarise(make_results()), summarise(make_results(speeds={"mobilenetv2": 4}))
    found = comparison.compare(both, one)
    assert [each.after.result.unit for each in found.units] == [row.result.unit for row in one.rows]
    assert {unit.model for unit in found.only_before} == {"efficientnetb0-fp32.tflite", "efficientnetb0-int8.tflite"}
    assert found.only_after == ()
    assert comparison.compare(one, both).only_after == found.only_before
    other = summarise(make_results(speeds={"efficientnetb0": 4}))
    with pytest.raises(ResultsError, match="no unit in common"):
        comparison.compare(one, other)


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Write two results, compare them on the command line, and give exit code and what was printed."""

    def run(before: Results, after: Results, *words: str) -> tuple[int, str]:
        for name, results in (("a.json", before), ("b.json", after)):
            raw.write(tmp_path / name, results)
        result = CliRunner().invoke(app, ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), *words])
        return result.exit_code, result.output

    return run


def with_answers(results: Results, change: Callable[[str, float], float], images: int = 400) -> Results:
    """Other test images, each of a patient of its own; ``change`` makes a probability of a name and a probability."""
    labels = {f"test/{index}": index % 2 for index in range(images)}
    noise = np.random.default_rng(7).normal(0, 0.6, images)
    scores = 1 / (1 + np.exp(-4 * (np.array(list(labels.values())) - 0.5 + noise)))
    test_set = replace(
        present(results.test_set), labels=labels, patients={name: name for name in labels}, fingerprint=f"{images:064}"
    )
    answers = {name: change(name, score) for name, score in zip(labels, scores.tolist(), strict=True)}
    units = tuple(replace(unit, probabilities=answers) for unit in results.units)
    return replace(results, test_set=test_set, units=units)


def same(_: str, score: float) -> float:
    return score


def turned(_: str, score: float) -> float:
    return 1 - score


GATE = ("--fail-on-regression", "5%")


@pytest.mark.parametrize("images", [4, 40, 400])
def test_a_collapse_of_accuracy_does_not_pass(make_results: MakeResults, run: Run, images: int) -> None:
    results = make_results(speeds={"mobilenetv2": 4.0})
    good, bad = with_answers(results, same, images), with_answers(results, turned, images)
    code, output = run(good, bad, *GATE)
    assert code == ExitCode.GATE_MISSED
    assert "worse in AUC, accuracy" in output
    assert run(good, good, *GATE)[0] == ExitCode.OK
    # What became better passes, where the images are enough to tell.
    assert run(bad, good, *GATE)[0] == (ExitCode.OK if images > 4 else ExitCode.GATE_MISSED)
    # Without the check the output is the same, and nothing fails.
    code, output = run(good, bad)
    assert code == ExitCode.OK
    assert "worse in AUC, accuracy" in output


def test_another_file_that_is_hardly_known_does_not_pass(make_results: MakeResults, run: Run) -> None:
    results = make_results(speeds={"mobilenetv2": 4.0})
    trained = replace(results, models=tuple(replace(model, sha256="1" * 64) for model in results.models))
    few = [with_answers(each, change, 20) for each, change in ((results, same), (trained, np_sqrt))]
    code, output = run(*few, *GATE)
    assert code == ExitCode.GATE_MISSED
    assert "cannot tell for AUC" in output
    many = [with_answers(each, change, 600) for each, change in ((results, same), (trained, np_sqrt))]
    assert "cannot tell for AUC" not in run(*many, *GATE)[1]


def np_sqrt(_: str, score: float) -> float:
    """The same order of images by other probabilities."""
    return float(np.sqrt(score))


def test_the_decisions_are_compared_too(make_results: MakeResults, run: Run) -> None:
    """All images are called normal, in the same order as before."""
    results = make_results(speeds={"mobilenetv2": 4.0})
    good = with_answers(results, same)
    code, output = run(good, with_answers(results, lambda _, score: score / 4), *GATE)
    assert code == ExitCode.GATE_MISSED
    assert "worse in accuracy" in output


def test_decisions_of_one_class_are_compared_too(make_results: MakeResults, run: Run) -> None:
    """A threshold moves: as many become right in one class as become wrong in the other."""
    results = make_results(speeds={"mobilenetv2": 4.0})
    good = with_answers(results, same)
    labels, scores, threshold = (
        present(good.test_set).labels,
        good.units[0].probabilities,
        present(good.models[0].threshold),
    )
    assert threshold is not None
    wrong = [name for name, label in labels.items() if label == 0 and scores[name] >= threshold]
    right = [name for name, label in labels.items() if label == 1 and scores[name] >= threshold][: len(wrong)]
    assert len(wrong) == len(right) > 20
    bad = with_answers(results, lambda name, score: threshold / 2 if name in {*wrong, *right} else score)
    code, output = run(good, bad, *GATE)
    assert code == ExitCode.GATE_MISSED
    assert "error: worse in AUC, sensitivity (" in output or "error: worse in sensitivity (" in output


def test_one_decision_of_few_that_turns_over_is_no_regression(make_results: MakeResults, run: Run) -> None:
    results = make_results(speeds={"mobilenetv2": 4.0})
    good = with_answers(results, same, 120)
    threshold = good.models[0].threshold
    assert threshold is not None
    near = min(
        (
            name
            for name, label in present(good.test_set).labels.items()
            if label and good.units[0].probabilities[name] >= threshold
        ),
        key=lambda name: good.units[0].probabilities[name],
    )
    turned_over = with_answers(results, lambda name, score: threshold - 0.005 if name == near else score, 120)
    assert run(good, turned_over, *GATE)[0] == ExitCode.OK


def test_wall_time_that_grew_alone_does_not_pass(make_results: MakeResults) -> None:
    before = summarise(make_results(speeds={"mobilenetv2": 4.0}))
    rows = tuple(
        replace(
            row,
            file_to_verdict=replace(
                present(row.file_to_verdict),
                wall_medians_ms=tuple(10 * ms for ms in present(row.file_to_verdict).wall_medians_ms),
            ),
        )
        for row in before.rows
    )
    found = comparison.compare(before, replace(before, rows=rows), 0.05)
    assert not found.worse and not found.passes
    assert all("wall time is 10.00 times" in each.untold["end to end"] for each in found.units)


def test_noise_hides_no_slower_run(make_results: MakeResults) -> None:
    """An A/A unit that shows more than the share allowed leaves it open whether a unit became slower."""
    before, after = (summarise(make_results(speeds={"mobilenetv2": ms})) for ms in (4, 5))
    (test,) = after.null_tests
    noisy = replace(after, null_tests=(replace(test, inference=replace(present(test.inference), high=1.4)),))
    found = comparison.compare(before, noisy, 0.05)
    assert not found.worse and not found.passes
    assert all("possibly by noise: an A/A unit showed" in each.untold["inference"] for each in found.units)


def test_one_process_never_passes(make_results: MakeResults, run: Run) -> None:
    one, many = (make_results(speeds={"mobilenetv2": 4.0}, processes=count) for count in (1, 10))
    slow = make_results(speeds={"mobilenetv2": 40.0}, processes=1)
    for before, after in ((one, slow), (one, one), (many, one), (one, many)):
        code, output = run(before, after, *GATE)
        assert code == ExitCode.GATE_MISSED
        assert "cannot tell for inference" in output
        assert output.startswith("Cannot tell whether B is worse than A: inference, end to end")
        assert "no interval from one process" in output


def test_two_processes_do_not_pass_ten_times_the_time(make_results: MakeResults, run: Run) -> None:
    before, after = (make_results(speeds={"mobilenetv2": ms}, processes=2) for ms in (4.0, 40.0))
    assert run(before, after, *GATE)[0] == ExitCode.GATE_MISSED
    assert run(before, before, *GATE)[0] == ExitCode.OK


def test_a_unit_that_the_second_run_lacks_does_not_pass(make_results: MakeResults, run: Run) -> None:
    results = make_results()
    fewer = replace(results, units=results.units[1:], models=results.models[1:])
    code, output = run(results, fewer, *GATE)
    assert code == ExitCode.GATE_MISSED
    assert "Only A has: efficientnetb0-fp32.tflite on litert." in output
    assert "B lacks efficientnetb0-fp32.tflite on litert" in output
    code, output = run(fewer, results, *GATE)
    assert code == ExitCode.OK
    assert "Only B has: efficientnetb0-fp32.tflite on litert." in output


def test_of_other_test_images_only_inference_is_compared(make_results: MakeResults, run: Run) -> None:
    results = make_results(speeds={"mobilenetv2": 4.0})
    code, output = run(with_answers(results, same, 400), with_answers(results, same, 402), *GATE)
    assert code == ExitCode.GATE_MISSED
    assert "used different test images. Only the inference time is compared" in output
    assert "cannot tell for end to end, memory, AUC, accuracy" in output


def test_a_run_without_an_aa_unit_is_refused(make_results: MakeResults, run: Run) -> None:
    results = make_results(speeds={"mobilenetv2": 4.0})
    code, output = run(results, replace(results, twins=()), *GATE)
    assert code == ExitCode.FAILED
    assert "is not valid: twins has no A/A unit for litert" in output


def test_several_threads_are_compared_by_wall_time(make_results: MakeResults) -> None:
    def with_threads(ms: float) -> Results:
        results = make_results(speeds={"mobilenetv2": ms})
        units = tuple(replace(unit, unit=replace(unit.unit, threads=2)) for unit in results.units)
        twins = tuple(replace(twin, unit=replace(twin.unit, threads=2)) for twin in results.twins)
        return replace(results, units=units, twins=twins, conditions=())

    def with_cpu(results: Results, times: float) -> Results:
        """CPU time that no one waits for."""
        units = tuple(
            replace(
                unit,
                latency=tuple(
                    replace(
                        each,
                        inference=replace(
                            each.inference, cpu_ns=tuple(int(times * ns) for ns in present(each.inference.cpu_ns))
                        ),
                    )
                    for each in unit.latency
                ),
            )
            for unit in results.units
        )
        return replace(results, units=units)

    before = with_threads(4.0)
    assert not comparison.compare(summarise(before), summarise(with_cpu(before, 1.9)), 0.05).worse
    slower = comparison.compare(summarise(before), summarise(with_cpu(with_threads(6.0), 0.5)), 0.05)
    assert slower.units[0].regressions == ("inference", "end to end")


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
    assert all(each.same_file for each in comparison.compare(summarise(results), summarise(results)).units)
    raw.write(tmp_path / "a.json", results)
    raw.write(tmp_path / "b.json", changed)
    output = CliRunner().invoke(app, ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]).output
    assert "different file" in output


def test_two_files_of_one_network_and_format_are_told_apart(make_results: MakeResults, run: Run) -> None:
    results = make_results()
    # As of two runs of a network, whose files have other names.
    models = tuple(replace(each, backbone="mobilenetv2", format="fp32") for each in results.models)
    _, output = run(replace(results, models=models), replace(results, models=models))
    assert all(f"fp32 {model.file}" in output for model in models)
    _, output = run(results, results)
    assert not any(model.file in output for model in results.models)
