"""Scores of more than two classes: their metrics, the page, the figures and the card."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from pneumo_edge import scoring
from pneumo_edge._util import files
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.errors import ResultsError
from pneumo_edge.scoring import cards, scores, summary
from pneumo_edge.scoring.scores import EvaluationScores, FileScores, ImageSet, ScoredImage, ScoredModel
from pneumo_edge.spec import DataSpec, DecisionSpec, ModelSpec, TrainingSpec
from tests import specs

pytest.importorskip("matplotlib", reason="the extra 'report' is not installed")
_NAMES = ("NORMAL", "two words | <b>bold</b>", "x" * 200)
_LABELS = np.arange(90) % 3
_IMAGES = tuple(ScoredImage(f"test/{n}.jpeg", int(label), f"p{n // 2}", "") for n, label in enumerate(_LABELS))
_TITLES = tuple(summary.CLASS_METRIC_TITLES)


def _file(backbone: str, seed: int, sha256: str = "") -> FileScores:
    logits = np.random.default_rng([len(backbone), seed]).normal(2.0 * np.eye(3)[_LABELS], 1.2)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    model = ScoredModel(
        file=f"{backbone}-fp32.tflite",
        sha256=sha256 or hashlib.sha256(repr((backbone, seed)).encode()).hexdigest(),
        size_bytes=9_000_000,
        backbone=backbone,
        format="fp32",
        recipe="quick",
        seed=seed,
        initial_weights="ImageNet",
        trained_on="some images",
        trained_on_real=True,
        threshold=None,
        rule="argmax: the most probable class",
        chosen_on="validation",
        temperature=1.25,
        engine="litert",
        engine_version="2.3.0",
    )
    return FileScores(model, (), tuple(map(tuple, shares.tolist())))


def _scores(*scored: FileScores) -> EvaluationScores:
    data = ImageSet("some images", True, "none", _NAMES, "test", True, "f" * 64, {}, _IMAGES)
    return EvaluationScores(data, (), scored)


@pytest.fixture(scope="module")
def two_backbones() -> EvaluationScores:
    return _scores(*(_file(backbone, seed) for backbone in ("efficientnetb0", "mobilenetv2") for seed in range(2)))


def test_every_number_of_a_class_is_that_of_scikit_learn() -> None:
    file = _file("mobilenetv2", 0)
    (measured,) = summary.compute(_scores(file)).models
    called = file.scores.argmax(axis=1)
    assert measured.confusion is None and measured.matrix and measured.by_class
    assert np.array(measured.matrix.counts).sum() == len(_LABELS)
    for place, name in enumerate(_NAMES):
        of_class = measured.by_class[name]
        values = {title: interval.value for title, interval in of_class.items() if interval}
        assert values["auc"] == pytest.approx(roc_auc_score(place == _LABELS, file.scores[:, place]))
        assert values["sensitivity"] == pytest.approx(recall_score(place == _LABELS, called == place))
        assert values["precision"] == pytest.approx(precision_score(place == _LABELS, called == place))
    for interval in measured.metrics.values():
        assert interval and 0 <= interval.low <= interval.value <= interval.high <= 1


def test_an_evaluation_of_three_classes_is_written_and_read_again(
    two_backbones: EvaluationScores, tmp_path: Path
) -> None:
    scores.write(tmp_path / "scores.json", two_backbones)
    assert scores.read(tmp_path / "scores.json") == two_backbones
    computed, written = scoring.write(two_backbones, tmp_path)
    found = summary.read(written.metrics)
    assert found.data == computed.data and len(found.models) == 4 and len(found.comparisons) == 2
    assert set(found.comparisons[0].differences) == set(_TITLES)
    assert {"auc", "least_auc"} <= set(found.comparisons_over_seeds[0].differences)
    page = written.page.read_text(encoding="utf-8")
    assert "Macro AUC" in page and "Class by class" in page
    assert "<b>" not in page and r"two words \| " in page
    assert written.roc.stat().st_size and written.reliability.stat().st_size


def test_scores_of_another_number_of_classes_are_refused(two_backbones: EvaluationScores, tmp_path: Path) -> None:
    scores.write(tmp_path / "scores.json", two_backbones)
    text = (tmp_path / "scores.json").read_text(encoding="utf-8")
    (tmp_path / "scores.json").write_text(text.replace('"threshold": null', '"threshold": 0.5'), encoding="utf-8")
    with pytest.raises(ResultsError, match="of another task than 3 classes"):
        scores.read(tmp_path / "scores.json")
    with pytest.raises(ValueError, match="has not a probability of each of 3 classes"):
        _scores(replace(_file("mobilenetv2", 0), class_probabilities=((0.5, 0.5),) * len(_IMAGES)))


def test_a_card_of_three_classes_names_each_and_its_metrics(inert_tflite: Path, tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="the extra 'report' is not installed")
    model = tmp_path / "mobilenetv2-fp32.tflite"
    write_spec(inert_tflite, model, _spec())
    evaluation = summary.compute(_scores(_file("mobilenetv2", 0, files.sha256(model))))
    text = cards.render(cards.collect(model, evaluation))
    assert "**Decision:** the most probable class" in text and "Threshold chosen" not in text
    assert f"classified as {_NAMES[2]}" in text and "NORMAL: Sensitivity" in text
    assert "<b>" not in text
    assert "The model has 3 answers" in text


def _spec() -> ModelSpec:
    spec = specs.make_spec("mobilenetv2", "fp32")
    return replace(
        spec,
        class_names=_NAMES,
        decision=DecisionSpec(None, None, "argmax: the most probable class", "validation, 90 images"),
        data=DataSpec("some images", True, "a" * 64, {"train": dict.fromkeys(_NAMES, 30)}, "none"),
        training=TrainingSpec("quick", 0, "ImageNet", 3, {"auc": 0.9, "least_auc": 0.8}),
    )


def test_the_page_of_three_classes_has_the_numbers_of_its_record() -> None:
    repository = Path(__file__).parents[2]
    folder = repository / "results" / "three-classes"
    if not folder.is_dir():
        pytest.skip("the raw results are in the repository, and this pneumo-edge is installed from a wheel")
    page = (repository / "docs" / "three-classes.md").read_text(encoding="utf-8")
    found = summary.read(folder / "metrics.json")
    measured, other = found.models
    assert list(map(str, measured.metrics.values())) == list(map(str, other.metrics.values()))
    assert measured.matrix and measured.by_class
    for name in ("auc", "least_auc", "accuracy", "balanced_accuracy"):
        interval = measured.metrics[name]
        assert interval
        assert f"| {interval.value:.3f} | {interval.low:.3f} to {interval.high:.3f} |" in page
    for (name, of_class), row in zip(measured.by_class.items(), measured.matrix.counts, strict=True):
        cells = [str(of_class[metric]) for metric in ("auc", "sensitivity", "precision", "specificity")]
        assert f"| {name} | {found.data.classes[name]} | {' | '.join(cells)} |" in page
        assert f"| {name} | {' | '.join(map(str, row))} |" in page


def test_the_page_of_three_classes_says_what_offsets_leave_of_the_other_answers() -> None:
    repository = Path(__file__).parents[2]
    record = repository / "results" / "three-classes" / "quantized.json"
    if not record.is_file():
        pytest.skip("the raw results are in the repository, and this pneumo-edge is installed from a wheel")
    page = (repository / "docs" / "three-classes.md").read_text(encoding="utf-8")
    found = json.loads(record.read_text())
    labels, keras = np.array(found["validation"]["labels"]), _logits(found["validation"]["keras"])
    expected = keras.argmax(axis=1)
    grid = np.stack(np.meshgrid([0], np.arange(-1.5, 1.51, 0.05), np.arange(-1.5, 1.51, 0.05)), axis=-1).reshape(-1, 3)
    rows: dict[str, list[int]] = {name: [] for name in ("none", "mean", "largest", "fewest")}
    for name in ("tflite-int8", "tflite-dynamic"):
        logits = _logits(found["validation"]["files"][name])
        shift = (_logits(found["calibration"]["files"][name]) - _logits(found["calibration"]["keras"])).mean(axis=0)
        called = (logits[:, np.newaxis] + grid).argmax(axis=2)
        by_keras = (keras[:, np.newaxis] + grid).argmax(axis=2)
        rows["none"].append(int(np.sum(logits.argmax(axis=1) != expected)))
        rows["mean"].append(int(np.sum((logits - shift).argmax(axis=1) != expected)))
        best, best_by_keras = (each[:, _balanced(labels, each).argmax()] for each in (called, by_keras))
        rows["largest"].append(int(np.sum(best != best_by_keras)))
        rows["fewest"].append(int(np.sum(called != expected[:, np.newaxis], axis=0).min()))
    for start, (one, other) in rows.items():
        assert re.search(rf"^\| {start}[^|]*\| {one} \| {other} \|$", page, re.MULTILINE), (start, one, other)


def _logits(probabilities: list[list[float]]) -> Any:
    logits = np.log(np.maximum(np.array(probabilities), 1e-6))
    return logits - logits.mean(axis=1, keepdims=True)


def _balanced(labels: Any, called: Any) -> Any:
    """Balanced accuracy of each column of answers."""
    # Equal means may differ in the last bit.
    return np.round(np.mean([(called[labels == place] == place).mean(axis=0) for place in range(3)], axis=0), 12)
