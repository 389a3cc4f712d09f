from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pneumo_edge import Classifier
from pneumo_edge.data import tensors
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.data.sources import open_source
from pneumo_edge.errors import ExitCode
from pneumo_edge.scoring import classification, run, scores

_FILES = ("metrics.json", "evaluation.md")


def evaluate(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pneumo_edge", "evaluate", *map(str, words)]
    inherited = {name: value for name, value in os.environ.items() if name != "PNEUMO_EDGE_DATA"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**inherited, **environment})


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("data") / "phantom", seed=0, train_per_class=60, test_per_class=6)


@pytest.fixture
def tiny_folder(tiny_models: Path, tmp_path: Path) -> Path:
    """The tiny models alone in a folder."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("tiny-fp32.tflite", "tiny-int8.tflite", "tiny-fp32.onnx"):
        shutil.copy(tiny_models / name, folder / name)
    return folder


def _edit(path: Path, **fields: Any) -> None:
    """Change fields of the first file in scores.json, those of its model included."""
    document = json.loads(path.read_text())
    first = document["files"][0]
    for name, value in fields.items():
        (first if name in first else first["model"])[name] = value
    path.write_text(json.dumps(document))


@pytest.mark.slow
def test_models_are_scored_and_reported(tiny_folder: Path, phantom: Path, fake_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = evaluate(tiny_folder, fake_model, "--split", "test", "--out", out, PNEUMO_EDGE_DATA=str(phantom))
    assert done.returncode == ExitCode.SOME_UNJUDGED
    assert "error: fake.tflite" in done.stderr
    assert "Traceback" not in done.stderr
    assert "PHANTOM" in done.stdout
    shown = [line.split()[0] for line in done.stdout.splitlines() if re.search(r"\d\.\d{3} \[", line)]
    assert sorted(shown) == ["tiny-fp32.onnx", "tiny-fp32.tflite", "tiny-int8.tflite"]
    assert re.search(
        r"^AUC of one property .*: file size \d.*, brightness \d.*, contrast \d", done.stdout, re.MULTILINE
    )

    found = scores.read(out / "scores.json")
    assert [image.name for image in found.data.images] == [
        sample.name for sample in open_source(phantom).samples if sample.split == "test"
    ]
    assert {image.kind for image in found.data.images if image.label == 1} <= {"bacteria", "virus"}
    assert {image.kind for image in found.data.images if image.label == 0} == {""}
    assert all(image.patient != image.name for image in found.data.images)
    assert {shortcut.measure for shortcut in found.shortcuts} == {"file size", "brightness", "contrast"}
    assert found.shortcuts[0].values == tuple((phantom / image.name).stat().st_size for image in found.data.images)
    assert {(file.model.file, file.model.engine) for file in found.files} == {
        ("tiny-fp32.tflite", "litert"),
        ("tiny-int8.tflite", "litert"),
        ("tiny-fp32.onnx", "onnxruntime"),
    }
    for file in found.files:
        classifier = Classifier(tiny_folder / file.model.file)
        for image, probability in zip(found.data.images, file.probabilities, strict=True):
            assert classifier.predict(phantom / image.name).probabilities["PNEUMONIA"] == probability
    metrics = json.loads((out / "metrics.json").read_text())
    assert len(metrics["models"]) == 3
    assert (out / "roc.png").stat().st_size > 10_000
    assert (out / "reliability.png").stat().st_size > 10_000


@pytest.mark.slow
def test_models_can_be_added_and_those_that_were_scored_are_kept(
    tiny_folder: Path, phantom: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = evaluate(tiny_folder / "tiny-fp32.tflite", "--data", phantom, "--split", "test", "--out", out)
    assert first.returncode == ExitCode.OK, first.stderr
    truth = scores.read(out / "scores.json").files[0]
    marked = [0.125] * len(truth.probabilities)
    _edit(out / "scores.json", probabilities=marked)

    more = evaluate(tiny_folder, "--data", phantom, "--split", "test", "--out", out)
    assert more.returncode == ExitCode.OK, more.stderr
    files = scores.read(out / "scores.json").files
    assert [file.model.file for file in files] == ["tiny-fp32.tflite", "tiny-fp32.onnx", "tiny-int8.tflite"]
    assert list(files[0].probabilities) == marked

    # Another version of the engine may give other probabilities.
    _edit(out / "scores.json", engine_version="0.1")
    again = evaluate(tiny_folder, "--data", phantom, "--split", "test", "--out", out)
    assert again.returncode == ExitCode.OK, again.stderr
    assert truth in scores.read(out / "scores.json").files

    other = evaluate(tiny_folder, "--data", phantom, "--split", "val", "--out", out)
    assert other.returncode == ExitCode.FAILED
    assert "has scores of other images (test of phantom images" in other.stderr
    assert "Give another folder (out / --out)" in other.stderr
    turned = ("--classes", "PNEUMONIA,NORMAL", "--positive", "PNEUMONIA")
    other = evaluate(tiny_folder, "--data", phantom, "--split", "test", *turned, "--out", out)
    assert "has scores of the classes NORMAL, PNEUMONIA (positive: PNEUMONIA); expected scores of" in other.stderr
    assert "the classes PNEUMONIA, NORMAL (positive: PNEUMONIA). Give another folder" in other.stderr


@pytest.mark.slow
def test_an_interrupted_run_goes_on(
    tiny_folder: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, source = tmp_path / "scores.json", open_source(phantom)
    classified: list[str] = []
    classify = classification.classify

    def interrupt_after_one(classifier: Classifier, *rest: Any) -> Any:
        if len(classified) == 1:
            raise KeyboardInterrupt
        classified.append(classifier.path.name)
        return classify(classifier, *rest)

    monkeypatch.setattr(run, "classify", interrupt_after_one)
    with pytest.raises(KeyboardInterrupt):
        run.score([tiny_folder], source, "test", target)
    assert [file.model.file for file in scores.read(target).files] == classified == ["tiny-fp32.onnx"]

    def note(classifier: Classifier, *rest: Any) -> Any:
        classified.append(classifier.path.name)
        return classify(classifier, *rest)

    monkeypatch.setattr(run, "classify", note)
    found = run.score([tiny_folder], source, "test", target)
    assert classified == ["tiny-fp32.onnx", "tiny-fp32.tflite", "tiny-int8.tflite"]
    assert found == scores.read(target)


@pytest.mark.slow
def test_everything_is_computed_again_from_the_scores_alone(tiny_folder: Path, phantom: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    assert evaluate(tiny_folder, "--data", phantom, "--out", out).returncode == ExitCode.OK
    before = [(out / name).read_bytes() for name in _FILES]
    for options in (("--out", again), ()):
        done = evaluate("--scores", out / "scores.json", *options)
        assert done.returncode == ExitCode.OK, done.stderr
    assert [(again / name).read_bytes() for name in _FILES] == before
    assert [(out / name).read_bytes() for name in _FILES] == before
    assert not (again / "scores.json").exists()


@pytest.mark.slow
def test_validation_is_the_split_that_training_draws(tiny_folder: Path, phantom: Path, tmp_path: Path) -> None:
    broken = phantom.parent / "broken"
    shutil.copytree(phantom, broken)
    victim = sorted((broken / "train" / "NORMAL").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:100])
    done = evaluate(tiny_folder / "tiny-int8.tflite", "--data", broken, "--out", tmp_path)
    assert done.returncode == ExitCode.OK, done.stderr
    found = scores.read(tmp_path / "scores.json")
    manifest = tensors.prepare(open_source(broken), tmp_path / "cache", 32, 32).manifest
    expected = {entry.name: entry for entry in manifest.entries if entry.split == "val"}
    assert {image.name for image in found.data.images} == expected.keys()
    for image in found.data.images:
        entry = expected[image.name]
        assert (image.label, image.patient, image.kind) == (entry.label, entry.patient, entry.kind)
    assert found.data.split == "val"


@pytest.mark.slow
def test_an_engine_that_does_not_run_a_file_leaves_it_out(tiny_folder: Path, phantom: Path, tmp_path: Path) -> None:
    done = evaluate(tiny_folder, "--data", phantom, "--engine", "onnxruntime", "--out", tmp_path)
    assert done.returncode == ExitCode.OK, done.stderr
    assert "skipped: tiny-int8.tflite on onnxruntime: it does not run .tflite files" in done.stderr
    assert [file.model.engine for file in scores.read(tmp_path / "scores.json").files] == ["onnxruntime"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give either model files to score, or --scores"),
        (("m.tflite", "--scores", "scores.json"), "give either model files to score, or --scores"),
        (("m.tflite",), "--data"),
        (("m.tflite", "--data", "d", "--split", "train"), "'train' is not one of val, test"),
        (("m.tflite", "--data", "d", "--engine", "abacus"), "'abacus' is not one of litert"),
        (("m.tflite", "--data", "d", "--threads", "0"), "--threads"),
        (("m.tflite", "--data", "d", "--split-shares", "80/10"), "Invalid value for --split-shares"),
    ],
)
def test_wrong_usage_is_told(words: tuple[str, ...], message: str) -> None:
    done = evaluate(*words)
    assert done.returncode == ExitCode.USAGE
    assert message in " ".join(done.stderr.replace("│", " ").split())


def test_data_without_splits_is_told_the_option_that_evaluate_has(fake_model: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("NORMAL", "PNEUMONIA"):
        (data / name).mkdir(parents=True)
        (data / name / "a.png").write_bytes(b"none")
    done = evaluate(fake_model, "--data", data, "--out", tmp_path / "out")
    assert "Give --split-shares 80/10/10, or --split-shares 0/0/100 to take all for testing" in done.stderr
    given = evaluate(fake_model, "--data", data, "--split-shares", "0/0/100", "--out", tmp_path / "out")
    assert "Give --split-shares" not in given.stderr


def test_no_such_file_is_told_and_nothing_is_written(phantom: Path, tmp_path: Path) -> None:
    done = evaluate(tmp_path / "no.tflite", "--data", phantom, "--out", tmp_path / "out")
    assert done.returncode == ExitCode.FAILED
    told = done.stderr.splitlines()
    assert told[0].startswith("error: no.tflite: there is no file ")
    assert told[-1].startswith("error: none of the model files can be scored here")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("{", "is not valid: not valid JSON"),
        ('{"schema_version": 99}', "has schema 99; expected scores of schema 1, as `pneumo-edge evaluate` writes them"),
        ('{"schema_version": 1}', "the field data is missing"),
    ],
)
def test_scores_that_cannot_be_used_are_told_in_one_line(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    if content is not None:
        path.write_text(content)
    done = evaluate("--scores", path)
    assert done.returncode == ExitCode.FAILED
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {path} ")
    assert message in line


@pytest.mark.parametrize(
    ("split", "message"), [("test", "0 test images of NORMAL"), ("val", "leaves")], ids=["test", "val"]
)
def test_a_split_without_images_is_told(
    split: str, message: str, phantom_folder: Path, fake_model: Path, tmp_path: Path
) -> None:
    shutil.rmtree(phantom_folder / "test")
    done = evaluate(fake_model, "--data", phantom_folder, "--split", split, "--out", tmp_path / "out")
    assert done.returncode == ExitCode.FAILED
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
