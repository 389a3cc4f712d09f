"""Another population: whether a model may be used there, by what its validation promised."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pneumo_edge.cli import app
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.splits import make_manifest
from pneumo_edge.errors import ArgumentError, ResultsError
from pneumo_edge.evaluation.metrics import Interval, wilson
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.scoring import cards, external, page, run, scores, summary
from pneumo_edge.scoring.external import InDistribution
from pneumo_edge.scoring.scores import EvaluationScores, FileScores, ImageSet, ScoredImage, ScoredModel

_VALIDATION = {"auc": 0.98, "sensitivity": 0.95, "specificity": 0.93}
_KEPT = {name: Interval(0.95, 0.94, 0.97) for name in _VALIDATION}
_LOST = _KEPT | {"specificity": Interval(0.6, 0.5, 0.7)}
_OPEN = _KEPT | {"sensitivity": Interval(0.9, 0.85, 0.95)}
_FEW = "too few images: 9 of 9 patients"


def _inside(metrics: dict[str, Interval], shortage: str = "") -> InDistribution:
    return InDistribution({"NORMAL": 200, "PNEUMONIA": 200}, dict(metrics), shortage)


@pytest.mark.parametrize(
    ("found", "shortage", "inside", "use", "words"),
    [
        (_KEPT, "", None, "yes", "may be used on these images, for research: AUC 0.950 [0.940, 0.970]"),
        (_LOST, "", None, "no", "specificity is 0.600 [0.500, 0.700], on validation 0.930"),
        (_LOST, "", _inside(_LOST), "no", "may not be used on these images"),
        (_LOST, "", _inside(_KEPT), "in distribution", "only on those of these images that its input check"),
        (_LOST, "", _inside(_KEPT, _FEW), "no", "may not be used on these images"),
        (_OPEN, "", None, "unknown", "sensitivity is 0.900 [0.850, 0.950], on validation 0.950, and the interval"),
        (_KEPT, _FEW, None, "unknown", f"cannot be said: {_FEW}"),
        (_LOST, _FEW, None, "no", "may not be used on these images"),
    ],
)
def test_the_rule(
    found: dict[str, Interval], shortage: str, inside: InDistribution | None, use: str, words: str
) -> None:
    decided = external.decide("a.tflite", _VALIDATION, found, shortage, None, inside)
    assert decided.use == use
    assert words in decided.sentence
    assert decided.promised == _VALIDATION


def test_a_file_without_metrics_of_validation_promises_nothing() -> None:
    decided = external.decide("a.tflite", {"auc": 0.98}, _KEPT, "", None, None)
    assert (decided.use, decided.promised) == ("unknown", {"auc": 0.98})
    assert "no metrics of its validation images" in decided.sentence


def test_without_a_positive_class_auc_and_balanced_accuracy_decide() -> None:
    promised = {"auc": 0.98, "balanced_accuracy": 0.9, "accuracy": 0.9}
    found = {"auc": Interval(0.97, 0.96, 0.98), "balanced_accuracy": Interval(0.7, 0.65, 0.75)}
    assert external.decide("a.tflite", promised, found, "", None, None).use == "no"
    found["balanced_accuracy"] = Interval(0.9, 0.87, 0.93)
    assert external.decide("a.tflite", promised, found, "", None, None).use == "yes"


def _scores(unlike_are_wrong: bool = True) -> EvaluationScores:
    """A file that is right on 400 images of its own kind, and answers PNEUMONIA on 100 that are out-of-distribution."""
    labels = [0] * 250 + [1] * 250
    unlike = [row % 5 == 0 for row in range(500)]
    images = tuple(ScoredImage(f"{row}.png", label, f"p{row}", "") for row, label in enumerate(labels))
    probabilities = tuple(
        0.9 if is_unlike and unlike_are_wrong else 0.05 + 0.9 * label
        for label, is_unlike in zip(labels, unlike, strict=True)
    )
    model = ScoredModel(
        file="m-int8.tflite",
        sha256="a" * 64,
        size_bytes=1,
        backbone="mobilenetv2",
        format="int8",
        recipe="best",
        seed=0,
        initial_weights="ImageNet",
        trained_on="some images",
        trained_on_real=True,
        threshold=0.5,
        rule="Youden",
        chosen_on="validation",
        temperature=1.0,
        engine="litert",
        engine_version="2",
        validation=_VALIDATION,
    )
    data = ImageSet(
        "other images", True, "none", ("NORMAL", "PNEUMONIA"), "test", True, "f" * 64, {}, images, external=True
    )
    return EvaluationScores(data, (), (FileScores(model, probabilities, None, tuple(unlike)),))


def test_images_that_are_out_of_distribution_are_told_apart(tmp_path: Path) -> None:
    scored = _scores()
    computed = summary.compute(scored)
    (measured,) = computed.models
    assert measured.external
    assert measured.external.out_of_distribution == wilson(100, 500)
    inside = measured.external.in_distribution
    assert inside
    assert inside.classes == {"NORMAL": 200, "PNEUMONIA": 200}
    assert inside.metrics["specificity"]
    assert inside.metrics["specificity"].value == 1
    assert measured.metrics["specificity"]
    assert measured.metrics["specificity"].value == 0.8
    assert measured.external.use == "in distribution"
    first = page.render(scored, computed).splitlines()[2]
    assert first.startswith("`m-int8.tflite` may be used, for research, only on those of these images")
    assert "Of these images, 20.0% are out-of-distribution" in first
    summary.write(tmp_path / "metrics.json", computed)
    assert summary.read(tmp_path / "metrics.json").models[0].external
    scores.write(tmp_path / "scores.json", scored)
    assert scores.read(tmp_path / "scores.json") == scored


def test_a_file_that_is_right_everywhere_may_be_used() -> None:
    (measured,) = summary.compute(_scores(unlike_are_wrong=False)).models
    assert measured.external
    assert measured.external.use == "yes"


def test_images_of_another_population_make_no_card(tiny_models: Path) -> None:
    with pytest.raises(ResultsError, match="metrics are of another population, other images"):
        cards.collect(tiny_models / "tiny-int8.tflite", summary.compute(_scores()))


def _clinic(folder: Path, exposure: int) -> Path:
    """A hundred dark images and a hundred bright ones, each of a patient, without splits; exposed more, or less."""
    noise = np.random.default_rng(0)
    for class_name, grey in (("NORMAL", 80), ("PNEUMONIA", 170)):
        (folder / class_name).mkdir(parents=True)
        for number in range(100):
            pixels = np.clip(noise.normal(grey + exposure, 12, (32, 32)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / class_name / f"p{number}.png")
    return folder


def _evaluate(model: Path, clinic: Path, out: Path) -> tuple[str, str]:
    """Standard output, and the first sentence of the page."""
    words = ["evaluate", str(model), "--data", str(clinic), "--external", "--out", str(out)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.stdout, (out / "evaluation.md").read_text().splitlines()[2]


def test_a_clinic_like_the_training_data_and_one_that_exposes_more(tiny_models: Path, tmp_path: Path) -> None:
    """The tiny model calls bright images PNEUMONIA."""
    model = tmp_path / "tiny-fp32.tflite"
    spec = read_spec(tiny_models / model.name)
    validation = {"auc": 1.0, "accuracy": 1.0, "sensitivity": 1.0, "specificity": 1.0}
    write_spec(
        tiny_models / "bare" / model.name, model, replace(spec, training=replace(spec.training, validation=validation))
    )
    shown, first = _evaluate(model, _clinic(tmp_path / "alike", 0), tmp_path / "alike-out")
    assert first.startswith("`tiny-fp32.tflite` may be used on these images, for research")
    assert "tiny-fp32.tflite may be used on these images" in shown
    found = scores.read(tmp_path / "alike-out" / "scores.json")
    assert (found.data.external, len(found.data.images)) == (True, 200)
    shown, first = _evaluate(model, _clinic(tmp_path / "bright", 70), tmp_path / "bright-out")
    assert re.match(r"`tiny-fp32.tflite` may not be used on these images: specificity is 0\.\d+ \[", first)
    assert "may not be used on these images" in shown


def test_the_data_a_model_was_trained_on_are_no_other_population(tiny_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "xrays"
    for split in ("train", "test"):
        _clinic(folder / split, 0 if split == "train" else 5)
    source = open_source(folder)
    digests = {sample.name: hashlib.sha256(source.read(sample)).hexdigest() for sample in source.samples}
    model, spec = tmp_path / "tiny-fp32.tflite", read_spec(tiny_models / "tiny-fp32.tflite")
    data = replace(spec.data, fingerprint=make_manifest(source, digests, {}).fingerprint)
    write_spec(tiny_models / "bare" / model.name, model, replace(spec, data=data))
    with pytest.raises(ArgumentError, match="a model was trained on folder xrays"):
        run.score([model], source, "test", tmp_path / "scores.json", external=True)
