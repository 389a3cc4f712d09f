"""Whether training on two devices differs from training on one by more than a seed does: ``make several-devices``.

A small network is trained on the sample pack by the recipe ``standard``, with each seed on one device and on two, into
which TensorFlow divides the processor. Batch and learning rate are scaled
(:func:`pneumo_edge.training.devices.scaled`). The metrics on validation images are kept in
``results/devices/seeds.json``; the table in docs/training.md follows from them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pneumo_edge._util import files, records
from pneumo_edge.api import train as api
from pneumo_edge.backbones import BACKBONES, Backbone
from pneumo_edge.data import sample
from pneumo_edge.errors import PneumoEdgeError
from pneumo_edge.evaluation.seeds import over_seeds
from pneumo_edge.scaling import SCALINGS
from tools import pages

RESULTS = Path("results", "devices", "seeds.json")
PAGE = Path("docs", "training.md")
_TARGET = "several-devices"
_RECIPE = "standard"
_SEEDS = range(10)
_DEVICES = (1, 2)
_ROW = Backbone("small", "Small", f"{__name__}:build", SCALINGS["-1..1"], side=96)
#: The metrics of the table, with their titles and decimals.
_METRICS = {"auc": ("AUC", 3), "log_loss": ("Log loss", 3), "accuracy": ("Accuracy", 3)}


@dataclass(frozen=True)
class Trained:
    """A run: how many devices, its seed, and its metrics on validation images."""

    devices: int
    seed: int
    validation: dict[str, float]


@dataclass(frozen=True)
class Trainings:
    """All runs, of which each seed has one with each number of devices."""

    recipe: str
    runs: tuple[Trained, ...]


def build(include_top: bool, weights: None, input_shape: tuple[int, int, int]) -> Any:
    """A network of three convolutions with batch normalization and dropout, from (side, side, 3) to 64 features."""
    import keras

    image = keras.Input(input_shape)
    layer = image
    for filters in (16, 32, 64):
        layer = keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(layer)
        layer = keras.layers.ReLU()(keras.layers.BatchNormalization()(layer))
    return keras.Model(image, keras.layers.Dropout(0.2)(layer))


def table(found: Trainings) -> str:
    """The Markdown table of the page."""
    lines = [
        ["on validation", *(f"{count} device{'s' * (count > 1)}" for count in _DEVICES), "difference, same seed"],
        ["---"] * 4,
    ]
    for name, (title, decimals) in _METRICS.items():
        one, two = ([run.validation[name] for run in found.runs if run.devices == count] for count in _DEVICES)
        spreads = [over_seeds(values) for values in (one, two)]
        apart = over_seeds([second - first for first, second in zip(one, two, strict=True)]).mean
        lines.append(
            [
                title,
                *(f"{spread.mean.value:.{decimals}f} ± {spread.sd:.{decimals}f}" for spread in spreads),
                f"{apart.value:+.{decimals}f} [{apart.low:+.{decimals}f}, {apart.high:+.{decimals}f}]",
            ]
        )
    return pages.rows(lines)


def load(path: Path) -> Trainings:
    """Read the record; the runs of each number of devices are in the order of their seeds."""
    found = records.loads(Trainings, path.read_bytes())
    return replace(found, runs=tuple(sorted(found.runs, key=lambda run: (run.devices, run.seed))))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train where there is no record yet, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.several_devices", description=__doc__)
    parser.add_argument("--devices", type=int, help="train with this many devices alone, into --out")
    parser.add_argument("--out", type=Path, help="the file of these runs")
    given = parser.parse_args(arguments)
    if given.devices:
        files.write_text(given.out, records.dumps(_train(given.devices)))
        return
    if not RESULTS.exists():
        runs: list[Trained] = []
        with tempfile.TemporaryDirectory() as folder:
            for devices in _DEVICES:
                out = Path(folder, f"{devices}.json")
                # TensorFlow's devices are set once for each process.
                command = [sys.executable, "-m", __spec__.name, "--devices", str(devices), "--out", str(out)]
                subprocess.run(command, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}, check=True)
                runs += load(out).runs
        files.write_text(RESULTS, records.dumps(Trainings(_RECIPE, tuple(runs))))
    pages.put_table(PAGE, _TARGET, table(load(RESULTS)))


def _train(devices: int) -> Trainings:
    BACKBONES[_ROW.name] = _ROW
    data = sample.find()
    assert data, "the sample pack is in the repository"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        dataset = api.read_data(str(data), None, folder, lambda line: None, _ROW.side)
        folders = {seed: folder / str(seed) for seed in _SEEDS}
        return Trainings(
            _RECIPE,
            tuple(
                Trained(devices, run.record.training.seed, run.record.training.validation)
                for run in api.train_seeds(dataset, data, _ROW, _RECIPE, None, folders, devices)
            ),
        )


if __name__ == "__main__":
    try:
        main()
    except PneumoEdgeError as error:
        sys.exit(f"error: {error}")
