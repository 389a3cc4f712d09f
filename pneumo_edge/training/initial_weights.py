"""Finds the initial weights of a backbone: a file, else downloaded ImageNet weights, the bundled model, or random."""

from __future__ import annotations

import os
import pkgutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_edge import backbones, bundled, spec
from pneumo_edge._util import connectivity, extras, files
from pneumo_edge.backbones import Backbone
from pneumo_edge.errors import ModelFileError, TrainingError
from pneumo_edge.spec import RANDOM_WEIGHTS, ModelSpec
from pneumo_edge.training import tflite_weights, weights_file

#: Seconds between two pieces of a download.
_PATIENCE = 30.0
#: Digits of a hash in a description.
_DIGITS = 16
#: Standard deviation of ImageNet's pixels by channel, in units of 0 to 1.
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class InitialWeights:
    """Initial weights of a backbone; ``path`` is the file to load, None where its builder gives them.

    ``description`` names the file and its hash, for the record of a run; of random numbers it says so.
    """

    description: str
    path: Path | None = None

    @property
    def random(self) -> bool:
        """Whether there are no pretrained weights."""
        return self.description == RANDOM_WEIGHTS


RANDOM = InitialWeights(RANDOM_WEIGHTS)


def find(backbone: Backbone, given: Path | None, *, trained: bool = True) -> InitialWeights:
    """Find the initial weights, and check that they fit.

    Args:
        backbone: The backbone.
        given: A file of weights that Keras saved, a TFLite file of the same backbone, a folder that has
            the file of its :class:`~pneumo_edge.backbones.Pretrained`, or None.
        trained: Whether the bundled model may be used, which was already trained on chest X-rays.

    Returns:
        The given file; without one, the ImageNet weights, downloaded by Keras; if that fails, the weights of the
        bundled model; else random numbers. If ImageNet weights are replaced, a note on standard error says so.

    Raises:
        TrainingError: The given path has no such file, or its weights are not exactly those of the backbone.
    """
    if given is not None:
        return _checked(backbone, _given(backbone, given))
    if backbone.pretrained and backbone.pretrained.url:
        try:
            path = _download(backbone.pretrained.url, backbone.pretrained.md5)
        except Exception as error:  # Keras raises a bare Exception if a download fails
            lost = f"The ImageNet weights of {backbone.title} could not be downloaded ({str(error)[:120]}). "
        else:
            return _checked(backbone, InitialWeights(f"ImageNet, downloaded by Keras {_hash(path)}", path))
    else:
        lost = f"No pretrained weights of {backbone.title} can be downloaded. "
    remedy = "To use ImageNet weights, give --weights or set PNEUMO_EDGE_WEIGHTS."
    if backbone.pretrained and backbone.pretrained.remedy:
        remedy = f"To use ImageNet weights: {backbone.pretrained.remedy}."
    if trained and backbone.weights_of in bundled.NAMES:
        path = bundled.path(backbone.weights_of)
        record = spec.read(path)
        text = (
            f"bundled {record.name} {_hash(path)}, trained on {record.data.name}; "
            "the sample pack's training images were among its own"
        )
        _say(f"{lost}Training starts from the bundled {record.name}. {remedy}")
        return _checked(backbone, InitialWeights(text, path))
    _say(
        f"WARNING: {lost}Training starts from RANDOM weights: the result shows that the software works, but says "
        f"nothing about accuracy. {remedy}"
    )
    return RANDOM


def build_base(backbone: Backbone, weights: InitialWeights, side: int) -> Any:
    """Build a backbone with its initial weights, without its top.

    Args:
        backbone: The backbone.
        weights: From :func:`find`.
        side: Height and width of the images.

    Returns:
        A ``keras.Model`` from pixels, scaled as its application expects, to a feature map.

    Raises:
        TrainingError: The weights are not exactly those of the backbone.
    """
    extras.need("keras", "train")
    builder = pkgutil.resolve_name(backbone.builder)
    base = builder(include_top=False, weights=None, input_shape=(side, side, 3), **backbone.options)
    if weights.path is None:
        return base
    try:
        if weights.path.suffix == spec.TFLITE.suffix:
            tflite_weights.take(base.layers, weights.path.read_bytes(), backbone.scaling)
        else:
            weights_file.load(base, weights.path)
            _complete_normalization(base)
    except weights_file.DoesNotFitError as error:
        raise TrainingError(
            f"{weights.path} does not contain the weights of {backbone.title} ({str(error)[:300]})",
            "exactly the weights of that application with include_top=False, as Keras saves them",
            "Give another --weights",
        ) from error
    return base


def _given(backbone: Backbone, given: Path) -> InitialWeights:
    pretrained = backbone.pretrained
    path = given / pretrained.file if pretrained and given.is_dir() else given
    if not path.is_file():
        folder = f", or a folder with {pretrained.file}" if pretrained else ""
        raise TrainingError(
            f"there are no weights at {path}",
            f"a weights file of {backbone.title} without its top{folder}",
            (pretrained.remedy if pretrained else "")
            or f"Give another --weights, or omit it{' to download them' if pretrained else ''}",
        )
    text = f"from {path.name} {_hash(path)}"
    if path.suffix == spec.TFLITE.suffix:
        return InitialWeights(f"{text}, trained on {_spec_of(backbone, path).data.name}", path)
    known = pretrained is not None and files.sha256(path) in pretrained.sha256
    return InitialWeights(f"ImageNet, {text}" if known else text, path)


def _spec_of(backbone: Backbone, path: Path) -> ModelSpec:
    try:
        record = spec.read(path)
    except ModelFileError as error:
        raise TrainingError(error.given, error.expected, "Give another --weights") from error
    found = backbones.find(record.backbone)
    if backbone.weights_of != (found.weights_of if found else record.backbone):
        raise TrainingError(f"{path} is a {record.backbone}", f"a {backbone.name}", "Give another --weights")
    return record


def _checked(backbone: Backbone, weights: InitialWeights) -> InitialWeights:
    # Check the weights before the run records them.
    build_base(backbone, weights, backbone.side)
    return weights


def _download(url: str, md5: str | None) -> Path:
    """Return the path of a backbone's ImageNet weights in Keras's cache; download them in one attempt if needed."""
    keras = extras.need("keras", "train")
    name = url.rpartition("/")[2]
    folders = (os.environ.get("KERAS_HOME") or Path("~/.keras").expanduser(), "/tmp/.keras")
    if not any(Path(folder, "models", name).is_file() for folder in folders):
        connectivity.check(url)
    with connectivity.patience(_PATIENCE):
        kept = keras.utils.get_file(name, url, cache_subdir="models", file_hash=md5)
    return Path(kept)


def _complete_normalization(base: Any) -> None:
    """Correct a normalization layer that has the standard deviation instead of the variance.

    Keras's own file of EfficientNetB0 has this error. Keras adds a correcting layer for this file only
    (https://github.com/tensorflow/tensorflow/issues/49930).
    """
    keras = extras.need("keras", "train")
    for layer in base.layers:
        if isinstance(layer, keras.layers.Normalization):
            mean, variance, *others = layer.get_weights()
            if np.allclose(variance, _IMAGENET_DEVIATION, rtol=1e-3):
                layer.set_weights([mean, variance**2, *others])
                layer.finalize_state()


def _hash(path: Path) -> str:
    return f"(sha256 {files.sha256(path)[:_DIGITS]})"


def _say(message: str) -> None:
    print(message, file=sys.stderr)
