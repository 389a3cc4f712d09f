"""Runs docs/how-to/own-keras-model.md: a script of its own kind, one command, and what that says of a wrong scaling."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pneumo_edge import Classifier, bundled
from pneumo_edge._util import extras
from pneumo_edge.backbones import BACKBONES
from pneumo_edge.converters import isolated
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import prepare
from pneumo_edge.training import initial_weights
from tests import pages

_OWN = f"tests/{Path(__file__).name}"
_SCRIPT, _EXPORT = (
    block for block in pages.blocks(pages.REPOSITORY / "docs" / "how-to" / "own-keras-model.md") if block.reason == _OWN
)


#: ImageNet's weights are not in the repository; the bundled ones are. They expect pixels of -1 to 1, and with those the
#: script's network would be right as often as with its own 0 to 1: so the first layer is made to expect these.
def _save_weights(path: Path) -> None:
    """In the converters' process."""
    weights = initial_weights.InitialWeights("bundled", bundled.path("mobilenetv2"))
    base = initial_weights.build_base(BACKBONES["mobilenetv2"], weights, 96)
    convolution, norm = base.get_layer("Conv1"), base.get_layer("bn_Conv1")
    (kernel,), (gamma, beta, mean, variance) = convolution.get_weights(), norm.get_weights()
    convolution.set_weights([2 * kernel])
    norm.set_weights([gamma, beta, mean + kernel.sum(axis=(0, 1, 2)), variance])
    base.save_weights(path)


def _answers(model: Path, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """In the converters' process."""
    import keras

    said = keras.saving.load_model(model, compile=False).predict(pixels.astype(np.float32) / 255, verbose=0)
    return np.asarray(said[:, 0])


@pytest.mark.slow
def test_a_script_of_its_own_and_one_command(
    sample_pack: Path, converter: isolated.Child, tmp_path: Path, offline: Mapping[str, str]
) -> None:
    if not extras.is_installed("tensorflow"):
        pytest.skip("the extras 'train' and 'convert' are not installed")
    (tmp_path / "chest_xray").symlink_to(sample_pack)
    converter.call(_save_weights, tmp_path / "taken.weights.h5")
    text = _SCRIPT.text.replace("SIZE = 224", "SIZE = 96").replace('"imagenet"', '"taken.weights.h5"')
    # Trained with larger steps, from one seed: fewer answers lie near the threshold, where int8 changes decisions.
    text = text.replace('"adam"', "keras.optimizers.Adam(0.01)")
    assert text.count("96") == 1 and "taken" in text and "Adam(0.01)" in text
    pages.python(f"import keras\nkeras.utils.set_random_seed(1)\n{text}", tmp_path, offline)
    pages.run(_EXPORT, tmp_path, offline)

    dataset = prepare(open_source(sample_pack), tmp_path / "pixels", 96, 96)
    indices = dataset.indices("test")
    of_keras = converter.call(_answers, tmp_path / "model.h5", dataset.rgb(indices))
    classifier = Classifier(tmp_path / "models" / "model-int8.tflite", engine="litert")
    positive = classifier.spec.task.class_names.index("PNEUMONIA")
    of_file = np.array([classifier.engine.run(classifier.as_input(each))[positive] for each in dataset.rgb(indices)])
    assert np.mean((of_keras >= 0.5) == (of_file >= 0.5)) >= 0.98
    assert np.mean((of_file >= 0.5) == dataset.labels(indices)) > 0.8
    with (tmp_path / "models" / "model-run" / "validation.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(dataset.indices("val"))

    command = [sys.executable, "-m", "pneumo_edge", "export", "model.h5", "--data", "chest_xray"]
    command += ["--input-range", "0..255", "--out", "wrong"]
    done = subprocess.run(command, cwd=tmp_path, env=offline, capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    right = r"error: with --input-range 0\.\.1 model\.h5 would be right 9\d% of the time, with 0\.\.255, as given, \d"
    assert re.search(right, done.stderr), done.stderr
    assert re.search(r"Give --input-range 0\.\.1( \(.*\))?, or --accept-input-range to keep 0\.\.255", done.stderr)
    assert not (tmp_path / "wrong").exists()
