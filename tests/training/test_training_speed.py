"""The benchmark of training measures what it says; how fast that is belongs in no test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumo_edge import bundled
from pneumo_edge.backbones import BACKBONES
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import prepare
from pneumo_edge.training.initial_weights import InitialWeights
from pneumo_edge.training.recipes import RECIPES
from tools import training_speed

pytestmark = pytest.mark.slow


def test_every_round_is_a_pair_of_turns(keras: Any, tmp_path: Path) -> None:
    make_phantom(tmp_path / "data", seed=1, train_per_class=20, test_per_class=4)
    dataset = prepare(open_source(tmp_path / "data"), tmp_path / "cache", 224, 224)
    phase = replace(RECIPES["best"].fine_tune[0], batch_size=4)
    row, steps = BACKBONES["mobilenetv2"], list[int]()
    weights = InitialWeights("bundled", bundled.path(row.name))
    measured = training_speed.measure_pipeline(row, weights, phase, dataset, 2, 3, steps.append)
    assert steps == [2] * 7  # one turn to warm up, then three pairs
    assert len(measured.pipeline) == len(measured.memory) == 3
    assert min(*measured.pipeline, *measured.memory) > 0
    assert measured.relative == pytest.approx(np.median(np.divide(measured.memory, measured.pipeline)))


def test_what_was_not_reached_is_said_to_take_longer() -> None:
    reached = training_speed.TimeToAuc(0.99, 50.0, ((100.0, 0.9), (200.0, 0.995)))
    assert "ImageDataGenerator 200 s" in str(reached) and "4.0 times" in str(reached)
    missed = replace(reached, report=((100.0, 0.9), (300.0, 0.98)))
    assert "more than 300 s" in str(missed) and "more than 6.0 times" in str(missed)
