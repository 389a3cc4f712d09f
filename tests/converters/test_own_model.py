"""Keras models that were trained elsewhere: from one file to verified model files, or a refusal that tells why."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from typer.testing import CliRunner

import pneumo_edge
from pneumo_edge import Classifier
from pneumo_edge.api.export import _folders
from pneumo_edge.cli import app
from pneumo_edge.converters import isolated, own_model
from pneumo_edge.converters.own_model import OwnModel
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.errors import ArgumentError, ConversionError, GateError
from pneumo_edge.scaling import SCALINGS, Scaling
from pneumo_edge.spec import HEATMAP


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of dark and of bright images, which the tiny network tells apart."""
    folder, random = tmp_path_factory.mktemp("shades"), np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 4)):
        for name, low in (("NORMAL", 20), ("PNEUMONIA", 150)):
            place = folder / split / name
            place.mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(low, low + 80, (8, 8), dtype=np.uint8)
                picture = Image.fromarray(pixels).resize((224, 224), Image.Resampling.NEAREST)
                picture.save(place / f"{name}-{split}-{index}.png")
    return folder


@pytest.fixture(scope="module")
def dataset(shades: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepare(open_source(shades), tmp_path_factory.mktemp("cache"), 224, 224)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(tmp_path_factory.getbasetemp() / "own-cache"))


def _network(right_scaling: Scaling, flipped: bool = False) -> own_model._Ask:
    """Answers by brightness, right with one scaling."""

    def ask(trial: Scaling, pixels: npt.NDArray[np.uint8], temperature: float = 1.0) -> npt.NDArray[np.float32]:
        shift = trial.apply(pixels).mean(axis=(1, 2, 3)) - right_scaling.apply(np.full((1, 1, 3), 128)).mean()
        sure = (shift > 0) != flipped
        return np.asarray(np.stack([~sure, sure], axis=1), dtype=np.float32)

    return ask


def _check(input_range: str | None, ask: own_model._Ask, dataset: Dataset, accept: bool = False) -> list[str]:
    told: list[str] = []
    given = SCALINGS[input_range] if input_range else None
    model = OwnModel(Path("own.keras"), input_range, accept=accept)
    own_model.check_scaling(model, given, dataset, ask, told.append)
    return told


def test_the_right_scaling_passes_and_is_told(dataset: Dataset) -> None:
    (line,) = _check("-1..1", _network(SCALINGS["-1..1"]), dataset)
    assert line.startswith("own.keras: right on 100.0% of 80 images with -1..1; with ")


def test_a_wrong_scaling_is_refused_with_what_another_one_would_give(dataset: Dataset) -> None:
    ask = _network(SCALINGS["-1..1"])
    said = r"with --input-range -1\.\.1 own\.keras would be right 100% of the time, with 0\.\.255, as given, 50%, on 80"
    with pytest.raises(GateError, match=said) as caught:
        _check("0..255", ask, dataset)
    # The network looks at the sign alone, so two other scalings around 0 do as well.
    assert caught.value.remedy == (
        "Give --input-range -1..1 (about as many with imagenet, caffe: look it up), or --accept-input-range to keep "
        "0..255"
    )
    warnings = _check("0..255", ask, dataset, accept=True)
    assert warnings[0].startswith("warning: with --input-range -1..1") and "kept" in warnings[0]
    assert "no more often than an answer that is always" in warnings[1]


def test_without_a_scaling_all_are_measured(dataset: Dataset) -> None:
    with pytest.raises(
        GateError, match=r"needs --input-range.* right on 0\.\.255 50%, .*most images \(100%\) are right with 0\.\.1"
    ):
        _check(None, _network(SCALINGS["0..1"]), dataset)


def _nan(trial: Scaling, pixels: npt.NDArray[np.uint8], temperature: float = 1.0) -> npt.NDArray[np.float32]:
    return np.full((len(pixels), 2), np.nan, dtype=np.float32)


def test_nan_is_refused_where_no_scaling_is_given(dataset: Dataset) -> None:
    with pytest.raises(
        ConversionError, match=r"own\.keras gives a score that is not a finite number for 80 of 80 images"
    ):
        _check(None, _nan, dataset)


def test_a_scaling_that_gives_nan_is_not_right(dataset: Dataset) -> None:
    """The place of NaN would be taken for the largest probability, that of the first class."""

    def ask(trial: Scaling, pixels: npt.NDArray[np.uint8], temperature: float = 1.0) -> npt.NDArray[np.float32]:
        right = _network(SCALINGS["0..1"])(trial, pixels)
        return right if trial == SCALINGS["0..1"] else right * np.float32(np.nan)

    with pytest.raises(GateError, match=r"right on 0\.\.255 0%, .*most images \(100%\) are right with 0\.\.1"):
        _check(None, ask, dataset)


@dataclass
class _NanChild:
    """Stands for the child process, with a network whose weights are NaN."""

    log: Path

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        if function is own_model._describe:
            return own_model._Described((224, 224), "softmax", 2, has_heatmap=True, has_check=True)
        self.log.write_text("TensorFlow says this and that", encoding="utf-8")
        return _nan(*args[3:])


@pytest.mark.parametrize("accept", [(), ("--accept-input-range",)])
def test_a_network_of_nan_is_refused_in_one_line_and_leaves_nothing(
    accept: tuple[str, ...], shades: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated, "child_process", lambda log: contextlib.nullcontext(_NanChild(log)))
    (tmp_path / "nan.keras").write_bytes(b"weights of NaN")
    words = ["export", str(tmp_path / "nan.keras"), "--data", str(shades), "--out", str(tmp_path / "models")]
    done = CliRunner().invoke(app, [*words, "--input-range", "0..1", *accept])
    assert done.exit_code == 3, done.output
    assert "nan.keras gives a score that is not a finite number for 80 of 80 images; expected" in " ".join(
        done.stderr.split()
    )
    assert not (tmp_path / "models").exists()


def test_an_offset_of_the_answers_is_not_taken_for_a_wrong_scaling_alone(dataset: Dataset) -> None:
    right = SCALINGS["0..1"]

    def ask(trial: Scaling, pixels: npt.NDArray[np.uint8], temperature: float = 1.0) -> npt.NDArray[np.float32]:
        # With the right scaling all answers lie above one half, in the right order.
        brightness = trial.apply(pixels).mean(axis=(1, 2, 3))
        sure = 0.6 + 0.2 * brightness if trial == right else np.where(brightness > 128, 1.0, 0.0)
        return np.asarray(np.stack([1 - sure, sure], axis=1), dtype=np.float32)

    with pytest.raises(GateError, match=r"but with 0\.\.1 its answers order the images as well") as caught:
        _check("0..1", ask, dataset)
    assert "If it was 0..1, give --accept-input-range" in caught.value.remedy
    warnings = _check("0..1", ask, dataset, accept=True)
    assert "kept" in warnings[0] and "at a threshold of 0.5" in warnings[1]


def test_classes_in_another_order_are_noticed(dataset: Dataset) -> None:
    said = r"right 0% of the time, and with .* order PNEUMONIA, NORMAL 100%.*--classes PNEUMONIA,NORMAL"
    with pytest.raises(GateError, match=said):
        _check("0..255", _network(SCALINGS["0..255"], flipped=True), dataset)


def test_a_wrong_scaling_and_order_are_noticed_together(dataset: Dataset) -> None:
    # With -1..1 every image gets one answer, so no other order and no other scaling alone is right more often.
    ask = _network(SCALINGS["0..255"], flipped=True)
    said = (
        r"with --input-range 0\.\.255 and its classes in the order PNEUMONIA, NORMAL own\.keras would be right 100% .*"
        r"Give --input-range 0\.\.255 and --classes PNEUMONIA,NORMAL, or "
    )
    with pytest.raises(GateError, match=said):
        _check("-1..1", ask, dataset)
    warnings = _check("-1..1", ask, dataset, accept=True)
    assert warnings[0].endswith("kept, as --accept-input-range says")


def test_the_order_is_found_where_no_scaling_is_given(dataset: Dataset) -> None:
    with pytest.raises(GateError, match=r"\(100%\) are right with 0\.\.255 and --classes PNEUMONIA,NORMAL"):
        _check(None, _network(SCALINGS["0..255"], flipped=True), dataset)


@pytest.mark.parametrize("places", [(1, 2, 0), (2, 0, 1), (0, 2, 1)])
def test_the_order_of_more_classes_is_found(places: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(3), 30)
    random = np.random.default_rng(0)
    # The output that stands for a class is where that class is in `places`.
    answers = np.eye(3, dtype=np.float32)[np.argsort(places)[labels]] + random.uniform(0, 0.4, (90, 3))
    found = own_model._other_order("0..1", answers.astype(np.float32), labels)
    assert found is not None
    assert found.places == places and found.share == 1.0
    assert found.names("abc") == ["abc"[place] for place in places]


def test_an_order_is_found_by_chance_in_at_most_one_of_a_hundred() -> None:
    found = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        labels, answers = random.integers(0, 3, 60), random.uniform(0, 1, (60, 3)).astype(np.float32)
        order = own_model._other_order("0..1", answers, labels)
        first = answers.argmax(axis=1) == labels
        found += order is not None and own_model._choose_trial([[order]], first) is not None
    assert found <= 4


def test_a_known_network_keeps_its_name_to_itself() -> None:
    assert OwnModel(Path("a/mobilenetv2.h5"), "0..1").name == "own-mobilenetv2"
    assert OwnModel(Path("a/My model (1).keras"), "0..1").name == "My-model-1"


def test_options_of_models_are_for_models(shades: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ArgumentError, match="is no Keras model"):
        pneumo_edge.export(tmp_path / "run", input_range="0..1", data=shades)
    with pytest.raises(ArgumentError, match="no data was given"):
        pneumo_edge.export(tmp_path / "own.keras", input_range="0..1")
    wrongs: tuple[dict[str, Any], ...] = ({"input_range": "0-1"}, {"output": "tanh"}, {"image_size": 20})
    for wrong in wrongs:
        with pytest.raises(ArgumentError):
            pneumo_edge.export(tmp_path / "own.keras", data=shades, out=tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_models_of_one_file_name_get_a_folder_each(tmp_path: Path) -> None:
    for name in ("a/own.keras", "b/own.h5", "b/other.keras"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    told: list[str] = []
    first, second, other = paths = [tmp_path / name for name in ("a/own.keras", "b/own.h5", "b/other.keras")]
    found = _folders(paths, Path("models"), told.append)
    assert found == {first: Path("models/a"), second: Path("models/b"), other: Path("models")}
    assert told == ["2 models named own: the files of each are in a folder of its own in models (a, b)"]


def test_models_whose_files_would_replace_each_other_are_refused(shades: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "own.keras", tmp_path / "own.h5"]
    for path in paths:
        path.touch()
    with pytest.raises(ArgumentError, match="2 models named own are in folders of the same name"):
        pneumo_edge.export(paths, input_range="0..1", data=shades, out=tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.mark.slow
def test_a_model_of_one_file_becomes_a_file_that_decides_alike(
    tiny_models: Path, shades: Path, dataset: Dataset, tmp_path: Path
) -> None:
    """The tiny network scales pixels itself."""
    model = tmp_path / "elsewhere.keras"
    model.write_bytes((tiny_models / "tiny.keras").read_bytes())
    told: list[str] = []
    options: dict[str, Any] = {"data": shades, "out": tmp_path / "models", "input_range": "0..255"}
    (made,) = pneumo_edge.export(model, "tflite-fp32", tell=told.append, **options)
    assert made.path.name == "elsewhere-fp32.tflite" and made.spec.backbone == "elsewhere"
    assert f"{model}: right on 100.0% of 80 images with 0..255; with " in " ".join(told)
    assert made.spec.training.initial_weights.startswith("those of elsewhere.keras (sha256 ")
    assert made.spec.output(HEATMAP) and made.spec.conformal
    assert all(found["agreement"] == 1 for found in made.proof.verification.measured.values())
    classifier, indices = Classifier(made.path), dataset.indices("test")
    found = [classifier.predict(Image.fromarray(dataset.grey[index])).label for index in indices]
    assert found == [dataset.manifest.task.class_names[label] for label in dataset.labels(indices)]
    (again,) = pneumo_edge.export(model, "tflite-fp32", tell=told.append, **options)
    assert not again.made, "the same file and options give the same"
    settings = tmp_path / "models" / "elsewhere-run" / "own-model.json"
    of_another = json.loads(settings.read_text(encoding="utf-8")) | {"file_sha256": "0" * 64}
    settings.write_text(json.dumps(of_another), encoding="utf-8")
    told.clear()
    pneumo_edge.export(model, "tflite-fp32", tell=told.append, **options)
    assert "has files of another model named elsewhere (sha256 0000000000000000)" in " ".join(told)
    done = CliRunner().invoke(app, ["verify", str(made.path)])
    assert done.exit_code == 0, done.output


@pytest.mark.slow
def test_a_refusal_leaves_nothing_and_says_why(tiny_models: Path, shades: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "models" / "tiny")
    command = ["export", str(tiny_models / "tiny.keras"), "--data", str(shades), "--out", out]
    for options, said in (
        (("--input-range", "0..1"), "with --input-range 0..255"),
        ((), "needs --input-range"),
        (("--input-range", "0..255", "--image-size", "96"), "--image-size is 96; expected 224 x 224"),
        (("--input-range", "0..255", "--output", "logits"), "gives softmax, and --output is logits"),
    ):
        done = CliRunner().invoke(app, [*command, *options])
        assert done.exit_code == (5 if "image-size" not in " ".join(options) and "--output" not in options else 3)
        assert said in " ".join(done.stderr.split()), done.stderr
        assert not (tmp_path / "models").exists()


def test_a_model_of_as_many_classes_as_there_are_folders_is_told_their_names(tmp_path: Path) -> None:
    """NORMAL and PNEUMONIA alone are read, where nothing else is said."""
    noise = np.random.default_rng(0)
    for name in ("Covid", "Normal", "Viral Pneumonia"):
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        for number in range(12):
            coarse = Image.fromarray(noise.integers(0, 255, (12, 12), dtype=np.uint8))
            coarse.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    dataset = prepare(open_source(tmp_path), tmp_path / "cache", 8, 8)
    assert dataset.manifest.task.class_names == ("NORMAL", "PNEUMONIA")
    found = own_model._Described((8, 8), "softmax", 3, True, True)
    with pytest.raises(ConversionError, match="Give --classes 'Covid,Normal,Viral Pneumonia', in the order of the"):
        own_model._check_fit(OwnModel(Path("own.keras"), "0..1"), found, (8, 8), dataset)


def test_a_run_of_it_is_told_from_one_that_was_trained(tmp_path: Path) -> None:
    settings = own_model._Settings("0" * 64, "0..1", None, None, "1" * 64, ("A", "B"))
    (tmp_path / "own-model.json").write_text(json.dumps({}), encoding="utf-8")
    assert not own_model._is_made(tmp_path, settings)
