"""Exports networks of keras.applications as somebody else would have trained and saved them: ``make own-networks``.

Each network gets a head on features of the sample pack; its pixels are scaled outside by its own preprocess_input, and
``model.save`` saves it. It is exported to int8 and fp16 with the right ``--input-range`` and with a wrong one. The
results go to ``results/own-networks/``, and a table of them into docs/how-to/own-keras-model.md.
"""

from __future__ import annotations

import argparse
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
from pneumo_edge.converters.export import Exported
from pneumo_edge.data import sample
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
_FORMATS = ("tflite-int8", "tflite-fp16")


@dataclass(frozen=True)
class Outcome:
    """One network.

    Attributes:
        network: Name of its row in the table of backbones.
        saved_as: Ending of its file, and what its last layer gives.
        weights: What its backbone started from.
        input_range: The right one.
        notes: What the export told.
        agreement: Of the formats that passed, the least share of validation images that an engine decides like Keras.
        failures: Of the other formats, why.
        wrong_input_range: Another one.
        refusal: What the export said to that one.
        seconds: Of the export with the right one.
    """

    network: str
    saved_as: str
    weights: str
    input_range: str
    notes: tuple[str, ...]
    agreement: dict[str, float]
    failures: dict[str, str]
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


_COLUMNS = ("network", "saved as", "weights", "`--input-range`", "right", "`int8`", "`fp16`", "another range")


def table(results: Results) -> str:
    """A Markdown table of the networks, a row each."""
    rows = [_COLUMNS, tuple("---" for _ in _COLUMNS)]
    for each in results.networks.values():
        right = re.search(r"right on ([\d.]+%)", " ".join(each.notes))
        refused = re.search(r"would be right (\d+%) .* as given, (\d+%)", each.refusal)
        rows.append(
            (
                backbones.backbone_title(each.network),
                each.saved_as,
                each.weights.partition(",")[0],
                each.input_range,
                right[1] if right else "",
                *(_format(each, name) for name in _FORMATS),
                f"{each.wrong_input_range} is refused: right {refused[2]}" if refused else "is not refused",
            )
        )
    return pages.rows(rows)


def _format(outcome: Outcome, name: str) -> str:
    """How often a file decides like the Keras model, or why it did not pass."""
    if name in outcome.agreement:
        return f"{outcome.agreement[name]:.1%}"
    failure = outcome.failures[name].partition(" has a ")[2] or outcome.failures[name].partition(" has ")[2]
    found, _, expected = failure.partition(" against the Keras model; expected ")
    return f"fails: {found}, {expected.partition('. ')[0].partition(',')[0]}"


def measure(name: str, weights: Path | None, data: Path, place: Path) -> Outcome:
    """Build, save and export one network.

    Args:
        name: Of a row of the table of backbones.
        weights: A folder with ImageNet's weights, which are taken where it has the network's.
        data: The sample pack.
        place: Folder for what is made.
    """
    keras = extras.need("keras", "train")
    keras.utils.set_random_seed(NAMES.index(name))
    row = backbones.variant(name, side=_SIDE)
    dataset = prepare(open_source(data), cache_folder(), _SIDE, _SIDE)
    initial = _initial(row, weights)
    is_softmax = NAMES.index(name) % 2 == 1
    # Keras does not read .h5 files with the operators of MobileNetV3.
    ending = "keras" if "v3" in name or NAMES.index(name) // 2 % 2 else "h5"
    path = place / f"own {name}.{ending}"
    _train_head(row, initial, dataset, is_softmax).save(path)
    right = next((key for key, each in SCALINGS.items() if each == row.scaling), "0..255")
    wrong = "0..1" if right == "0..255" else "0..255"
    notes: list[str] = []
    refusal, agreement, failures = "", {}, {}

    def export(input_range: str, out: str) -> Iterator[Exported]:
        options = OwnOptions(input_range=input_range)
        return convert(path, _FORMATS, place / out, data, options, notes.append)

    def shown(text: object) -> str:
        return str(text).replace(f"{place}{os.sep}", "")

    try:
        list(export(wrong, "wrong"))
    except PneumoEdgeError as error:
        refusal = shown(error)
    notes.clear()
    started = time.monotonic()
    for outcome in export(right, "models"):
        if outcome.spec and outcome.spec.verification:
            measured = outcome.spec.verification.measured.values()
            agreement[outcome.row.id] = min(each["agreement"] for each in measured)
        else:
            failures[outcome.row.id] = shown(outcome.missed)
    keras.backend.clear_session()
    return Outcome(
        name,
        f"{ending}, {'softmax of two' if is_softmax else 'sigmoid of one'}",
        initial.description,
        right,
        tuple(map(shown, notes)),
        agreement,
        failures,
        wrong,
        refusal,
        round(time.monotonic() - started, 1),
    )


def _initial(row: Backbone, weights: Path | None) -> InitialWeights:
    path = weights / row.pretrained.file if weights and row.pretrained else None
    return InitialWeights(f"ImageNet, {path.name}", path) if path and path.is_file() else RANDOM


def _train_head(row: Backbone, initial: InitialWeights, dataset: Dataset, is_softmax: bool) -> Any:
    """A network as a script makes one: pixels scaled outside, a frozen backbone, a dense layer fitted on top."""
    keras = extras.need("keras", "train")
    indices = dataset.indices("train")
    pixels, labels = dataset.rgb(indices), dataset.labels(indices)
    whole = network.build(row, initial, 0.0, pixels[np.linspace(0, len(pixels) - 1, 256).astype(int)], 2)
    base = next(layer for layer in whole.layers if isinstance(layer, keras.Model))
    preprocess = sys.modules[pkgutil.resolve_name(row.builder).__module__].preprocess_input
    extractor = keras.Model(base.inputs, keras.layers.GlobalAveragePooling2D()(base.output))
    features = extractor.predict(preprocess(pixels.astype(np.float32)), batch_size=32, verbose=0)
    # One number for all features: each by its own would give those that hardly vary the largest weights.
    deviation = features.std()
    dense = keras.layers.Dense(2 if is_softmax else 1, activation="softmax" if is_softmax else "sigmoid")
    head = keras.Sequential([keras.Input(features.shape[1:]), dense])
    head.compile(keras.optimizers.Adam(1e-2), f"{'sparse_categorical' if is_softmax else 'binary'}_crossentropy")
    head.fit(features / deviation, labels, epochs=60, verbose=0)
    kernel, bias = dense.get_weights()
    model = keras.Sequential([keras.Input(base.input_shape[1:]), base, keras.layers.GlobalAveragePooling2D(), dense])
    dense.set_weights([kernel / deviation, bias])
    return model


def main() -> None:
    """Measure networks, and write the results of each as soon as it is known."""
    parser = argparse.ArgumentParser(description="Export networks of keras.applications as users save them.")
    parser.add_argument("--weights", type=Path, help="a folder with ImageNet's weights")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only put the results into the page")
    parser.add_argument("names", nargs="*", default=list(NAMES), metavar="NAME")
    given = parser.parse_args()
    if given.table:
        pages.put_table(PAGE, "own-networks", table(records.loads(Results, given.out.read_bytes())))
        return
    data = sample.find()
    if data is None:
        raise SystemExit("the sample pack is not there; run this in the repository")
    found: dict[str, Outcome] = records.loads(Results, given.out.read_bytes()).networks if given.out.exists() else {}
    libraries = {name: version(name) for name in ("keras", "tensorflow", "ai-edge-litert")}
    cache_folder().mkdir(parents=True, exist_ok=True)
    for name in given.names:
        with scratch.folder(cache_folder()) as place:
            outcome = measure(name, given.weights, data, place)
        found = {each: (found | {name: outcome})[each] for each in NAMES if each in {*found, name}}
        results = Results(libraries, f"{data.name} of this repository", _SIDE, found)
        files.write_text(given.out, records.document(results))
        if given.out == RESULTS:
            pages.put_table(PAGE, "own-networks", table(results))
        print(f"{name}: {outcome.agreement} {outcome.failures}; wrong: {outcome.refusal or 'NOT REFUSED'}", flush=True)


if __name__ == "__main__":
    main()
