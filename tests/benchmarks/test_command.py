from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pneumo_edge import Classifier, bundled
from pneumo_edge.benchmarks import results
from pneumo_edge.errors import ExitCode
from tests.present import present

#: Six calls of each kind in each of two processes.
_FEW = ("--queries", "12", "--seconds", "0")


def pneumo_edge(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pneumo_edge", "benchmark", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.mark.slow
def test_a_folder_of_models_becomes_results_and_reports(
    two_backbones: Path, phantom_folder: Path, fake_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "reports"
    options = ("--engine", "litert", "--processes", "2", *_FEW, "--out", str(out))
    run = pneumo_edge(two_backbones, fake_model, *options, PNEUMO_EDGE_DATA=str(phantom_folder))

    # The file without a graph failed, and everything else was done.
    assert run.returncode == ExitCode.SOME_UNJUDGED, run.stderr
    assert "error: fake.tflite on litert: litert cannot load" in run.stderr
    assert "Traceback" not in run.stderr
    assert "Phantom images, not real X-rays" in run.stdout
    assert run.stdout.strip().endswith(str(out / "report.html"))
    assert max(map(len, run.stdout.splitlines())) <= 250
    (row,) = [line for line in run.stdout.splitlines() if line.startswith("MobileNetV2  ")]
    assert " fp32 " in row
    assert " litert " in row

    measured = results.read(out / "results.json")
    assert [result.unit.model for result in measured.units] == ["efficientnetb0-fp32.tflite", "mobilenetv2-fp32.tflite"]
    assert list(present(measured.test_set).left_out) == ["test/NORMAL/broken.png"]
    for result in measured.units:
        assert len(result.latency) == 2
        assert all(sample.peak_bytes > present(sample.baseline_bytes) for sample in result.memory)
        classifier = Classifier(two_backbones / result.unit.model, engine="litert")
        for name, probability in result.probabilities.items():
            assert classifier.predict(phantom_folder / name).probabilities["PNEUMONIA"] == probability
        # The delegated operators are recorded, so that the report can explain a slow file.
        assert result.delegate == "XNNPACK"
        assert result.operators
        assert result.delegated
        assert 0 < result.delegated <= result.operators
        for process in result.latency:
            assert process.inference.rounds == tuple(range(6))
            assert process.load_ns > 0 < process.first_inference_ns
            stages = present(process.file_to_verdict).stages_ms
            totals = [sum(stage) for stage in zip(*stages.values(), strict=True)]
            assert all(
                0 < total <= wall / 1e6
                for total, wall in zip(totals, present(process.file_to_verdict).wall_ns, strict=True)
            )
    report = (out / "report.md").read_text(encoding="utf-8")
    assert "| MobileNetV2 | fp32 | litert |" in report
    # Two processes and a few calls settle nothing, and the command says so.
    assert "\nMobileNetV2 is faster: not separable (" in run.stdout
    assert report.index("was not timed enough") < report.index("## Accuracy, latency and size")
    assert report.index("## Accuracy, latency and size") < report.index("## Verdict")
    assert "2 of at least 10 processes" in report
    assert "fake.tflite on litert" in report


@pytest.mark.slow
def test_more_threads_and_every_engine(two_backbones: Path, phantom_folder: Path, tmp_path: Path) -> None:
    model = two_backbones / "mobilenetv2-fp32.tflite"
    run = pneumo_edge(
        *(
            model,
            "--data",
            phantom_folder,
            "--threads",
            "1",
            "--threads",
            "2",
            "--processes",
            "1",
            *_FEW,
            "--out",
            tmp_path,
        )
    )
    assert run.returncode == ExitCode.OK, run.stderr
    measured = results.read(tmp_path / "results.json")
    engines = {result.unit.engine for result in measured.units} | {skip.engine for skip in measured.skipped}
    assert engines == {"litert", "tflite-runtime"}
    assert {result.unit.threads for result in measured.units} == {1, 2}
    # A unit against itself for each engine and number of threads.
    groups = {(result.unit.engine, result.unit.threads) for result in measured.units}
    assert {(twin.unit.engine, twin.unit.threads) for twin in measured.twins} == groups
    assert {(each.engine, each.threads) for each in measured.conditions} == groups


@pytest.mark.slow
def test_a_device_measures_without_any_library_that_draws(
    two_backbones: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    for name in ("jinja2", "matplotlib", "tensorflow", "pandas", "scipy"):
        stand_in = tmp_path / "stand-in" / name
        stand_in.mkdir(parents=True)
        (stand_in / "__init__.py").write_text("raise AssertionError('not on a device')\n")
    (tmp_path / "stand-in" / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "hidden = ('jinja2', 'matplotlib')\n"
        "util.find_spec = lambda name, package=None: None if name in hidden else find(name, package)\n"
    )
    out = tmp_path / "reports"
    run = pneumo_edge(
        *(two_backbones, "--data", phantom_folder, "--engine", "litert", "--processes", "1", *_FEW, "--out", out),
        PYTHONPATH=os.pathsep.join([str(tmp_path / "stand-in"), *filter(None, [os.environ.get("PYTHONPATH")])]),
    )
    assert run.returncode == ExitCode.OK, run.stderr
    assert sorted(path.name for path in out.iterdir()) == ["report.md", "results.json", "verdict.json"]
    assert "draw it elsewhere with `pneumo-edge report`" in run.stdout


def test_an_unknown_engine_is_wrong_usage(fake_model: Path, phantom_folder: Path) -> None:
    run = pneumo_edge(fake_model, "--data", phantom_folder, "--engine", "abacus")
    assert run.returncode == ExitCode.USAGE
    assert "litert" in run.stderr


def test_nothing_to_measure_names_every_file_and_leaves_no_report(phantom_folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no model")
    run = pneumo_edge(text, tmp_path / "none.tflite", "--data", phantom_folder, "--out", tmp_path / "reports")
    assert run.returncode == ExitCode.FAILED
    assert "error: notes.txt:" in run.stderr
    assert "error: none.tflite:" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "reports").exists()


def test_an_engine_that_does_not_run_the_file_is_told(fake_model: Path, phantom_folder: Path, tmp_path: Path) -> None:
    run = pneumo_edge(fake_model, "--data", phantom_folder, "--engine", "onnxruntime", "--out", tmp_path)
    assert run.returncode == ExitCode.FAILED
    assert "skipped: fake.tflite: none of the chosen engines runs .tflite files" in run.stderr


def test_a_bundled_model_goes_by_its_name(phantom_folder: Path, tmp_path: Path) -> None:
    # On an engine that cannot run it, so that nothing has to be measured.
    run = pneumo_edge(bundled.DEFAULT, "--data", phantom_folder, "--engine", "onnxruntime", "--out", tmp_path)
    file = bundled.path(bundled.DEFAULT).name
    assert f"skipped: {file}: none of the chosen engines runs .tflite files" in run.stderr


def test_an_engine_that_is_not_installed_is_told_with_the_extra_that_brings_it(
    fake_model: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    stand_in = tmp_path / "stand-in" / "tflite_runtime"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").write_text("raise ImportError('not here')\n")
    run = pneumo_edge(
        *(fake_model, "--data", phantom_folder, "--engine", "tflite-runtime", "--out", tmp_path),
        PYTHONPATH=str(stand_in.parent),
    )
    assert run.returncode == ExitCode.FAILED
    assert "skipped: fake.tflite on tflite-runtime:" in run.stderr
    assert 'pip install "pneumo-edge[tflite]"' in run.stderr


def test_a_folder_without_models_is_told(phantom_folder: Path, tmp_path: Path) -> None:
    run = pneumo_edge(phantom_folder, "--data", phantom_folder, "--out", tmp_path)
    assert run.returncode == ExitCode.FAILED
    assert "has no model file" in run.stderr
