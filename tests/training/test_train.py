"""Training through the real command line, on phantom images."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from pneumo_edge import runs
from pneumo_edge.backbones import BACKBONES
from pneumo_edge.cli import app
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.evaluation.operating_point import ThresholdRule
from pneumo_edge.imaging import images
from pneumo_edge.training.counterfactuals import KINDS, column
from pneumo_edge.training.shifts import SHIFTS
from tests import tiny_backbone

pytestmark = pytest.mark.slow

_REPOSITORY = Path(__file__).parents[2]
_ROW = tiny_backbone.WITH_DROPOUT


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    make_phantom(folder / "data", seed=1, train_per_class=20, test_per_class=4)
    (folder / "data" / "train" / "NORMAL" / "IM-9999-0001.jpeg").write_bytes(b"not a JPEG")
    return folder


@pytest.fixture(scope="module")
def weights(keras: Any, workplace: Path) -> Path:
    """Weights in a file, with batch-norm statistics that are not the initial ones; no network is asked."""
    path = workplace / "backbone.weights.h5"
    keras.utils.set_random_seed(5)
    model = _base()
    for layer in _batch_norms(keras, model):
        gamma, beta, mean, variance = layer.get_weights()
        layer.set_weights([gamma, beta, mean + 0.01, variance * 0.1])
    model.save_weights(path)
    return path


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, _ROW.name, _ROW)


def _base() -> Any:
    return tiny_backbone.build_with_dropout(False, None, (_ROW.side, _ROW.side, 3))


def _options(workplace: Path, weights: Path, recipe: str, out: Path, *more: str) -> list[str]:
    return [
        "train", "--data", str(workplace / "data"), "--backbone", _ROW.name, "--image-size", str(_ROW.side),
        "--recipe", recipe, "--weights", str(weights), "--out", str(out), *more,
    ]  # fmt: skip


def _environment(workplace: Path) -> dict[str, str]:
    return {**os.environ, "PNEUMO_EDGE_CACHE": str(workplace / "cache")}


def _train(workplace: Path, weights: Path, recipe: str, out: Path, *more: str) -> Result:
    """Train in this process, which has loaded TensorFlow."""
    words = _options(workplace, weights, recipe, out, *more)
    return CliRunner(env=_environment(workplace)).invoke(app, words)


def test_a_killed_run_goes_on_and_leaves_a_whole_run(keras: Any, workplace: Path, weights: Path) -> None:
    out = workplace / "robust"
    command = [*tiny_backbone.COMMAND, *_options(workplace, weights, "robust", out)]
    process = subprocess.Popen(command, cwd=_REPOSITORY, env=_environment(workplace), stderr=subprocess.DEVNULL)
    state = out / "checkpoint" / "fine-tune-1" / "state.json"
    deadline = time.monotonic() + 300
    while not state.exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done_before = len(json.loads(state.read_text())["rows"])
    assert not (out / runs.RECORD_NAME).exists()

    finished = _train(workplace, weights, "robust", out)
    assert finished.exit_code == 0, finished.output
    assert "1 images are left out" in finished.stdout and "Counterfactual validation: AUC " in finished.stdout
    with (out / "history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    epochs = [int(row["epoch"]) for row in rows if row["phase"] == "fine-tune-1"]
    assert epochs == list(range(len(epochs))) and len(epochs) > done_before
    run = runs.load(out)
    assert run.training.epochs == len(rows)
    assert run.decision.threshold is not None and 0 <= run.decision.threshold <= 1
    assert not run.data.real
    assert {path.name for path in out.iterdir()} == {
        "run.json", "model.keras", "split.json", "validation.csv", "history.csv", "curves.png", "settings.json"
    }  # fmt: skip
    with (out / "validation.csv").open() as stream:
        judged = list(csv.DictReader(stream))
    assert set(SHIFTS) < set(judged[0]), "the shifts that the recipe asks for were not judged"
    shifted = [float(row[name]) for row in judged for name in SHIFTS]
    assert all(0 <= score <= 1 for score in shifted)
    assert {column(kind) for kind in KINDS} < set(judged[0])
    called = {
        name: np.array([float(row[name]) for row in judged]) >= run.decision.threshold
        for name in ("probability", column("all"))
    }
    changed = np.mean(called["probability"] != called[column("all")])
    # The file has nine digits, and the threshold may be one of its scores.
    assert run.training.validation["counterfactual_flips_all"] == pytest.approx(changed, abs=1.01 / len(judged))
    assert 0 <= run.training.validation["counterfactual_auc"] <= 1
    assert run.decision.rule == ThresholdRule.SENSITIVITY_95
    found = [float(row["probability"]) >= run.decision.threshold for row in judged if row["label"] == "1"]
    assert np.mean(found) >= 0.95
    left_out = json.loads((out / "split.json").read_text())["left_out"]
    assert list(left_out) == ["train/NORMAL/IM-9999-0001.jpeg"]

    before, after = _base(), keras.saving.load_model(out / "model.keras", compile=False)
    before.load_weights(weights)
    inner = next(layer for layer in after.layers if isinstance(layer, keras.Model))
    for old, new in zip(_batch_norms(keras, before), _batch_norms(keras, inner), strict=True):
        for one, other in zip(old.get_weights(), new.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    (old_kernel, _), (new_kernel, _) = (
        next(layer for layer in base.layers if isinstance(layer, keras.layers.Conv2D)).get_weights()
        for base in (before, inner)
    )
    assert not np.array_equal(old_kernel, new_kernel), "fine-tuning changed nothing"


def test_the_recorded_operating_point_is_that_of_the_saved_model(keras: Any, workplace: Path, weights: Path) -> None:
    out = workplace / "quick"
    assert _train(workplace, weights, "quick", out).exit_code == 0
    again = _train(workplace, weights, "quick", out)
    assert again.exit_code == 0 and "epochs" in again.stdout

    other = _train(workplace, weights, "quick", out, "--seed", "1")
    assert other.exit_code == 3
    assert "contains a run with other settings: seed 1 (it has 0)" in other.stderr
    assert len(other.stderr.strip().splitlines()[-1:]) == 1

    run = runs.load(out)
    entries = json.loads((out / "split.json").read_text())["entries"]
    validation = [entry for entry in entries if entry["split"] == "val"]
    scores, labels = _scores(keras, out, workplace, validation), np.array([entry["label"] for entry in validation])
    decided = scores >= run.decision.threshold
    assert np.mean(decided == (labels == 1)) == pytest.approx(run.training.validation["accuracy"])


def _scores(keras: Any, out: Path, workplace: Path, entries: list[dict[str, Any]]) -> Any:
    model = keras.saving.load_model(out / "model.keras", compile=False)
    pixels = [images.load((workplace / "data" / entry["name"]).read_bytes(), _ROW.side, _ROW.side) for entry in entries]
    return model.predict(np.stack(pixels).astype(np.float32), verbose=0)[:, 1]


def _batch_norms(keras: Any, model: Any) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
