"""Training on several devices. Without a GPU TensorFlow divides the processor; that shows the result, not the speed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pneumo_edge
from pneumo_edge._util import extras
from pneumo_edge.errors import ArgumentError
from pneumo_edge.training import devices
from pneumo_edge.training.recipes import RECIPES, Phase


def test_batch_and_learning_rate_follow_the_square_root_rule() -> None:
    phase = Phase(8, 4e-4, warmup_epochs=1, batch_size=32, weight_decay=0.01, ema=0.98)
    four = devices.scaled(phase, 4)
    assert (four.batch_size, four.learning_rate, four.weight_decay) == (128, 8e-4, 0.02)
    assert four.beta_1 == pytest.approx(0.6) and four.beta_2 == pytest.approx(0.996)
    assert four.ema == pytest.approx(0.98**4)
    assert (four.epochs, four.warmup_epochs) == (8, 1)
    # In an epoch of a quarter of the steps, weights decay by the same and averages forget as much.
    assert four.learning_rate * four.weight_decay / 4 == pytest.approx(phase.learning_rate * phase.weight_decay)
    assert (four.ema or 0) ** (1 / 4) == pytest.approx(phase.ema)
    assert devices.scaled(phase, 1) == phase
    assert devices.scaled(phase, 64).beta_1 == 0 and math.isfinite(devices.scaled(phase, 64).learning_rate)


def test_a_recipe_that_trains_only_the_head_takes_one_device() -> None:
    assert not RECIPES["quick"].fine_tune
    with pytest.raises(ArgumentError, match=r"2 devices were given with the recipe quick, .* standard, best, robust"):
        pneumo_edge.train("x", "mobilenetv2", recipe="quick", devices=2)


@pytest.mark.slow
def test_two_devices_fit_as_one_with_the_same_batches_and_resume(tmp_path: Path) -> None:
    if not extras.is_installed("tensorflow"):
        pytest.skip("the extra 'train' is not installed")
    command = [sys.executable, "-m", "tests.two_devices", str(tmp_path)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["moved"] > 0.1
    assert found["apart"] < 1e-4 * found["moved"]
    assert found["resumed"]
