"""How fast training is: against the same steps on data in memory, and against the report's pipeline.

``make bench-training`` runs both comparisons and prints their ratios.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_edge._util import extras, native_output
from pneumo_edge._util.cache import cache_folder
from pneumo_edge._util.progress import bar
from pneumo_edge.backbones import BACKBONES, SIDE, Backbone
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.errors import PneumoEdgeError
from pneumo_edge.training import initial_weights, network, reproduction
from pneumo_edge.training.fit import train, trainer, training_images
from pneumo_edge.training.initial_weights import InitialWeights
from pneumo_edge.training.phases import batches, compile_model
from pneumo_edge.training.recipes import RECIPES, Phase
from pneumo_edge.training.report_recipes import REPRODUCTIONS

_STEPS, _ROUNDS = 12, 5
_REPORT_RECIPE, _REPORT_EPOCHS = "report-mobilenet-both", 4


@dataclass(frozen=True)
class PipelineSpeed:
    """Seconds per step of one phase, a pair for each round: reading and augmenting, and on one batch in memory."""

    side: int
    steps: int
    pipeline: tuple[float, ...]
    memory: tuple[float, ...]

    @property
    def relative(self) -> float:
        """Median over the rounds of the speed with the pipeline over the speed in memory; 1 is as fast."""
        return float(np.median(np.array(self.memory) / np.array(self.pipeline)))


def measure_pipeline(
    backbone: Backbone,
    weights: InitialWeights,
    phase: Phase,
    dataset: Dataset,
    steps: int,
    rounds: int,
    done: Callable[[int], None],
) -> PipelineSpeed:
    """Fit the same network by turns on the real pipeline and on a batch that is in memory.

    Args:
        backbone: The backbone.
        weights: Where it starts from.
        phase: The phase whose images and augmentation are read.
        dataset: The data.
        steps: Steps in each turn.
        rounds: Pairs of turns; which of the two comes first alternates.
        done: Hears of each turn's steps.
    """
    images = training_images(dataset, phase)
    pixels = dataset.rgb(images.indices[:256])
    model = trainer(network.build(backbone, weights, 0.0, pixels, len(dataset.manifest.task.class_names)), phase.side)
    compile_model(model, phase, 2 * steps * rounds)
    rng = np.random.default_rng(0)
    order = rng.choice(len(images.indices), phase.batch_size, replace=False)
    held = images.read(images.indices[order], rng), images.labels[order]

    def turn(data: Any) -> float:
        started = time.perf_counter()
        model.fit(data, epochs=1, shuffle=False, verbose=0)
        done(steps)
        return (time.perf_counter() - started) / steps

    def from_pipeline(number: int) -> Any:
        drawn = rng.choice(len(images.indices), steps * phase.batch_size, replace=False)
        return batches(images, drawn, phase.batch_size, (0, number))

    turn(_repeated(held, steps))
    pairs = []
    for number in range(rounds):
        if number % 2:
            memory = turn(_repeated(held, steps))
            pairs.append((turn(from_pipeline(number)), memory))
        else:
            pairs.append((turn(from_pipeline(number)), turn(_repeated(held, steps))))
    pipeline, memory_seconds = zip(*pairs, strict=True)
    return PipelineSpeed(phase.side, steps, pipeline, memory_seconds)


def _repeated(batch: tuple[Any, Any], steps: int) -> Any:
    keras = extras.need("keras", "train")

    class Repeated(keras.utils.PyDataset):  # type: ignore[misc, name-defined]
        """One batch, again and again."""

        def __len__(self) -> int:
            return steps

        def __getitem__(self, step: int) -> tuple[Any, Any]:
            return batch

    return Repeated(workers=1)


@dataclass(frozen=True)
class TimeToAuc:
    """Seconds until a validation AUC is reached, from ImageNet weights and decoded pixels.

    ``auc`` and ``seconds`` are of the recipe ``quick``; ``report`` has (seconds so far, AUC) after each
    epoch of the report's corrected twin, until it reaches that AUC or its epochs are over.
    """

    auc: float
    seconds: float
    report: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        seconds, reached = self.report[-1]
        sign = "" if reached >= self.auc else "more than "
        return (
            f"validation AUC {self.auc:.4f}: recipe quick {self.seconds:.0f} s; ImageDataGenerator "
            f"{sign}{seconds:.0f} s (AUC by epoch: {', '.join(f'{value:.4f}' for _, value in self.report)}); "
            f"{sign}{seconds / self.seconds:.1f} times as fast"
        )


def measure_time_to_auc(weights: InitialWeights, dataset: Dataset, data_path: Path, epochs: int) -> TimeToAuc:
    """Train MobileNetV2 by ``quick``, then by the report's pipeline until it reaches the same AUC.

    Of the report's runs it takes the twin whose scaling and batch norm are right, without which that
    pipeline hardly learns. Both train on the same images and are evaluated on the same validation split.

    Args:
        weights: Where both start from.
        dataset: The data.
        data_path: Where it lies.
        epochs: The most epochs of the report's pipeline.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        place = Path(folder)
        run = train(
            BACKBONES["mobilenetv2"], RECIPES["quick"], weights, dataset, data_path, place / "run", place / "cache", 0
        )
        seconds = time.perf_counter() - started
    reached = run.training.validation["auc"]

    recipe = REPRODUCTIONS[_REPORT_RECIPE]
    feed = reproduction.Feed(recipe, dataset, dataset.indices("train"), dataset.indices("val"), 0)
    started = time.perf_counter()
    net = reproduction.build(recipe, weights, dataset.rgb(dataset.indices("train")[:256]))
    phase = recipe.phases[0]
    reproduction.compile_network(net, recipe, phase, [])
    report: list[tuple[float, float]] = []
    with bar(f"Training: {recipe.name}", epochs * feed.steps) as advance:
        while len(report) < epochs and not (report and report[-1][1] >= reached):
            row = reproduction.fit_epoch(net, phase, len(report), feed, len(report), advance, "")
            report.append((time.perf_counter() - started, row.val_auc))
    return TimeToAuc(reached, seconds, tuple(report))


def main() -> None:
    """Measure both on MobileNetV2 and print the ratios."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with class folders")
    parser.add_argument("--weights", type=Path, help="ImageNet weights: a file or a folder")
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with native_output.quiet_stderr():
            extras.need("keras", "train")
        backbone = BACKBONES["mobilenetv2"]
        dataset = prepare(open_source(given.data), cache_folder(), SIDE, SIDE)
        weights = initial_weights.find(backbone, given.weights, trained=False)
        phase = RECIPES["best"].fine_tune[0]
        with bar("Training: steps by turns", (2 * _ROUNDS + 1) * _STEPS) as advance:
            speed = measure_pipeline(
                backbone, weights, phase, dataset, _STEPS, _ROUNDS, lambda steps: advance(steps, "")
            )
        print(
            f"fine-tuning step of {backbone.name}, best: {np.median(speed.pipeline):.3f} s with reading and "
            f"augmentation, {np.median(speed.memory):.3f} s in memory; {speed.relative:.1%} of the speed in memory"
        )
        print(measure_time_to_auc(weights, dataset, given.data, _REPORT_EPOCHS))
    except PneumoEdgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
