"""The input check from training images to the command line, through the real converters and engines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.decomposition import PCA
from typer.testing import CliRunner

from pneumo_edge import Classifier, runs
from pneumo_edge._util import files
from pneumo_edge.cli import app
from pneumo_edge.converters import features
from pneumo_edge.converters.export import export
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.data.tensors import Dataset
from pneumo_edge.evaluation import drift
from pneumo_edge.evaluation.conformal import COUNTERFACTUAL_COVERAGE, NEAREST
from pneumo_edge.formats import FORMATS
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import COMPONENTS

#: TensorFlow converts the network three times.
pytestmark = pytest.mark.slow

_FORMATS = ("tflite-fp32", "tflite-int8", "onnx-fp32")
_each_format = pytest.mark.parametrize("name", _FORMATS)


@pytest.fixture(scope="module")
def checked(
    tiny_run: Path, tiny_models: Path, phantom: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Model files, by format, of a network whose middle can be tapped."""
    run, out = tmp_path_factory.mktemp("tapped-run"), tmp_path_factory.mktemp("tapped")
    shutil.copy(tiny_models / "tapped.keras", run / runs.MODEL_NAME)
    shutil.copy(tiny_run / runs.MANIFEST_NAME, run)
    # As a recipe with counterfactual validation leaves it; every changed image looks normal.
    first, *rows = (tiny_run / runs.VALIDATION_NAME).read_text().splitlines()
    lines = [f"{first},{runs.COUNTERFACTUAL}all", *(f"{row},0.001" for row in rows)]
    (run / runs.VALIDATION_NAME).write_text("\n".join(lines))
    replace(runs.load(tiny_run), backbone="tapped", model_sha256=files.sha256(run / runs.MODEL_NAME)).save(run)
    outcomes = list(export(run, [FORMATS[name] for name in _FORMATS], out, phantom / "cache"))
    assert not [outcome.missed for outcome in outcomes if outcome.missed]
    return {outcome.row.id: outcome.path for outcome in outcomes}


@pytest.fixture(scope="module")
def familiar(dataset: Dataset) -> list[Image.Image]:
    return [Image.fromarray(dataset.grey[index]) for index in dataset.indices("val")]


@_each_format
def test_familiar_images_pass_and_foreign_ones_are_told(
    checked: dict[str, Path], familiar: list[Image.Image], name: str
) -> None:
    classifier = Classifier(checked[name])
    assert np.mean([bool(classifier.predict(image).out_of_distribution) for image in familiar]) <= 0.1
    halves = Image.new("L", (224, 224), 255)
    halves.paste(0, (0, 0, 112, 224))
    for image in (Image.new("L", (224, 224), 255), halves):
        result = classifier.predict(image)
        assert result.out_of_distribution and result.foreign
        assert result.distance is not None and result.limit is not None
        assert result.distance > result.limit
        assert result.probabilities["PNEUMONIA"] > 0, "the numbers are given all the same"


@_each_format
def test_familiar_images_as_at_full_resolution_pass(
    checked: dict[str, Path], familiar: list[Image.Image], name: str
) -> None:
    classifier, random = Classifier(checked[name]), np.random.default_rng(1)
    restored = [Image.fromarray(features.restore(np.asarray(image), random)) for image in familiar]
    assert np.mean([bool(classifier.predict(image).out_of_distribution) for image in restored]) <= 0.1


@_each_format
def test_files_agree_on_the_distance(checked: dict[str, Path], familiar: list[Image.Image], name: str) -> None:
    first, other = Classifier(checked["tflite-fp32"]), Classifier(checked[name])
    # An int8 file has a mean and a scale of its own.
    bound = 0.5 if name == "tflite-int8" else 0.01
    for image in familiar[:5]:
        assert other.predict(image).distance == pytest.approx(first.predict(image).distance, abs=bound)


@_each_format
def test_the_spec_has_the_calibration(checked: dict[str, Path], name: str) -> None:
    spec = read_spec(checked[name])
    output, check = spec.output(COMPONENTS), spec.input_check
    assert output and check and spec.conformal
    assert output.size == len(check.mean) == len(check.scale) == sum(check.parts)
    # So few patients promise less than many could; the patients of training images count for the check.
    patients = spec.conformal.patients
    assert sum(patients.values()) / (sum(patients.values()) + 1) < check.share < 0.99
    assert " training images" in check.chosen_on
    assert spec.conformal.coverage == min(patients.values()) / (min(patients.values()) + 1) < 0.95
    assert spec.conformal.least_positive is not None and spec.conformal.most_negative is not None
    assert spec.conformal.least_positive > 0 and spec.conformal.most_negative < 1
    assert spec.conformal.nearest == NEAREST
    # Of nine in ten changed images of PNEUMONIA the class is in the set.
    assert spec.conformal.counterfactual_coverage == min(COUNTERFACTUAL_COVERAGE, spec.conformal.coverage)
    assert spec.conformal.least_positive < 0.01


@_each_format
def test_the_spec_has_the_distribution_of_its_own_answers(
    checked: dict[str, Path], familiar: list[Image.Image], name: str
) -> None:
    classifier = Classifier(checked[name])
    described = classifier.spec.validation_distribution
    assert described and described.distance and described.probabilities.keys() == {"PNEUMONIA"}
    assert sum(described.distance.counts) == sum(described.probabilities["PNEUMONIA"].counts) == len(familiar)
    assert 1 < described.independent <= len(familiar)
    answers = [classifier.predict(image) for image in familiar]
    probabilities = np.array([answer.probabilities["PNEUMONIA"] for answer in answers])
    distances = np.array([answer.distance for answer in answers], dtype=np.float64)
    counted = drift.count(described, {"PNEUMONIA": probabilities}, distances)
    assert tuple(counted.probabilities["PNEUMONIA"]) == described.probabilities["PNEUMONIA"].counts
    # The distances in the file are those of images that it has not seen.
    distance, probability = drift.compare(described, {None: counted})
    assert distance.statistic < distance.statistic_by_chance and probability.statistic == 0


def test_predict_says_in_words_that_an_image_is_foreign(
    checked: dict[str, Path], familiar: list[Image.Image], tmp_path: Path
) -> None:
    model = checked["tflite-fp32"]
    near = min(familiar, key=lambda image: Classifier(model).predict(image).distance or 0)
    near.save(tmp_path / "a.png")
    Image.new("L", (224, 224), 255).save(tmp_path / "b.png")
    words = ["predict", str(tmp_path), "--model", str(model)]
    table = CliRunner().invoke(app, words)
    assert table.exit_code == 0
    assert [line.split()[4] == "out-of-distribution" for line in table.stdout.splitlines()] == [False, False, True]
    warning = table.stderr.splitlines()[-1]
    assert warning.startswith("warning: 1 of 2 images are out-of-distribution: unlike the images this model")
    as_json = CliRunner().invoke(app, [*words, "--json"])
    assert [image["foreign"] for image in json.loads(as_json.stdout)["images"]] == [False, True]
    assert as_json.stderr.splitlines()[-1] == warning
    as_csv = CliRunner().invoke(app, [*words, "--csv"])
    assert [line.rsplit(",", 1)[1] for line in as_csv.stdout.splitlines()] == ["foreign", "false", "true"]

    strict = CliRunner().invoke(app, [*words, "--strict", "--jsonl"])
    assert strict.exit_code == 4
    first, second = map(json.loads, strict.stdout.splitlines())
    assert first["label"]
    assert second.keys() == {"source", "error"}
    assert "the image is out-of-distribution" in second["error"]


def test_a_file_without_the_check_is_not_strict(tiny_models: Path, tmp_path: Path) -> None:
    model = tiny_models / "tiny-fp32.tflite"
    Image.new("L", (64, 64)).save(tmp_path / "x.png")
    result = Classifier(model).predict(tmp_path / "x.png")
    assert result.out_of_distribution is result.distance is None
    strict = CliRunner().invoke(app, ["predict", str(tmp_path), "--model", str(model), "--strict"])
    assert strict.exit_code == 3
    assert "has no input check" in strict.stderr
    info = CliRunner().invoke(app, ["info", str(model)])
    assert "not checked: every image gets an answer, with or without a chest; export" in info.stdout


def test_a_check_for_other_components_than_the_file_has_is_refused(checked: dict[str, Path], tmp_path: Path) -> None:
    model = checked["tflite-fp32"]
    spec = read_spec(model)
    assert spec.input_check
    first, *others = spec.input_check.parts
    fewer = replace(
        spec.input_check,
        mean=spec.input_check.mean[1:],
        scale=spec.input_check.scale[1:],
        parts=(first - 1, *others),
    )
    with pytest.raises(ValueError, match="not for the output 'components'"):
        replace(spec, input_check=fewer)
    write_spec(model, tmp_path / "same.tflite", spec)
    assert read_spec(tmp_path / "same.tflite") == spec


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_components_are_those_of_scikit_learn(seed: int, channels: int) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(0, 1, (60, channels)) @ random.normal(0, 1, (channels, channels)) + random.normal(0, 5)
    weights, bias = features.components(values, channels)
    standardized = (values - values.mean(axis=0)) / values.std(axis=0)
    theirs = PCA(whiten=True, svd_solver="full").fit_transform(standardized) * np.sqrt(60 / 59)
    ours = values @ weights + bias
    assert ours.shape == theirs.shape
    # A principal component's sign is anyone's choice.
    assert np.abs(ours) == pytest.approx(np.abs(theirs), abs=1e-5)


@pytest.mark.parametrize("change", [features.restore, features.recompress])
def test_a_changed_image_is_the_same_picture(dataset: Dataset, change: Callable[..., npt.NDArray[np.uint8]]) -> None:
    # Sides that blocks of 8 pixels do not fill.
    image = np.asarray(dataset.grey[0])[:100, :90]
    changed = [change(image, np.random.default_rng(seed)) for seed in range(20)]
    assert all(each.shape == image.shape and each.dtype == np.uint8 for each in changed)
    assert min(np.corrcoef(each.ravel(), image.ravel())[0, 1] for each in changed) > 0.95
    assert len({each.tobytes() for each in changed}) > 15, "at random"


def test_a_restored_image_has_less_noise_than_a_compressed_one_and_its_edges() -> None:
    clean = np.full((64, 64), 80, dtype=np.uint8)
    clean[:, 32:] = 160
    noisy = np.clip(np.rint(clean + np.random.default_rng(0).normal(0, 4, clean.shape)), 0, 255).astype(np.uint8)
    left = features.restore(noisy, np.random.default_rng(1)) - clean.astype(float)
    assert left.std() < (noisy - clean.astype(float)).std() / 1.5
    assert np.abs(left[:, 31:33].mean(axis=0)).max() < 2, "the edge is where it was"
