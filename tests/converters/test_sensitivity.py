"""The sensitivity scan, with the real quantizer and engine on a tiny network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pneumo_edge.converters import calibration
from pneumo_edge.data.tensors import Dataset
from pneumo_edge.errors import ConversionError
from pneumo_edge.runtime.classifier import read_spec
from tools import sensitivity
from tools.sensitivity import Sensitivity

pytestmark = pytest.mark.slow


def test_each_operator_is_quantized_alone(exported: Path, dataset: Dataset) -> None:
    model = exported / "tiny-fp32.tflite"
    representative = calibration.pixels(dataset, calibration.choose(dataset, 16))
    steps: list[int] = []
    scanned = sensitivity.scan(
        model, read_spec(model), representative, dataset.rgb(dataset.indices("val"))[:8], lambda: steps.append(1)
    )
    places = [row.index for row in scanned]
    assert len(places) == len(steps) and places == sorted(set(places))
    # What leads to the heatmap alone is passed over: its own convolution is none of the network's one.
    assert [row.operator for row in scanned].count("CONV_2D") == 1
    changes = np.array([row.log_odds_change for row in scanned])
    assert (changes >= 0).all() and np.isfinite(changes).all()
    convolutions = [row.log_odds_change for row in scanned if row.operator == "CONV_2D"]
    assert convolutions and min(convolutions) > 0, "eight bits change something"
    # Calibrated on images that are all dark, every range is too narrow, and the scan must say so.
    dark = (representative // 16).astype(np.uint8)
    wrong = sensitivity.scan(
        model, read_spec(model), dark, dataset.rgb(dataset.indices("val"))[:8], lambda: steps.append(1)
    )
    assert sum(row.log_odds_change for row in wrong) > 3 * changes.sum()


def test_another_format_is_refused(exported: Path) -> None:
    model = exported / "tiny-int8.tflite"
    nothing = np.zeros((1, 224, 224, 3), dtype=np.uint8)
    with pytest.raises(ConversionError, match="is a file of int8"):
        sensitivity.scan(model, read_spec(model), nothing, nothing, lambda: None)


def test_a_scan_is_kept_and_drawn(tmp_path: Path) -> None:
    scanned = [Sensitivity(0, "CONV_2D", "a;b/c", 0.25), Sensitivity(1, "SOFTMAX", "probability", 0.0)]
    sensitivity.write(scanned, tmp_path / "tiny-sensitivity.csv")
    assert sensitivity.read(tmp_path / "tiny-sensitivity.csv") == scanned
    figure = tmp_path / "figure.png"
    sensitivity.draw({"one": scanned, "other": [replace(scanned[0], log_odds_change=1.0)]}, figure)
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny-sensitivity.csv"
    path.write_text("index,operator\n0,CONV_2D\n", encoding="utf-8")
    with pytest.raises(ConversionError, match="Scan again"):
        sensitivity.read(path)
