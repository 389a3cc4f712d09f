"""Model cards: every number out of the file and its metrics, and the committed ones as the command makes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pneumo_edge import bundled
from pneumo_edge._util import files
from pneumo_edge.cli import app
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.errors import ExitCode
from pneumo_edge.evaluation.comparison import AucDifference, McNemar
from pneumo_edge.evaluation.metrics import Confusion, Interval
from pneumo_edge.evaluation.seeds import OverSeeds
from pneumo_edge.evaluation.subgroups import KindSensitivity
from pneumo_edge.scoring import cards, summary
from pneumo_edge.scoring.scores import ScoredModel
from pneumo_edge.scoring.summary import (
    Data,
    Majority,
    Metrics,
    ModelComparison,
    ModelMetrics,
    Reliability,
    SeedComparison,
    SeedGroup,
    ShortcutBaseline,
    Side,
)
from pneumo_edge.spec import (
    CalibrationSpec,
    DataSpec,
    DecisionSpec,
    InputSpec,
    ModelSpec,
    ScalingSpec,
    TrainingSpec,
    VerificationSpec,
)

MakeModel = Callable[..., Path]

_REPOSITORY = Path(__file__).parents[2]
_METRICS = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv", "f1", "brier")
_SPEC = ModelSpec(
    name="mobilenetv2-int8",
    backbone="mobilenetv2",
    format="int8",
    class_names=("NORMAL", "PNEUMONIA"),
    input=InputSpec(224, 224, 3, "uint8", "bilinear"),
    decision=DecisionSpec("PNEUMONIA", 0.4321, "a rule for thresholds", "validation, 527 images"),
    temperature=1.379,
    data=DataSpec(
        "folder x-rays", True, "a1b2" * 16, {"train": {"NORMAL": 1203, "PNEUMONIA": 3488}, "val": {"NORMAL": 138}}, "CC"
    ),
    training=TrainingSpec("a-recipe", 7, "weights of a file", 23, {"auc": 0.9871, "specificity": 0.9567}),
    versions={"pneumo-edge": "9.8.7", "keras": "6.5.4"},
    notice="not a medical device",
    verification=VerificationSpec({"litert": "2.3.0"}, 529, "validation split of folder x-rays", {}, {}),
    calibration=CalibrationSpec(211, "0" * 64),
)


def _interval(value: float) -> Interval:
    return Interval(value, value - 0.011, value + 0.012)


def _measure(model: Path, backbone: str) -> ModelMetrics:
    scored = ScoredModel(
        file=model.name,
        sha256=files.sha256(model),
        size_bytes=model.stat().st_size,
        backbone=backbone,
        format="int8",
        recipe="a-recipe",
        seed=7,
        initial_weights="weights of a file",
        trained_on="folder x-rays",
        trained_on_real=True,
        threshold=0.4321,
        rule="a rule for thresholds",
        chosen_on="validation",
        temperature=1.379,
        engine="litert",
        engine_version="2.3.0",
    )
    return ModelMetrics(
        scored,
        {name: _interval(0.801 + 0.017 * number) for number, name in enumerate(_METRICS)},
        Confusion(true_positives=373, false_negatives=17, true_negatives=203, false_positives=31),
        {"bacteria": KindSensitivity(243, _interval(0.713)), "virus": KindSensitivity(147, _interval(0.727))},
        Reliability(0.0417, _interval(0.0233), ()),
    )


def _evaluation(*measured: ModelMetrics) -> Metrics:
    return Metrics(
        data=Data(
            title="folder x-rays",
            real=True,
            licence="CC BY 4.0",
            split="test",
            fingerprint="c3d4" * 16,
            images=624,
            classes={"NORMAL": 234, "PNEUMONIA": 390},
            kinds={"bacteria": 243, "virus": 147},
            left_out=0,
            patients=419,
        ),
        majority=Majority("PNEUMONIA", _interval(0.625)),
        bootstrap_replicates=2000,
        bootstrap_seed=0,
        models=measured,
        baselines=(
            ShortcutBaseline("file size", "lower", _interval(0.687)),
            ShortcutBaseline("contrast", "higher", _interval(0.519)),
        ),
        over_seeds=tuple(
            SeedGroup(
                each.model.backbone,
                *("a-recipe", "int8", "litert"),
                (7, 8, 9),
                {name: OverSeeds(3, _interval(0.651 + 0.013 * number), 0.009) for number, name in enumerate(_METRICS)},
            )
            for each in measured
        ),
        comparisons=(),
        comparisons_over_seeds=(),
        notes=(),
    )


@pytest.fixture
def make_model(inert_tflite: Path, tmp_path: Path) -> MakeModel:
    """A TFLite file that carries a spec, but that no engine runs."""

    def make(spec: ModelSpec = _SPEC, **changes: Any) -> Path:
        model = tmp_path / "models" / f"{spec.backbone}-int8.tflite"
        model.parent.mkdir(exist_ok=True)
        write_spec(inert_tflite, model, replace(spec, **changes))
        return model

    return make


@pytest.fixture
def model(make_model: MakeModel) -> Path:
    return make_model()


def _render(model: Path, evaluation: Metrics | None = None) -> str:
    """The card as words in one line, however it wraps."""
    card = cards.collect(model, evaluation or _evaluation(_measure(model, "mobilenetv2")))
    return " ".join(cards.render(card).split())


def _run(*words: object) -> Result:
    return CliRunner().invoke(app, ["card", *map(str, words)])


# What a card says


def test_a_card_has_every_metric_with_its_interval_and_over_seeds(model: Path) -> None:
    text = _render(model)
    evaluation = _evaluation(_measure(model, "mobilenetv2"))
    (measured,), (seeds,) = evaluation.models, evaluation.over_seeds
    for name in _METRICS:
        assert f"| {measured.metrics[name]} | {seeds.metrics[name].mean} ± 0.009 |" in text
    for part in measured.sensitivity_by_kind.values():
        assert str(part.sensitivity) in text
    for number in ("0.042", str(measured.calibration.by_chance), "2,000 bootstrap", "seeds 7, 8, 9"):
        assert number in text
    assert "| PNEUMONIA | 373 | 17 | | NORMAL | 31 | 203 |" in text


def test_a_card_has_what_the_file_says_of_itself(model: Path) -> None:
    text = _render(model)
    for said in (
        *("MobileNetV2", "mobilenetv2-int8.tflite", files.sha256(model), f"{model.stat().st_size:,} bytes"),
        *("0.4321", "a rule for thresholds; on validation, 527 images", "1.379", "`a-recipe`, seed 7, 23 epochs"),
        *("weights of a file", "calibrated on 211 training images", "uint8 RGB pixels of 0 to 255", "529 images"),
        *("(1, 224, 224, 3)", "NORMAL, PNEUMONIA, in this order", "a1b2a1b2a1b2a1b2", "litert 2.3.0", "keras 6.5.4"),
        *("| train | 1,203 | 3,488 |", "| val | 138 | 0 |", "AUC 0.987, specificity 0.957"),
        "train --data chest_xray --backbone mobilenetv2 --recipe a-recipe --seed 7",
    ):
        assert said in text


def test_a_card_names_data_shortcuts_limits_and_licences(model: Path) -> None:
    text = _render(model)
    for said in (
        "624 images (234 NORMAL, 390 PNEUMONIA; of PNEUMONIA, 243 bacteria and 147 virus) of 419 patients",
        "| file size alone (lower in PNEUMONIA) | 0.687 [0.676, 0.699] |",
        "| contrast alone (higher in PNEUMONIA) | 0.519 [0.508, 0.531] |",
        "| always PNEUMONIA | | 0.625 [0.614, 0.637] |",
        *("Not a medical device", "Any clinical use", "Adults", "children of one to five years", "CC BY 4.0"),
        *(
            "Guangzhou Women and Children's Medical Center",
            "Apache-2.0",
            "keras.applications",
            "There is no claim about other",
        ),
    ):
        assert said in text


@pytest.mark.parametrize("template", ["card.md.jinja", "index.md.jinja"])
def test_no_number_is_typed_into_a_template(template: str) -> None:
    text = (Path(cards.__file__).with_name(template)).read_text(encoding="utf-8")
    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", text, flags=re.DOTALL)
    # Left are the version of a licence, year and volume of a paper, and the level of every interval.
    typed = set(re.findall(r"(?<![\w.(-])\d[\d.,]*\b", text)) - {"4.0", "2018", "172", "95"}
    assert not typed


def test_over_calling_is_told_where_the_test_shows_it(make_model: MakeModel) -> None:
    told = "NORMAL is classified as PNEUMONIA too often: 31 times of 234, a specificity of 0.869 against 0.957 on "
    told += "validation."
    assert told in _render(make_model())
    unaffected = replace(_SPEC.training, validation={"specificity": 0.8})
    assert "too often" not in _render(make_model(training=unaffected))
    assert "too often" not in _render(make_model(training=replace(_SPEC.training, validation={})))


def test_counterfactual_validation_has_a_sentence_of_its_own(make_model: MakeModel) -> None:
    validation = {"auc": 0.987, "counterfactual_auc": 0.954, "counterfactual_flips_all": 0.125}
    told = _render(make_model(training=replace(_SPEC.training, validation=validation)))
    sentence = told[told.index("**Counterfactual validation:**") :].partition("\n\n")[0]
    assert "0.954" in sentence and "0.125" in sentence
    assert "AUC 0.987." in told and "counterfactual_" not in told
    assert "Counterfactual" not in _render(make_model())


def test_what_is_not_there_is_left_out(make_model: MakeModel) -> None:
    model = make_model(verification=None, calibration=None)
    measured = _measure(model, "mobilenetv2")
    measured = replace(measured, metrics={**measured.metrics, "ppv": None}, sensitivity_by_kind={})
    evaluation = _evaluation(measured)
    data = replace(evaluation.data, kinds={}, patients=None, left_out=3)
    text = _render(model, replace(evaluation, data=data, over_seeds=(), baselines=()))
    assert "| PPV | not defined |" in text
    assert "(234 NORMAL, 390 PNEUMONIA), with the fingerprint" in text
    assert "3 more could not be read." in text
    assert "bootstrap replicates that draw images." in text
    for absent in ("seeds 7", "Verified on", "calibrated on 211", "bacteria", "None", "patients,"):
        assert absent not in text


#: Of the X-rays of one data set alone.
_OF_KERMANY = ("Kermany", "X-ray", "children", "hospital", "physician's reading", "chest_xray", "lungs", "CC BY")


def _of_other_data(evaluation: Metrics) -> Metrics:
    return replace(evaluation, data=replace(evaluation.data, classes={"CAT": 234, "DOG": 390}, kinds={}))


def test_a_card_of_other_data_does_not_speak_of_x_rays(make_model: MakeModel) -> None:
    data = replace(_SPEC.data, name="folder pets", counts={}, licence="as its owner says; others are CC BY 4.0")
    decision = replace(_SPEC.decision, positive_class="DOG")
    model = make_model(class_names=("CAT", "DOG"), data=data, decision=decision)
    text = _render(model, _of_other_data(_evaluation(_measure(model, "mobilenetv2"))))
    assert not [word for word in _OF_KERMANY if word in text]
    for said in (
        *("CAT or DOG, from one image", "was trained on the folder pets", "licence: as its owner says."),
        *("unrelated to what the images show", "train --data DATA --backbone mobilenetv2"),
    ):
        assert said in text


def test_a_card_of_an_own_network_does_not_claim_its_training(make_model: MakeModel) -> None:
    training = replace(
        _SPEC.training, recipe="own-model", initial_weights="those of pets.h5 (sha256 0), trained elsewhere"
    )
    model = make_model(backbone="pets", training=training)
    text = _render(model, _evaluation(_measure(model, "pets")))
    assert not [word for word in _OF_KERMANY if word in text]
    for said in (
        *("pets, which somebody trained with another program", "those of pets.h5 (sha256 0), trained elsewhere"),
        *("does not record what the network was trained on", "This file:** as the author of the network says."),
        "export MODEL --data DATA --input-range RANGE --format tflite-int8",
    ):
        assert said in text
    assert "recipe `" not in text and "Apache" not in text


def test_a_card_of_an_adopted_file_does_not_say_that_its_graph_scales(make_model: MakeModel) -> None:
    training = replace(_SPEC.training, recipe="adopted")
    scaled = replace(_SPEC.input, dtype="float32", layout="nchw", scaling=ScalingSpec((1 / 255,) * 3, (0.0,) * 3))
    model = make_model(backbone="pets", format="adopted", training=training, input=scaled, scores="logits")
    text = _render(model, _evaluation(_measure(model, "pets")))
    side = _SPEC.input.height
    for said in (f"shape (1, 3, {side}, {side})", "in front of the graph, as the ModelSpec says", "logits of NORMAL"):
        assert said in text
    assert "inside the graph" not in text and "adopt " in text
    for said in (
        *("was used to choose the threshold and to measure the file", "No temperature was fitted"),
        *("probabilities were not calibrated here", "- **Weights:**"),
    ):
        assert said in text
    for untrue in ("Temperature", "calibrated on validation", "Initial weights", "before its conversion"):
        assert untrue not in text


# The command


@pytest.fixture
def metrics(model: Path, tmp_path: Path) -> Path:
    path = tmp_path / "metrics.json"
    summary.write(path, _evaluation(_measure(model, "mobilenetv2")))
    return path


def test_a_card_goes_beside_its_model_or_where_it_is_told(model: Path, metrics: Path, tmp_path: Path) -> None:
    assert _run(model, "--metrics", metrics).exit_code == ExitCode.OK
    beside = model.with_suffix(".md").read_bytes()
    assert beside.startswith(b"# Model card: MobileNetV2, int8\n")
    assert _run(model, "--metrics", metrics, "--out", tmp_path / "cards").exit_code == ExitCode.OK
    assert (tmp_path / "cards" / "mobilenetv2-int8.md").read_bytes() == beside


def test_metrics_of_another_file_write_no_card(make_model: MakeModel, metrics: Path) -> None:
    model = make_model(temperature=2.0)
    result = _run(model, "--metrics", metrics)
    assert result.exit_code == ExitCode.FAILED
    (line,) = result.stderr.splitlines()
    assert f"the metrics do not include {model} (SHA-256 {files.sha256(model)[:12]})" in line
    assert not model.with_suffix(".md").exists()


@pytest.mark.parametrize(("field", "value"), [("split", "val"), ("real", False)])
def test_only_the_test_split_of_x_rays_makes_a_card(model: Path, metrics: Path, field: str, value: Any) -> None:
    evaluation = summary.read(metrics)
    summary.write(metrics, replace(evaluation, data=replace(evaluation.data, **{field: value})))
    result = _run(model, "--metrics", metrics)
    assert result.exit_code == ExitCode.FAILED
    (line,) = result.stderr.splitlines()
    assert "expected metrics of the test split of real images" in line


def test_a_model_of_phantoms_gets_no_card(make_model: MakeModel, metrics: Path) -> None:
    result = _run(make_model(data=replace(_SPEC.data, real=False)), "--metrics", metrics)
    assert result.exit_code == ExitCode.FAILED
    assert "expected a model of real images" in result.stderr


def test_missing_metrics_are_one_line(model: Path, tmp_path: Path) -> None:
    result = _run(model, "--metrics", tmp_path / "none.json")
    assert result.exit_code == ExitCode.FAILED
    assert len(result.stderr.splitlines()) == 1


def test_the_index_is_for_the_bundled_models(model: Path, metrics: Path, tmp_path: Path) -> None:
    assert _run(model, "--metrics", metrics, "--index", tmp_path / "models.md").exit_code == ExitCode.USAGE


# The index


def test_the_index_links_to_the_cards_and_compares_the_models(make_model: MakeModel, tmp_path: Path) -> None:
    models = {name: make_model(replace(_SPEC, backbone=name)) for name in bundled.NAMES}
    measured = [_measure(model, name) for name, model in models.items()]
    first, second = (Side(e.model.file, e.model.sha256, e.model.backbone, "a-recipe") for e in measured)
    differences: dict[str, Interval | None] = {name: _interval(0.021) for name in _METRICS}
    compared = ModelComparison(
        first,
        second,
        *("int8", 7, "litert"),
        differences,
        AucDifference(_interval(-0.031), 1.0, 0.0271),
        McNemar(37, 19, 0.0003),
    )
    spread = SeedComparison(
        *("mobilenetv2", "a-recipe", "efficientnetb0", "a-recipe", "int8", "litert"),
        (7, 8, 9),
        {"accuracy": OverSeeds(3, _interval(0.017), 0.006), "auc": OverSeeds(3, _interval(0.001), 0.006)},
    )
    of_others = replace(compared, first=replace(first, sha256="0" * 64), engine="another engine")
    evaluation = replace(_evaluation(*measured), comparisons=(compared, of_others), comparisons_over_seeds=(spread,))
    index = tmp_path / "docs" / "models.md"
    index.parent.mkdir()
    collected = [(cards.collect(model, evaluation), model.with_suffix(".md")) for model in models.values()]
    text = cards.render_index(collected, index)
    links = re.findall(r"\]\((.+?\.md)\)", text)
    assert [(index.parent / link).resolve() for link in links] == [target for _, target in collected]
    for each in measured:
        assert " | ".join(str(each.metrics[name]) for name in _METRICS[:5]) in text
    assert "| AUC | DeLong's, p = 0.027 | -0.031 [-0.042, -0.019] |" in text
    assert "McNemar's exact, p < 0.001: 37 images correct with the first only, 19 with the second only" in text
    assert "+0.021 [+0.010, +0.033] | +0.017 [+0.006, +0.029] ± 0.006 |" in text
    assert "about these two files, each of one training, and not about the backbones" in text
    assert "as accurate as MobileNetV2 is not separable" in text
    alone = replace(evaluation, comparisons_over_seeds=())
    collected = [(cards.collect(model, alone), model.with_suffix(".md")) for model in models.values()]
    assert "No other training was evaluated, so nothing is known about the backbones." in cards.render_index(
        collected, index
    )
    assert "another engine" not in text


def test_the_committed_cards_are_what_the_command_makes(tmp_path: Path) -> None:
    makefile = (_REPOSITORY / "Makefile").read_text(encoding="utf-8")
    (name,) = re.findall(r"^METRICS \?= (.+)$", makefile, re.MULTILINE)
    if not (_REPOSITORY / name).is_file():
        pytest.skip(f"{name}, of which the cards are made, is not there")
    folder, index = tmp_path / "pneumo_edge" / "bundled", tmp_path / "docs" / "models.md"
    result = _run("--metrics", _REPOSITORY / name, "--out", folder, "--index", index)
    assert result.exit_code == ExitCode.OK, result.stderr
    for made in (index, *folder.iterdir()):
        assert made.read_bytes() == (_REPOSITORY / made.relative_to(tmp_path)).read_bytes()
