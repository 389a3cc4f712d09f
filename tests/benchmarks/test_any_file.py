"""Files of any tool, and no data set: they are timed, and nothing is claimed of their accuracy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pneumo_edge.benchmarks import choice, comparison, report, results, speed, verdict, verdict_file
from pneumo_edge.benchmarks.report import brief
from pneumo_edge.benchmarks.report.runs import gather
from pneumo_edge.benchmarks.results import Results
from pneumo_edge.benchmarks.summary import Summary, summarise
from pneumo_edge.cli import app
from pneumo_edge.errors import ExitCode
from tests.benchmarks.test_command import pneumo_edge
from tests.present import present

MakeResults = Callable[..., Results]


def _only_timed(made: Results) -> Results:
    """The same results without a data set: MobileNetV2's files as they were, the others as of another tool."""

    def is_bare(file: str) -> bool:
        return not file.startswith("mobilenetv2")

    models = tuple(
        replace(model, backbone=model.file, format="tflite", threshold=None, has_spec=False)
        if is_bare(model.file)
        else model
        for model in made.models
    )

    def bare(samples: tuple[results.LatencySamples, ...]) -> tuple[results.LatencySamples, ...]:
        return tuple(replace(each, file_to_verdict=None) for each in samples)

    units = tuple(
        replace(each, probabilities={}, latency=bare(each.latency) if is_bare(each.unit.model) else each.latency)
        for each in made.units
    )
    twins = tuple(
        replace(each, latency=bare(each.latency)) if is_bare(each.unit.model) else each for each in made.twins
    )
    return replace(made, test_set=None, models=models, units=units, twins=twins)


@pytest.fixture
def timed(make_results: MakeResults) -> Summary:
    return summarise(_only_timed(make_results(speeds={"mobilenetv2": 4.0, "efficientnetb0": 8.0})))


def test_no_accuracy_is_claimed_where_none_was_measured(timed: Summary) -> None:
    decided = verdict.decide(timed)
    assert decided.claims == ()
    assert not timed.has_accuracy
    assert not timed.accuracy_counts
    assert timed.shortage == ""
    assert decided.pareto  # over time, size and memory


def test_files_are_ranked_by_speed_with_intervals(timed: Summary) -> None:
    rankings = list(speed.rank(timed))
    assert rankings
    for ranking in rankings:
        for ratio in ranking.slower:
            assert ratio.decided.low <= ratio.decided.value <= ratio.decided.high
            assert ratio.denominator is ranking.fastest
            assert ratio.file_to_verdict is None or ratio.numerator.model.has_spec
            sentence = speed.sentence(ratio)
            assert ratio.numerator.model.file in sentence
            assert f"{ratio.decided.value:.2f}" in sentence
    slowest = max((ratio for ranking in rankings for ratio in ranking.slower), key=lambda each: each.decided.value)
    assert slowest.numerator.model.file.startswith("efficientnetb0")
    assert slowest.decided.value == pytest.approx(2, rel=0.2)


@pytest.mark.parametrize("name", ["report.md", "report.html", "report.csv"])
def test_every_page_is_drawn_of_them(timed: Summary, tmp_path: Path, name: str) -> None:
    if name.endswith("html"):
        pytest.importorskip("matplotlib")
    path = tmp_path / name
    report.write(gather([timed]), path)
    text = path.read_text(encoding="utf-8")
    assert "efficientnetb0-int8.tflite" in text
    assert "nan" not in text.lower().split()
    if name == "report.md":
        assert "Accuracy was not measured" in text
        assert text.index("The shortest time was that of `mobilenetv2-") < text.index("| Inference ms |")
        assert "| AUC |" not in text or "## Verdict" in text
        assert "times as long as" in text


def test_the_terminals_table_has_no_columns_of_what_was_not_measured(timed: Summary) -> None:
    (run,) = gather([timed])
    columns = brief.table((run,)).columns
    assert "AUC" not in columns
    assert "Inference ms" in columns


def test_choose_and_compare_take_them(timed: Summary) -> None:
    chosen = choice.choose(timed, choice.Limits(latency_ms=6.5))
    assert chosen.best
    assert chosen.best.model.file.startswith("mobilenetv2")
    assert any("inference alone takes" in why for _, reasons in chosen.ruled_out for why in reasons)
    picky = choice.choose(timed, choice.Limits(sensitivity=0.9))
    assert picky.best is None
    assert all("was not measured" in reasons[0] for _, reasons in picky.ruled_out)
    compared = comparison.compare(timed, timed, 0.05)
    assert compared.same_images
    assert compared.passes


def test_results_of_them_are_written_and_read(timed: Summary, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results.write(path, timed.results)
    assert results.read(path) == timed.results
    record = verdict_file.of(timed, verdict.decide(timed), path)
    verdict_file.write(tmp_path / "verdict.json", record)
    assert verdict_file.read(tmp_path / "verdict.json") == record


def test_results_that_contradict_themselves_are_refused(make_results: MakeResults) -> None:
    made, timed = make_results(), _only_timed(make_results())
    with pytest.raises(ValueError, match="has end-to-end calls, and its file has no ModelSpec"):
        replace(
            timed,
            units=tuple(replace(unit, latency=of.latency) for unit, of in zip(timed.units, made.units, strict=True)),
        )
    with pytest.raises(ValueError, match="has different images from the test set"):
        replace(make_results(), test_set=None)


def test_a_benchmark_that_measured_nothing_leaves_nothing_to_resume(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    shape = ["batch", 3, "height", "width"]
    image, answer = (onnx.helper.make_tensor_value_info(name, 1, shape) for name in ("image", "answer"))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["image"], ["answer"])], "graph", [image], [answer])
    model, out = tmp_path / "open.onnx", tmp_path / "out"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), str(model))
    out.mkdir()
    # As a run that was killed before its first result leaves it.
    (out / "results.json.partial").write_text("{}\n", encoding="utf-8")
    words = ["benchmark", model, "--engine", "onnxruntime", "--out", out, "--input-shape", "bild=1x3x8x8"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == ExitCode.FAILED
    assert "the file has no input 'bild'" in done.stderr
    assert "Give one, such as --input-shape image=1x3x224x224" in done.stderr
    assert not list(out.iterdir())


@pytest.mark.slow
def test_files_of_any_tool_are_timed_without_data_beside_one_with_a_spec(tiny_models: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    shutil.copy(tiny_models / "tiny-int8.tflite", models)
    shutil.copy(tiny_models / "bare" / "tiny-fp32.tflite", models / "other.tflite")
    shutil.copy(tiny_models / "bare" / "tiny-fp32.onnx", models / "other.onnx")
    (models / "cut.onnx").write_bytes((tiny_models / "tiny-fp32.onnx").read_bytes()[:300])
    out = tmp_path / "out"
    few = ("--processes", "2", "--queries", "8", "--seconds", "0", "--engine", "litert", "--engine", "onnxruntime")
    done = pneumo_edge(models, *few, "--input-shape", "nobody=1x2", "--out", out)
    assert done.returncode == ExitCode.SOME_UNJUDGED, done.stderr
    assert "cut.onnx" in done.stderr
    assert "Traceback" not in done.stderr
    measured = results.read(out / "results.json")
    assert measured.test_set is None
    by_name = {each.unit.model: each for each in measured.units}
    assert set(by_name) == {"tiny-int8.tflite", "other.tflite", "other.onnx"}
    assert by_name["other.onnx"].latency[0].file_to_verdict is None
    assert by_name["tiny-int8.tflite"].latency[0].file_to_verdict
    assert not any(each.probabilities for each in measured.units)
    assert all(sample.peak_bytes > present(sample.baseline_bytes) for each in measured.units for sample in each.memory)
    assert "times as long as" in done.stdout
    assert "none: no data set was given" in (out / "report.md").read_text(encoding="utf-8")
    chosen = CliRunner().invoke(app, ["choose", str(out / "results.json"), "--max-size", "3MB"])
    assert chosen.exit_code == 0, chosen.stderr
    assert "accuracy not measured" in chosen.stdout
    verdict_of = json.loads((out / "verdict.json").read_text())
    assert verdict_of["claims"] == []
