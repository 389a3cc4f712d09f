"""Exports networks of keras.applications as somebody else would have trained and saved them: ``make own-networks``.

Each network is trained for a few hundred steps on the images that are given; its pixels are scaled outside by its own
preprocess_input, and ``model.save`` saves it. One command then exports it to int8 and, where that fails, in mixed
precision; the same command with a wrong ``--input-range`` is refused. The results go to ``results/own-networks/``, and
a table of them into docs/how-to/own-keras-model.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pkgutil
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_edge import backbones
from pneumo_edge._util import extras, files, records, scratch
from pneumo_edge._util.cache import cache_folder
from pneumo_edge.api.export import OwnOptions, convert
from pneumo_edge.backbones import Backbone
from pneumo_edge.converters import proof
from pneumo_edge.converters.export import Exported
from pneumo_edge.data.datasource import DataSource
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.errors import PneumoEdgeError
from pneumo_edge.scaling import SCALINGS
from pneumo_edge.training import network
from pneumo_edge.training.initial_weights import RANDOM, InitialWeights
from tools import pages

RESULTS = Path("results", "own-networks", "results.json")
PAGE = Path("docs", "how-to", "own-keras-model.md")
_SIDE = 96
#: Those of keras.applications that are made for phones and boards, and two larger ones.
NAMES = (
    "mobilenet", "mobilenetv2", "mobilenetv3small", "mobilenetv3small-minimalistic", "mobilenetv3large",
    "mobilenetv3large-minimalistic", "efficientnetb0", "efficientnetb1", "efficientnetv2b0", "nasnetmobile", "resnet50",
    "densenet121",
)  # fmt: skip
#: In the order of the command; the second is searched where the first fails.
INT8, MIXED = "tflite-int8", "tflite-mixed"
_BATCH, _STEPS = 32, 100
#: The export gets images that the training has not seen, in these shares for calibration and for validation.
_SHARES = "40/60"
#: From random weights, and from ImageNet's.
_LEARNING_RATE, _FINE_TUNING_RATE = 1e-3, 3e-4
#: Of the moving averages of batch norm. With Keras's 0.99 or 0.999 they would lag behind the weights for longer than
#: the training takes, and the saved network would answer otherwise than the one that was trained.
_MOMENTUM = 0.9


@dataclass(frozen=True)
class Outcome:
    """One network.

    Attributes:
        network: Name of its row in the table of backbones.
        saved_as: Ending of its file, and what its last layer gives.
        weights: What its backbone started from.
        images: How many the training saw, each as often as it was drawn.
        input_range: The right one.
        notes: What the export told.
        agreement: Of the formats that passed, the share of validation images that LiteRT decides like Keras.
        failures: Of the other formats, why.
        in_float: In mixed precision, how many operators are in float32.
        operators: Of how many.
        validation_images: How many there are.
        wrong_input_range: Another one.
        refusal: What the export said to that one.
        seconds: Of the export with the right one.
    """

    network: str
    saved_as: str
    weights: str
    images: int
    input_range: str
    notes: tuple[str, ...]
    agreement: dict[str, float]
    failures: dict[str, str]
    in_float: int
    operators: int
    validation_images: int
    wrong_input_range: str
    refusal: str
    seconds: float


@dataclass(frozen=True)
class Results:
    """All networks, by name, and what exported them."""

    versions: dict[str, str]
    data: str
    side: int
    networks: dict[str, Outcome]


_COLUMNS = ("network", "saved as", "weights", "`--input-range`", "right", "`int8`", "`mixed`", "another range")


def table(results: Results) -> str:
    """A Markdown table of the networks, a row each, and the names of those that have no record."""
    rows = [_COLUMNS, tuple("---" for _ in _COLUMNS)]
    for each in results.networks.values():
        refused = re.search(r"would be right (\d+%) .* as given, (\d+%)", each.refusal)
        rows.append(
            (
                backbones.backbone_title(each.network),
                each.saved_as,
                each.weights.partition(",")[0],
                each.input_range,
                refused[1] if refused else "",
                _format(each, INT8),
                f"{_format(each, MIXED)}{_in_float(each)}" if INT8 in each.failures else "not needed",
                f"{each.wrong_input_range} is refused: right {refused[2]}" if refused else "is not refused",
            )
        )
    missing = [backbones.backbone_title(name) for name in NAMES if name not in results.networks]
    return pages.rows(rows) + (f"\nNot measured yet: {', '.join(missing)}.\n" if missing else "")


def _format(outcome: Outcome, name: str) -> str:
    """How often a file decides like the Keras model, or why it did not pass."""
    if name in outcome.agreement:
        return f"{outcome.agreement[name]:.1%}"
    failure = outcome.failures[name].partition(" has a ")[2] or outcome.failures[name].partition(" has ")[2]
    found, _, expected = failure.partition(" against the Keras model; expected ")
    return f"fails: {found}, {expected.partition('. ')[0].partition(',')[0]}"


def _in_float(outcome: Outcome) -> str:
    number = f"{outcome.in_float} of {outcome.operators} operators" if outcome.in_float else "no operator"
    return f", {number} in float32" if MIXED in outcome.agreement else ""


def measure(name: str, weights: Path | None, data: Path, place: Path, steps: int = _STEPS) -> Outcome:
    """Train, save and export one network.

    Args:
        name: Of a row of the table of backbones.
        weights: A folder with ImageNet's weights, which are taken where it has the network's.
        data: X-rays with a label each.
        place: Folder for what is made. A network that was saved there is not trained again.
        steps: Steps of training, of 32 images each.
    """
    keras = extras.need("keras", "train")
    row = backbones.variant(name, side=_SIDE)
    initial = _initial(row, weights)
    is_softmax = NAMES.index(name) % 2 == 1
    # Keras does not read .h5 files with the operators of MobileNetV3.
    ending = "keras" if "v3" in name or NAMES.index(name) // 2 % 2 else "h5"
    path = place / f"own {name}.{ending}"
    dataset = prepare(open_source(data), cache_folder(), _SIDE, _SIDE)
    if not path.exists():
        keras.utils.set_random_seed(NAMES.index(name))
        trained = _train(row, initial, dataset, is_softmax, steps)
        with files.atomic(path) as temporary:
            trained.save(temporary)
        del trained
        keras.backend.clear_session()
    right = next((key for key, each in SCALINGS.items() if each == row.scaling), "0..255")
    wrong = "0..1" if right == "0..255" else "0..255"
    unseen, notes = _unseen(dataset, data, place / "images"), list[str]()
    refusal, agreement, failures, in_float, operators, validation_images = "", {}, {}, 0, 0, 0

    def export(input_range: str, out: str) -> Iterator[Exported]:
        options = OwnOptions(input_range=input_range)
        return convert(path, (INT8, MIXED), place / out, unseen, options, notes.append)

    def shown(text: object) -> str:
        return str(text).replace(f"{place}{os.sep}", "")

    try:
        list(export(wrong, f"{name}-wrong"))
    except PneumoEdgeError as error:
        refusal = shown(error)
    notes.clear()
    started = time.monotonic()
    for outcome in export(right, name):
        if outcome.spec is None:
            failures[outcome.row.id] = shown(outcome.missed)
            continue
        found = proof.load(outcome.path)
        # The first engine classifies all of them.
        first = next(iter(found.verification.measured.values()))
        agreement[outcome.row.id], validation_images = first["agreement"], found.verification.images
        mixed = found.calibration.mixed_precision if found.calibration else None
        if mixed:
            in_float, operators = len(mixed.in_float), mixed.operators
        # Where int8 passes, nothing is left to be searched.
        break
    return Outcome(
        name,
        f"{ending}, {'softmax of two' if is_softmax else 'sigmoid of one'}",
        initial.description,
        steps * _BATCH,
        right,
        tuple(map(shown, notes)),
        agreement,
        failures,
        in_float,
        operators,
        validation_images,
        wrong,
        refusal,
        round(time.monotonic() - started, 1),
    )


def _initial(row: Backbone, weights: Path | None) -> InitialWeights:
    path = weights / row.pretrained.file if weights and row.pretrained else None
    return InitialWeights(f"ImageNet, {path.name}", path) if path and path.is_file() else RANDOM


def _unseen(dataset: Dataset, data: Path, folder: Path) -> DataSource:
    """A data set of the validation images alone, in class folders of links."""
    for entry in dataset.entries(dataset.indices("val")):
        link = folder / dataset.manifest.task.class_names[entry.label] / Path(entry.name).name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to((data / entry.name).resolve())
    return DataSource(str(folder), split=_SHARES)


def _train(row: Backbone, initial: InitialWeights, dataset: Dataset, is_softmax: bool, steps: int) -> Any:
    """A network as a script makes one: pixels scaled outside, a backbone, a dense layer, all of it trained."""
    keras = extras.need("keras", "train")
    indices = dataset.indices("train")
    labels = dataset.labels(indices)
    spread = indices[np.linspace(0, len(indices) - 1, 256).astype(int)]
    whole = network.build(row, initial, 0.0, dataset.rgb(spread), 2)
    base = next(layer for layer in whole.layers if isinstance(layer, keras.Model))
    for layer in network.batch_norm_layers(base):
        layer.momentum = _MOMENTUM
        layer.trainable = initial.random
    dense = keras.layers.Dense(2 if is_softmax else 1, activation="softmax" if is_softmax else "sigmoid")
    model = keras.Sequential([keras.Input(base.input_shape[1:]), base, keras.layers.GlobalAveragePooling2D(), dense])
    highest = _LEARNING_RATE if initial.random else _FINE_TUNING_RATE
    rate = keras.optimizers.schedules.CosineDecay(
        highest / 10, steps - steps // 10, warmup_target=highest, warmup_steps=steps // 10
    )
    loss = "sparse_categorical_crossentropy" if is_softmax else "binary_crossentropy"
    model.compile(keras.optimizers.AdamW(rate), loss, jit_compile=False)
    preprocess = sys.modules[pkgutil.resolve_name(row.builder).__module__].preprocess_input
    by_class, random = [np.flatnonzero(labels == label) for label in (0, 1)], np.random.default_rng(0)
    for _ in range(steps):
        drawn = np.concatenate([random.choice(each, _BATCH // 2, replace=False) for each in by_class])
        pixels = dataset.rgb(indices[drawn]).astype(np.float32)
        if random.random() < 0.5:
            pixels = pixels[:, :, ::-1]
        model.train_on_batch(preprocess(pixels), labels[drawn])
    return model


def main() -> None:
    """Measure networks, and write the results of each as soon as it is known."""
    parser = argparse.ArgumentParser(description="Export networks of keras.applications as users save them.")
    parser.add_argument("--data", type=Path, help="X-rays with a label each, as `pneumo-edge train` takes them")
    parser.add_argument("--weights", type=Path, help="a folder with ImageNet's weights")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--models", type=Path, help="keep the networks and their files there; one there is not trained")
    parser.add_argument("--steps", type=int, default=_STEPS, help="of training")
    parser.add_argument("names", nargs="*", metavar="NAME", help="by default those that have no record")
    given = parser.parse_args()
    found: dict[str, Outcome] = records.loads(Results, given.out.read_bytes()).networks if given.out.exists() else {}
    if given.data is None:
        pages.put_table(PAGE, "own-networks", table(records.loads(Results, given.out.read_bytes())))
        return
    libraries = {name: version(name) for name in ("keras", "tensorflow", "ai-edge-litert")}
    cache_folder().mkdir(parents=True, exist_ok=True)
    for name in given.names or [each for each in NAMES if each not in found]:
        kept = given.models and given.models / f"{name}-{given.steps}"
        with contextlib.nullcontext(kept) if kept else scratch.folder(cache_folder()) as place:
            place.mkdir(parents=True, exist_ok=True)
            outcome = measure(name, given.weights, given.data, place, given.steps)
        found = {each: (found | {name: outcome})[each] for each in NAMES if each in {*found, name}}
        results = Results(libraries, open_source(given.data).title, _SIDE, found)
        files.write_text(given.out, records.document(results))
        if given.out == RESULTS:
            pages.put_table(PAGE, "own-networks", table(results))
        print(f"{name}: {outcome.agreement} {outcome.failures}; wrong: {outcome.refusal or 'NOT REFUSED'}", flush=True)


if __name__ == "__main__":
    main()
