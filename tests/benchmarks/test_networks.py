"""The verdict over networks: all trainings of each, every pair, corrected for the number of claims."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats import multitest

import pneumo_edge
from pneumo_edge._util import markdown
from pneumo_edge._util.document import Figure, Report
from pneumo_edge.benchmarks import networks, verdict_file
from pneumo_edge.benchmarks import results as results_file
from pneumo_edge.benchmarks.networks import NetworkVerdict
from pneumo_edge.benchmarks.report.compose import compose
from pneumo_edge.benchmarks.report.figures import draw_networks
from pneumo_edge.benchmarks.report.runs import gather
from pneumo_edge.benchmarks.results import Results, Retrained
from pneumo_edge.benchmarks.summary import summarise
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.errors import ResultsError
from pneumo_edge.evaluation.bootstrap import Predictions, bootstrap_difference
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.scoring import scores as scores_file
from pneumo_edge.scoring.scores import EvaluationScores, FileScores, ImageSet, ScoredImage, ScoredModel
from tests.present import present

MakeResults = Callable[..., Results]

_SPEEDS = {"efficientnetb0": 8.0, "efficientnetlite0": 6.0, "mobilenetv2": 4.0}
_IMAGES = 400


def _measured(make_results: MakeResults, speeds: Mapping[str, float] = _SPEEDS) -> Results:
    """A benchmark of one training of each network, with sizes that go with their times."""
    results = make_results(speeds=dict(speeds))
    labels = {f"test/{number}": number % 2 for number in range(_IMAGES)}
    test_set = replace(present(results.test_set), labels=labels, patients={name: name for name in labels})
    units = tuple(
        replace(unit, probabilities=dict.fromkeys(labels, 0.4) | {name: 0.6 for name in labels if labels[name]})
        for unit in results.units
    )
    models = tuple(
        replace(model, size_bytes=int(model.size_bytes * speeds[model.backbone])) for model in results.models
    )
    return replace(results, test_set=test_set, units=units, models=models)


def _probabilities(noise: float, seed: int) -> tuple[float, ...]:
    """All trainings see the same; each has noise of its own."""
    common = np.arange(_IMAGES) % 2 + np.random.default_rng(0).normal(0, 0.3, _IMAGES)
    own = common + noise * np.random.default_rng(seed).normal(0, 1, _IMAGES)
    return tuple((1 / (1 + np.exp(0.5 - own))).tolist())


def _scores(results: Results, noise: Mapping[str, float], trainings: int = 5) -> EvaluationScores:
    """Scores of several trainings of each network, in fp32 and int8."""
    test_set = present(results.test_set)
    images = tuple(ScoredImage(name, label, name, "") for name, label in test_set.labels.items())
    files = [
        FileScores(
            ScoredModel(
                file=f"{seed}/{backbone}-{file_format}.tflite",
                sha256=f"{backbone}{file_format}{seed}",
                size_bytes=1,
                backbone=backbone,
                format=file_format,
                recipe="quick",
                seed=seed,
                initial_weights="ImageNet",
                trained_on="some images",
                trained_on_real=True,
                threshold=0.5,
                rule="youden",
                chosen_on="validation",
                temperature=1.0,
                engine="litert",
                engine_version="2.3.0",
            ),
            _probabilities(of_network, 100 * place + seed),
        )
        for place, (backbone, of_network) in enumerate(noise.items(), 1)
        for file_format in ("fp32", "int8")
        for seed in range(trainings)
    ]
    data = ImageSet(
        test_set.title, True, "none", test_set.class_names, "test", False, test_set.fingerprint, {}, images,
        test_set.positive_class,
    )  # fmt: skip
    return EvaluationScores(data, (), tuple(files))


def _decide(results: Results, scores: EvaluationScores) -> NetworkVerdict:
    return networks.decide(summarise(results), scores)


@pytest.fixture(scope="module")
def results(make_results: MakeResults) -> Results:
    return _measured(make_results)


_ALIKE = dict.fromkeys(_SPEEDS, 0.15)


def _caption(report: Report) -> str:
    """The caption of the picture that the page begins with."""
    picture = report.top[0]
    assert isinstance(picture, Figure)
    return picture.caption


def test_each_claim_of_each_pair_is_decided(results: Results) -> None:
    decided = _decide(results, _scores(results, _ALIKE))
    pairs = {(claim.subject.backbone, claim.other.backbone) for claim in decided.claims if claim.property == "faster"}
    assert pairs == {
        ("mobilenetv2", "efficientnetb0"),
        ("mobilenetv2", "efficientnetlite0"),
        ("efficientnetlite0", "efficientnetb0"),
    }
    faster = present(decided.find("faster", "efficientnetlite0", "efficientnetb0", "int8", "litert", 1))
    assert faster.outcome == "supported" and faster.estimate.value == pytest.approx(8 / 6, rel=0.1)
    smaller = present(decided.find("smaller", "mobilenetv2", "efficientnetb0", "fp32"))
    assert smaller.outcome == "supported" and smaller.estimate.value == 0.5 and smaller.p is None
    for one, other in (("mobilenetv2", "efficientnetb0"), ("efficientnetb0", "mobilenetv2")):
        assert present(decided.find("as accurate", one, other, "fp32")).outcome == "supported"
    assert present(decided.find("more accurate", "mobilenetv2", "efficientnetb0", "fp32")).outcome == "not separable"


def test_p_values_are_corrected_for_the_number_of_all_claims(results: Results) -> None:
    decided = _decide(results, _scores(results, {**_ALIKE, "mobilenetv2": 0.6}))
    estimated = [claim for claim in decided.claims if claim.p is not None]
    assert len(estimated) == decided.corrected > 20
    theirs = multitest.multipletests([claim.p for claim in estimated], method="holm")[1]
    assert [claim.corrected for claim in estimated] == pytest.approx(theirs.tolist(), abs=1e-12)
    for claim in estimated:
        assert (claim.outcome == "not separable") == (present(claim.corrected) > 0.05 or claim.p == 1)
    worse = present(decided.find("as accurate", "mobilenetv2", "efficientnetb0", "fp32"))
    assert worse.outcome == "refuted" and worse.estimate.high < -0.01
    assert present(decided.find("as accurate", "efficientnetb0", "mobilenetv2", "fp32")).outcome == "supported"


def test_the_difference_is_that_of_means_and_wider_than_that_of_two_files(results: Results) -> None:
    scores = _scores(results, {**_ALIKE, "mobilenetv2": 0.5}, trainings=3)
    claim = present(_decide(results, scores).find("more accurate", "mobilenetv2", "efficientnetb0", "int8"))
    labels, patients = scores.data.targets, [image.patient for image in scores.data.images]
    of = {
        backbone: [Predictions(file.scores, 0.5) for file in scores.files if file.model.backbone == backbone][3:]
        for backbone in ("mobilenetv2", "efficientnetb0")
    }
    by_seed = [
        bootstrap_difference(labels, one, other, patients, statistics=("auc",), replicates=200)["auc"]
        for one, other in zip(of["mobilenetv2"], of["efficientnetb0"], strict=True)
    ]
    assert claim.estimate.value == pytest.approx(np.mean([each.value for each in by_seed]))
    assert len(claim.subject.trainings) == 3
    assert claim.estimate.low < claim.estimate.value < claim.estimate.high


def test_scores_of_other_images_are_refused(results: Results) -> None:
    scores = _scores(results, _ALIKE)
    others = replace(scores, data=replace(scores.data, fingerprint="0" * 64))
    with pytest.raises(ResultsError, match="the scores are of the test images of some images"):
        _decide(results, others)
    renamed = tuple(replace(image, name=f"x/{image.name}") for image in scores.data.images)
    with pytest.raises(ResultsError, match="have other names"):
        _decide(results, replace(scores, data=replace(scores.data, images=renamed)))


def test_images_in_another_order_are_the_same(results: Results) -> None:
    scores = _scores(results, {**_ALIKE, "mobilenetv2": 0.3})
    turned = replace(
        scores,
        data=replace(scores.data, images=scores.data.images[::-1]),
        files=tuple(replace(file, probabilities=file.probabilities[::-1]) for file in scores.files),
    )
    one, other = (_decide(results, each) for each in (scores, turned))
    assert [claim.estimate for claim in one.claims] == [claim.estimate for claim in other.claims]


def test_one_training_of_each_is_no_verdict_over_networks(results: Results) -> None:
    (run,) = gather([summarise(results)])
    assert run.networks is None
    report = compose((run,))
    assert _caption(report).startswith("Each point is a model file")
    assert all(section.title != "Networks" for section in report.sections)
    # Results from before the seed was recorded do not tell that two files are two trainings.
    old = replace(results, models=tuple(replace(model, sha256=model.file) for model in results.models))
    assert gather([summarise(old)])[0].networks is None


def test_trainings_that_the_benchmark_scored_count_too(results: Results) -> None:
    models = tuple(replace(model, seed=0) for model in results.models)
    retrained = tuple(
        Retrained(
            replace(model, file=f"{seed}/{model.file}", sha256=str(seed) * 64, seed=seed),
            "litert",
            "2.3.0",
            unit.probabilities,
        )
        for model, unit in zip(models, results.units, strict=True)
        if model.format == "fp32" and model.backbone != "efficientnetlite0"
        for seed in (1, 2)
    )
    (run,) = gather([summarise(replace(results, models=models, retrained=retrained))])
    several = {network.backbone: network for network in present(run.networks).networks if network.is_several}
    assert set(several) == {"mobilenetv2", "efficientnetb0"}
    assert [answers.seed for answers in several["mobilenetv2"].trainings] == [0, 1, 2]
    assert run.summary.trainings == {"efficientnetb0": 3, "efficientnetlite0": 1, "mobilenetv2": 3}


def test_the_page_begins_with_networks_and_tells_claims_and_front(results: Results) -> None:
    noise = {**_ALIKE, "efficientnetb0": 0.16}
    runs = gather([summarise(results)], _scores(results, noise))
    report = compose(runs)
    assert "mean AUC of 5 trainings" in _caption(report)
    assert report.sections[1].title == "Networks"
    told = markdown.render(report)
    assert "MobileNetV2 is faster than EfficientNetB0: supported in 2 of 2 comparisons" in told
    assert "MobileNetV2 is as accurate as EfficientNetB0: supported in fp32 (AUC" in told
    assert "EfficientNetB0 fp32.tflite is beaten by" in told
    assert "MobileNetV2 int8.tflite is on the front" in told
    assert "5 trainings of each (fp32.tflite, int8.tflite)" in told


def test_the_picture_has_a_point_for_each_network_and_format(results: Results) -> None:
    drawn = draw_networks(gather([summarise(results)], _scores(results, _ALIKE)), "wide")
    assert all(title in drawn for title in ("MobileNetV2", "EfficientNetB0", "EfficientNet-Lite0"))
    assert drawn.count(">int8<") == drawn.count(">fp32<") == 3


@pytest.mark.slow
def test_of_several_trainings_one_is_timed_and_all_are_scored(
    two_backbones: Path, tiny_models: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    models = Path(shutil.copytree(two_backbones, tmp_path / "models" / "0"))
    raw = tiny_models / "bare" / "tiny-fp32.tflite"
    spec = read_spec(models / "mobilenetv2-fp32.tflite")
    for seed in (spec.training.seed + 1, spec.training.seed + 2):
        (models.parent / str(seed)).mkdir()
        another = replace(spec, training=replace(spec.training, seed=seed))
        write_spec(raw, models.parent / str(seed) / "mobilenetv2-fp32.tflite", another)
    measured = pneumo_edge.benchmark(
        models.parent, phantom_folder, engines="litert", processes=1, queries=4, seconds=0, out=tmp_path / "out",
        tell=lambda line: None,
    )  # fmt: skip
    assert {Path(unit.unit.model).name for unit in measured.results.units} == {
        "mobilenetv2-fp32.tflite", "efficientnetb0-fp32.tflite",
    }  # fmt: skip
    assert len(measured.results.units) == 2
    assert [each.model.seed for each in measured.results.retrained] == [
        spec.training.seed + 1, spec.training.seed + 2,
    ]  # fmt: skip
    assert measured.summary.trainings == {"efficientnetb0": 1, "mobilenetv2": 3}
    read_again = results_file.read(measured.results_file)
    assert read_again.retrained == measured.results.retrained
    # They are the same network, so they give the same answers.
    (unit,) = (unit for unit in read_again.units if "mobilenetv2" in unit.unit.model)
    assert all(each.probabilities == unit.probabilities for each in read_again.retrained)


def test_verdict_json_has_the_claims_about_networks(results: Results, tmp_path: Path) -> None:
    results_file.write(tmp_path / "results.json", results)
    scores_file.write(tmp_path / "scores.json", _scores(results, _ALIKE))
    command = [sys.executable, "-m", "pneumo_edge", "report", "results.json", "--scores", "scores.json"]
    subprocess.run([*command, "-o", "verdict.json"], cwd=tmp_path, check=True, capture_output=True)
    found = verdict_file.read(tmp_path / "verdict.json")
    decided = _decide(results, _scores(results, _ALIKE))
    assert [(claim.property, claim.outcome) for claim in found.networks] == [
        (claim.property, claim.outcome) for claim in decided.claims
    ]
    claim = next(each for each in found.networks if each.property == "as accurate")
    assert claim.subject.trainings == claim.other.trainings == 5
    assert claim.effect.low < claim.effect.value < present(claim.effect.high)
    assert present(claim.p) <= present(claim.corrected)
    assert found.basis.scores_sha256 == sha256((tmp_path / "scores.json").read_bytes()).hexdigest()
    # A verdict from before there were claims about networks is read as before.
    document = json.loads((tmp_path / "verdict.json").read_text())
    del document["networks"], document["basis"]["scores_sha256"]
    (tmp_path / "verdict.json").write_text(json.dumps(document))
    earlier = verdict_file.read(tmp_path / "verdict.json")
    assert earlier.networks == () and earlier.claims == found.claims
