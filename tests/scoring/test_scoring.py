"""What is computed from scores, and how it is told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pneumo_edge import scoring
from pneumo_edge.errors import ResultsError
from pneumo_edge.evaluation import comparison, metrics, reliability
from pneumo_edge.evaluation.bootstrap import Predictions, bootstrap, bootstrap_difference
from pneumo_edge.evaluation.seeds import over_seeds
from pneumo_edge.evaluation.subgroups import sensitivity_by_kind
from pneumo_edge.scoring import page, scores, summary
from pneumo_edge.scoring.scores import EvaluationScores, FileScores, ImageSet, ScoredImage, ScoredModel, ShortcutValues
from pneumo_edge.scoring.summary import ModelMetrics

_IMAGES = tuple(
    [ScoredImage(f"test/NORMAL/{n}.jpeg", 0, f"IM-{n // 2}", "") for n in range(30)]
    + [ScoredImage(f"test/PNEUMONIA/{n}.jpeg", 1, f"person{n // 3}", "bacteria") for n in range(24)]
    + [ScoredImage(f"test/PNEUMONIA/{n}.jpeg", 1, f"person{n // 3}", "virus") for n in range(24, 45)]
)
_LABELS = np.array([image.label for image in _IMAGES])
_PATIENTS = [image.patient for image in _IMAGES]


def make_file(
    backbone: str, seed: int, *, recipe: str = "best", file_format: str = "int8", noise: int | None = None
) -> FileScores:
    generator = np.random.default_rng([ord(backbone[0]), seed if noise is None else noise])
    logits = generator.normal(3.0 * _LABELS - 1.5, 1.5)
    probabilities = (1 / (1 + np.exp(-logits))).astype(np.float32)
    model = ScoredModel(
        file=f"{backbone}-{file_format}.tflite",
        sha256=hashlib.sha256(repr((backbone, seed, recipe, file_format, noise)).encode()).hexdigest(),
        size_bytes=2_700_000,
        backbone=backbone,
        format=file_format,
        recipe=recipe,
        seed=seed,
        initial_weights="ImageNet",
        trained_on="some images",
        trained_on_real=True,
        threshold=0.4,
        rule="Youden",
        chosen_on="validation",
        temperature=1.25,
        engine="litert",
        engine_version="2.3.0",
    )
    return FileScores(model, tuple(probabilities.tolist()))


def make_scores(*files: FileScores, **data: Any) -> EvaluationScores:
    image_set = ImageSet(
        title="some images",
        real=True,
        licence="none",
        class_names=("NORMAL", "PNEUMONIA"),
        split="test",
        has_patients=True,
        fingerprint="f" * 64,
        left_out={},
        images=_IMAGES,
    )
    sizes = np.random.default_rng(0).normal(9000 - 900 * _LABELS, 800)
    return EvaluationScores(
        replace(image_set, **data), (ShortcutValues("file size", "lower", tuple(sizes.tolist())),), files
    )


@pytest.fixture
def two_backbones_three_seeds() -> EvaluationScores:
    return make_scores(
        *(make_file(backbone, seed) for backbone in ("efficientnetb0", "mobilenetv2") for seed in range(3))
    )


def test_every_number_of_a_model_is_that_of_the_evaluation_room() -> None:
    file = make_file("mobilenetv2", 0)
    (measured,) = summary.compute(make_scores(file)).models
    probabilities = np.array(file.probabilities)
    decisions = probabilities >= 0.4
    resampled = bootstrap(_LABELS, Predictions(probabilities, 0.4), _PATIENTS)
    assert measured.metrics.pop("auc") == metrics.auc_interval(_LABELS, probabilities)
    names = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv", "f1", "brier")
    assert measured.metrics == {name: resampled[name] for name in names}
    assert measured.confusion == metrics.confusion(_LABELS, decisions)
    kinds = [image.kind for image in _IMAGES]
    assert measured.sensitivity_by_kind == sensitivity_by_kind(_LABELS, decisions, kinds)
    assert measured.calibration.ece == reliability.expected_calibration_error(_LABELS, probabilities)
    assert measured.calibration.bins == reliability.reliability(_LABELS, probabilities)
    assert measured.model == file.model


def test_too_few_images_are_named_by_their_split_and_patients_only_where_known() -> None:
    def said(**data: Any) -> str:
        return summary.shortage(summary.compute(make_scores(make_file("mobilenetv2", 0), **data)).data)

    assert said(split="val").startswith("too few validation images: 30 of 15 patients")
    assert said(has_patients=False).startswith("too few test images: 30 in the smaller class, and a claim")
    assert said(external=True).startswith("too few images: 30 of 15 patients")


def test_the_images_and_what_needs_no_model() -> None:
    computed = summary.compute(make_scores(make_file("mobilenetv2", 0), left_out={"test/NORMAL/x.jpeg": "broken"}))
    data = computed.data
    assert (data.images, data.patients, data.left_out) == (75, 30, 1)
    assert (data.classes, data.kinds) == ({"NORMAL": 30, "PNEUMONIA": 45}, {"bacteria": 24, "virus": 21})
    assert (computed.majority.class_name, computed.majority.accuracy) == ("PNEUMONIA", metrics.wilson(45, 75))
    (baseline,) = computed.baselines
    sizes = np.array(make_scores().shortcuts[0].values)
    assert baseline.auc == metrics.auc_interval(_LABELS, -sizes)
    assert baseline.auc.value > 0.5


def test_files_that_differ_in_their_seed_alone_are_summarised(two_backbones_three_seeds: EvaluationScores) -> None:
    computed = summary.compute(two_backbones_three_seeds)
    assert [(group.backbone, group.seeds) for group in computed.over_seeds] == [
        ("efficientnetb0", (0, 1, 2)),
        ("mobilenetv2", (0, 1, 2)),
    ]
    members = [each for each in computed.models if each.model.backbone == "mobilenetv2"]
    spread = computed.over_seeds[1].metrics

    def values(pick: Callable[[ModelMetrics], Any]) -> list[float]:
        return [pick(each) for each in members]

    def accuracy_of(each: ModelMetrics) -> float:
        assert each.confusion
        return each.confusion.accuracy.value

    assert spread["accuracy"] == over_seeds(values(accuracy_of))
    assert spread["ece"] == over_seeds(values(lambda each: each.calibration.ece))
    viral = values(lambda each: each.sensitivity_by_kind["virus"].sensitivity.value)
    assert spread["sensitivity_virus"] == over_seeds(viral)


def test_backbones_are_compared_with_the_same_seed_and_format(two_backbones_three_seeds: EvaluationScores) -> None:
    files = (*two_backbones_three_seeds.files, make_file("mobilenetv2", 0, file_format="fp32"))
    computed = summary.compute(replace(two_backbones_three_seeds, files=files))
    assert [each.seed for each in computed.comparisons] == [0, 1, 2]
    for each in computed.comparisons:
        assert (each.first.backbone, each.second.backbone, each.format) == ("efficientnetb0", "mobilenetv2", "int8")
        first, second = (
            next(np.array(f.probabilities) for f in files if f.model.sha256 == side.sha256)
            for side in (each.first, each.second)
        )
        expected = bootstrap_difference(_LABELS, Predictions(first, 0.4), Predictions(second, 0.4), _PATIENTS)
        assert "ece" not in each.differences
        assert all(expected[name] == difference for name, difference in each.differences.items())
        assert each.delong == comparison.compare_auc(_LABELS, first, second)
        right = [(probabilities >= 0.4) == (_LABELS == 1) for probabilities in (first, second)]
        assert each.mcnemar == comparison.mcnemar(*right)
    (group,) = computed.comparisons_over_seeds
    assert group.seeds == (0, 1, 2)
    differences = [each.differences["accuracy"] for each in computed.comparisons]
    assert group.differences["accuracy"] == over_seeds([each.value for each in differences if each])


def test_two_files_of_one_seed_are_no_sample_of_seeds() -> None:
    files = [make_file("mobilenetv2", seed, noise=number) for number, seed in enumerate((0, 0, 1))]
    computed = summary.compute(make_scores(*files))
    assert computed.over_seeds == ()
    assert computed.notes == (
        "No mean over seeds for mobilenetv2, best, int8, litert: several of its files have the same seed.",
    )
    assert computed.notes[0] in page.render(make_scores(*files), computed)


def test_metrics_do_not_depend_on_the_order_of_scoring(
    two_backbones_three_seeds: EvaluationScores, tmp_path: Path
) -> None:
    turned = replace(two_backbones_three_seeds, files=two_backbones_three_seeds.files[::-1])
    for name, found in (("first", two_backbones_three_seeds), ("again", two_backbones_three_seeds), ("turned", turned)):
        scoring.write(found, tmp_path / name)
    for file in ("metrics.json", "evaluation.md"):
        first, again, other = ((tmp_path / name / file).read_bytes() for name in ("first", "again", "turned"))
        assert first == again == other


def test_a_predictive_value_that_is_not_defined_is_null(tmp_path: Path) -> None:
    file = make_file("mobilenetv2", 0)
    never = replace(file, model=replace(file.model, threshold=1.0))
    found = make_scores(
        never, replace(make_file("efficientnetb0", 0), model=replace(never.model, backbone="b", sha256=""))
    )
    scoring.write(found, tmp_path)
    document = json.loads((tmp_path / "metrics.json").read_text())
    assert document["models"][0]["metrics"]["ppv"] is None
    assert document["models"][0]["metrics"]["npv"]["value"] == 0.4
    assert document["comparisons"][0]["differences"]["ppv"] is None
    assert "not defined" in (tmp_path / "evaluation.md").read_text(encoding="utf-8")


def test_metrics_are_read_as_they_were_written_to_ten_digits(
    two_backbones_three_seeds: EvaluationScores, tmp_path: Path
) -> None:
    computed, paths = scoring.write(two_backbones_three_seeds, tmp_path)
    read_back = summary.read(paths.metrics)
    assert read_back.data == computed.data
    for mine, theirs in zip(read_back.models, computed.models, strict=True):
        assert mine.model == theirs.model
        first, second = mine.metrics["accuracy"], theirs.metrics["accuracy"]
        assert first and second
        assert (first.value, first.low) == pytest.approx((second.value, second.low), rel=1e-9)
    again = tmp_path / "again.json"
    summary.write(again, read_back)
    assert again.read_bytes() == paths.metrics.read_bytes()


def test_the_page_says_what_the_numbers_are(two_backbones_three_seeds: EvaluationScores) -> None:
    text = page.render(two_backbones_three_seeds, summary.compute(two_backbones_three_seeds))
    assert text.startswith("# Evaluation on the test split of some images\n")
    assert "Score the test split once for each final model" in text
    assert "![ROC curves](roc.png)" in text
    assert "| file size alone (lower in PNEUMONIA) |" in text
    assert "| always PNEUMONIA |" in text
    assert str(metrics.wilson(45, 75)) in text
    assert "Sensitivity, bacteria (24) | Sensitivity, virus (21)" in text
    assert "## Over seeds" in text
    assert "McNemar p" in text
    assert "whole patients" in text
    assert "Each row is about two files, each of one training. For the backbones, see the next table." in text
    assert "| Second as accurate |" in text
    # 30 images of a class are few.
    assert "**Too few images to compare accuracies.** Too few test images: 30 of " in text


def test_a_page_on_validation_images_says_that_they_were_chosen_on() -> None:
    found = make_scores(make_file("mobilenetv2", 0), split="val", has_patients=False)
    text = page.render(found, summary.compute(found))
    assert "These are validation images" in text
    assert "**Patients:** not known" in text
    assert "## Over seeds" not in text
    assert "## Comparison of backbones" not in text


def test_answers_the_wrong_way_round_are_warned_of() -> None:
    file = make_file("mobilenetv2", 0)
    exchanged = make_scores(replace(file, probabilities=tuple(1 - each for each in file.probabilities)))
    said = "mobilenetv2-int8.tflite: AUC below 0.5, worse than chance. Check whether the labels of these images, or "
    assert summary.worse_than_chance(summary.compute(exchanged)).startswith(said)
    assert f"**Worse than chance.** {said}" in page.render(exchanged, summary.compute(exchanged))
    assert summary.worse_than_chance(summary.compute(make_scores(file))) == ""


def test_phantoms_and_random_weights_are_warned_of() -> None:
    file = make_file("mobilenetv2", 0)
    untrained = replace(file, model=replace(file.model, initial_weights="random", trained_on_real=False))
    found = make_scores(untrained, real=False, title="phantom images")
    text = page.render(found, summary.compute(found))
    assert "Phantom images, not real X-rays." in text
    assert "1 of 1 files were trained without pretrained weights" in text
    assert "models were trained on some images" in text

    adopted = replace(file.model, format="adopted", trained_on="", measured_on="my phantoms", trained_on_real=False)
    found = make_scores(replace(file, model=adopted))
    text = page.render(found, summary.compute(found))
    assert "thresholds were chosen on my phantoms." in text
    assert "not known; threshold chosen on my phantoms" in text and "trained on some" not in text


def test_figures_are_pictures_for_any_number_of_files(
    two_backbones_three_seeds: EvaluationScores, tmp_path: Path
) -> None:
    for number, count in enumerate((1, 2, 6)):
        found = replace(two_backbones_three_seeds, files=two_backbones_three_seeds.files[:count])
        _, paths = scoring.write(found, tmp_path / str(number))
        for path in (paths.roc, paths.reliability):
            with Image.open(path) as figure:
                assert figure.format == "PNG"
                assert min(figure.size) > 400
                assert len(set(figure.convert("L").resize((64, 64)).tobytes())) > 20


def test_scores_survive_their_file(two_backbones_three_seeds: EvaluationScores, tmp_path: Path) -> None:
    scores.write(tmp_path / "scores.json", two_backbones_three_seeds)
    assert scores.read(tmp_path / "scores.json") == two_backbones_three_seeds


def _without_positives(document: dict[str, Any]) -> None:
    for image in document["data"]["images"]:
        image["label"] = 0


_DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "newer": (lambda d: d.update(schema_version=99), "has schema 99; expected scores of schema 1"),
    "field missing": (lambda d: d["data"].pop("split"), "the field data.split is missing"),
    "other split": (lambda d: d["data"].update(split="all"), "data.split is"),
    "probability missing": (lambda d: d["files"][0]["probabilities"].pop(), "has 74 probabilities for 75 images"),
    "no probability": (lambda d: d["files"][0]["probabilities"].__setitem__(0, 1.5), "not within 0 to 1"),
    "value missing": (lambda d: d["shortcuts"][0]["values"].pop(), "file size has 74 values for 75 images"),
    "file twice": (lambda d: d["files"].append(d["files"][0]), "a file occurs twice on one engine"),
    "image twice": (lambda d: d["data"]["images"].append(d["data"]["images"][0]), "the same name"),
    "one class": (_without_positives, "labels are 75 of NORMAL and 0 of PNEUMONIA"),
    "three classes": (lambda d: d["data"]["class_names"].append("OTHER"), "0 of OTHER"),
    "no files": (lambda d: d["files"].clear(), "has no model files"),
}


@pytest.mark.parametrize("name", _DAMAGE)
def test_scores_that_contradict_themselves_are_refused(name: str, tmp_path: Path) -> None:
    damage, message = _DAMAGE[name]
    path = tmp_path / "scores.json"
    scores.write(path, make_scores(make_file("mobilenetv2", 0)))
    document = json.loads(path.read_text())
    damage(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ResultsError) as error:
        scores.read(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
