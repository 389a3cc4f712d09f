"""The table says what the report did, and a twin puts right what its name says and nothing else."""

from __future__ import annotations

import dataclasses

import pytest

from pneumo_edge._util import records
from pneumo_edge.backbones import BACKBONES
from pneumo_edge.training.report_recipes import PUBLISHED, REPRODUCTIONS, Reproduction

_TWINS = [row for row in REPRODUCTIONS.values() if row.correction != "none"]


@pytest.mark.parametrize(
    ("name", "backbone", "optimizer", "epochs", "last_layers", "train_batch_norm"),
    [
        ("report-train-model", "efficientnetb0", "Adam", 10, [None], True),
        ("report-train-model1", "efficientnetb0", "Adam", 10, [0, 100], True),
        ("report-train-model2", "efficientnetb0", "Adam", 10, [150], False),
        ("report-train-model-improved", "efficientnetb0", "RMSprop", 20, [200], True),
        ("report-mobilenet", "mobilenetv2", "RMSprop", 20, [200], True),
    ],
)
def test_a_run_is_as_the_report_tells_it(
    name: str, backbone: str, optimizer: str, epochs: int, last_layers: list[int | None], train_batch_norm: bool
) -> None:
    row = REPRODUCTIONS[name]
    assert (row.backbone, row.optimizer, row.train_batch_norm) == (backbone, optimizer, train_batch_norm)
    assert sum(phase.epochs for phase in row.phases) == epochs
    assert [phase.last_layers for phase in row.phases] == last_layers
    assert row.scaling == (1 / 255, 0)
    assert row.batch_size == 32


def test_only_the_runs_that_watched_validation_loss_do_so() -> None:
    runs = {name: REPRODUCTIONS[name] for name in PUBLISHED}
    assert [name for name, row in runs.items() if row.stop_patience] == ["report-train-model2"]
    assert [name for name, row in runs.items() if row.plateau] == ["report-train-model-improved", "report-mobilenet"]


def test_a_smaller_rate_is_smaller() -> None:
    first = REPRODUCTIONS["report-train-model"].phases[0].learning_rate
    frozen, unfrozen = REPRODUCTIONS["report-train-model1"].phases
    assert unfrozen.learning_rate < first < frozen.learning_rate
    assert REPRODUCTIONS["report-train-model2"].phases[0].learning_rate < first


def test_stronger_augmentation_is_nowhere_weaker() -> None:
    light = dataclasses.asdict(REPRODUCTIONS["report-train-model"].augmentation)
    stronger = dataclasses.asdict(REPRODUCTIONS["report-train-model-improved"].augmentation)
    assert stronger != light
    assert all((stronger[key] or 0) >= value for key, value in light.items() if value is not None)


@pytest.mark.parametrize("twin", _TWINS, ids=lambda row: row.name)
def test_a_twin_differs_in_the_named_cause_alone(twin: Reproduction) -> None:
    run = REPRODUCTIONS[twin.report_run]
    assert twin.name == f"{run.name}-{twin.correction}"
    changed = {
        field.name for field in dataclasses.fields(run) if getattr(twin, field.name) != getattr(run, field.name)
    } - {"name", "correction"}
    wanted = {"scaling": {"scaling"}, "batch-norm": {"train_batch_norm"}, "both": {"scaling", "train_batch_norm"}}
    assert changed == wanted[twin.correction]


def test_every_run_has_the_twins_that_are_not_itself() -> None:
    corrections = {
        name: [row.correction for row in REPRODUCTIONS.values() if row.report_run == name] for name in PUBLISHED
    }
    assert corrections.pop("report-train-model2") == ["none", "scaling"]
    assert list(corrections.values()) == [["none", "scaling", "batch-norm", "both"]] * 4


@pytest.mark.parametrize(("backbone", "lowest", "highest"), [("efficientnetb0", 0, 255), ("mobilenetv2", -1, 1)])
def test_the_right_scaling_is_what_the_backbone_expects(backbone: str, lowest: float, highest: float) -> None:
    """As the pages of keras.applications say."""
    assert backbone in BACKBONES
    for twin in _TWINS:
        if twin.backbone == backbone and twin.correction in ("scaling", "both"):
            scale, offset = twin.scaling
            assert (offset, 255 * scale + offset) == pytest.approx((lowest, highest))


@pytest.mark.parametrize("row", REPRODUCTIONS.values(), ids=lambda row: row.name)
def test_a_recipe_survives_its_record(row: Reproduction) -> None:
    assert records.loads(Reproduction, records.dumps(row)) == row
