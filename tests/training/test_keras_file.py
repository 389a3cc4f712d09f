"""A Keras model that somebody else saved is taken apart without a change to what it computes, or refused by name."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumo_edge import keras_file
from pneumo_edge.errors import ConversionError
from pneumo_edge.keras_file import open_network
from pneumo_edge.scaling import SCALINGS, parse

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")

_PIXELS = np.random.default_rng(0).integers(0, 256, (3, 40, 48, 3)).astype(np.float32)
_GREY = _PIXELS @ np.array([0.299, 0.587, 0.114], np.float32)


def _base(keras: Any, channels: int = 3) -> Any:
    """A small backbone with what Keras 2 and Keras 3 write otherwise."""
    layers = keras.layers
    image = keras.Input((40, 48, channels))
    tensor = layers.ReLU(6)(layers.BatchNormalization()(layers.Conv2D(6, 3, 2, padding="same")(image)))
    tensor = layers.Add()([tensor, layers.DepthwiseConv2D(3, padding="same")(tensor)])
    return keras.Model(image, tensor, name="base")


def _student(keras: Any) -> Any:
    base, layers = _base(keras), keras.layers
    pooled = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(base.output))
    return keras.Model(base.input, layers.Dense(1, activation="sigmoid")(pooled))


def _augmented(keras: Any) -> Any:
    layers = keras.layers
    augmentation = keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)])
    head = [layers.GlobalAveragePooling2D(), layers.Dense(5, "relu"), layers.BatchNormalization(), layers.Dropout(0.3)]
    last = layers.Dense(2, activation="softmax")
    return keras.Sequential([keras.Input((40, 48, 3)), augmentation, _base(keras), *head, last])


def _scales_itself(keras: Any) -> Any:
    layers, image = keras.layers, keras.Input((40, 48, 3))
    tensor = _base(keras)(layers.Rescaling(1 / 127.5, -1)(image), training=False)
    return keras.Model(image, layers.Dense(1)(layers.GlobalAveragePooling2D()(tensor)))


def _grey(keras: Any) -> Any:
    layers = keras.layers
    end = [layers.Flatten(), layers.Dense(4, "relu"), layers.Dense(1), layers.Activation("sigmoid")]
    return keras.Sequential([keras.Input((40, 48, 1)), _base(keras, 1), layers.MaxPooling2D(4), *end])


def _convolutional_head(keras: Any) -> Any:
    layers, base = keras.layers, _base(keras)
    tensor = layers.Conv2D(3, 1)(layers.GlobalAveragePooling2D(keepdims=True)(base.output))
    return keras.Model(base.input, layers.Softmax()(layers.Reshape((3,))(tensor)))


def _any_size(keras: Any) -> Any:
    layers, image = keras.layers, keras.Input((None, None, 3))
    tensor = layers.Conv2D(6, 3, activation="relu")(image / 255.0)
    return keras.Model(image, layers.Dense(3, use_bias=False)(layers.GlobalAveragePooling2D()(tensor)))


def _sigmoid(logit: Any) -> Any:
    return 1 / (1 + np.exp(-logit))


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("make", "scaling", "pools", "output"),
    [
        (_student, "0..1", True, "sigmoid"),
        (_augmented, "-1..1", False, "softmax"),
        (_scales_itself, "0..255", True, "logits"),
        (_grey, "0..1", False, "sigmoid"),
        (_convolutional_head, "caffe", False, "softmax"),
        (_any_size, "0..255", True, "logits"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_it_computes_what_it_did(
    keras: Any, make: Callable[[Any], Any], scaling: str, pools: bool, output: str, ending: str, tmp_path: Path
) -> None:
    if make is _any_size and ending == ".h5":
        pytest.skip("Keras writes operators such as a division into no .h5 file")
    keras.utils.set_random_seed(1)
    model, path = make(keras), tmp_path / f"own{ending}"
    for layer in model.layers:
        layer.set_weights(
            [array + 0.1 * np.random.default_rng(2).uniform(size=array.shape) for array in layer.get_weights()]
        )
    model.save(path)
    network = open_network(path)
    assert (network.pools, network.output) == (pools, output)
    assert network.size == (None if make is _any_size else (40, 48))
    said = network.assemble(parse(scaling), (40, 48)).predict(_PIXELS, verbose=0)
    pixels = _GREY[..., np.newaxis] / 255 if make is _grey else parse(scaling).apply(_PIXELS)
    expected = model.predict(pixels, verbose=0)
    if output == "logits":
        expected = _sigmoid(expected) if expected.shape[1] == 1 else np.exp(expected) / np.exp(expected).sum(1)[:, None]
    if expected.shape[1] == 1:
        expected = np.concatenate([1 - expected, expected], axis=1)
    assert said.std() > 0.01
    np.testing.assert_allclose(said, expected, atol=1e-5)


def test_what_is_made_of_it_is_read_by_keras_again_and_divides_logits(keras: Any, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    _student(keras).save(tmp_path / "own.keras")
    network = open_network(tmp_path / "own.keras")
    for temperature in (1.0, 4.0):
        network.assemble(SCALINGS["imagenet"], (40, 48), temperature).save(tmp_path / f"{temperature}.keras")
    cold, warm = (
        keras.saving.load_model(tmp_path / f"{temperature}.keras").predict(_PIXELS, verbose=0)[:, 1]
        for temperature in (1.0, 4.0)
    )
    np.testing.assert_allclose(np.log(warm / (1 - warm)), np.log(cold / (1 - cold)) / 4, atol=1e-5)


def test_a_file_of_keras_2_is_read(keras: Any, tmp_path: Path) -> None:
    """As tf.keras 2.15 and tf_keras 2.21 write it: a nested network with these arguments."""
    h5py = pytest.importorskip("h5py")
    keras.utils.set_random_seed(1)
    model, path = _augmented(keras), tmp_path / "own.h5"
    model.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for part in keras_file._parts(config):
            arguments = part["config"]
            if part["class_name"] == "DepthwiseConv2D":
                arguments["groups"] = 1
            if part["class_name"] == "BatchNormalization":
                arguments["axis"] = [3 if "pooling" not in part["config"]["name"] else 1]
            if part["class_name"].startswith("Random"):
                arguments["rng_type"] = "stateful"
        # The one behind the pooling has a vector.
        for part in keras_file._parts(config["config"]["layers"][-3:]):
            if part["class_name"] == "BatchNormalization":
                part["config"]["axis"] = [1]
        file.attrs["model_config"] = json.dumps(config).encode()
    said = open_network(path).assemble(parse("0..1"), (40, 48)).predict(_PIXELS, verbose=0)
    np.testing.assert_allclose(said, model.predict(_PIXELS / 255, verbose=0), atol=1e-5)


def _with_lambda(keras: Any) -> Any:
    image = keras.Input((40, 48, 3))
    tensor = keras.layers.Lambda(lambda pixels: pixels / 255, name="scale")(image)
    return keras.Model(image, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(tensor)))


def _custom(keras: Any) -> Any:
    class Twice(keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return 2 * inputs

    image = keras.Input((40, 48, 3))
    return keras.Model(image, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(Twice()(image))))


def _two_inputs(keras: Any) -> Any:
    one, other = keras.Input((40, 48, 3)), keras.Input((2,))
    pooled = keras.layers.GlobalAveragePooling2D()(one)
    return keras.Model([one, other], keras.layers.Dense(1)(keras.layers.Concatenate()([pooled, other])))


def _channels_first(keras: Any) -> Any:
    image = keras.Input((3, 40, 48))
    return keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(image)))


def _segments(keras: Any) -> Any:
    base = _base(keras)
    return keras.Model(base.input, base.output)


def _two_sigmoids(keras: Any) -> Any:
    base = _base(keras)
    pooled = keras.layers.GlobalAveragePooling2D()(base.output)
    return keras.Model(base.input, keras.layers.Dense(2, activation="sigmoid")(pooled))


def _softmax_of_one(keras: Any) -> Any:
    base = _base(keras)
    pooled = keras.layers.GlobalAveragePooling2D()(base.output)
    return keras.Model(base.input, keras.layers.Dense(1, activation="softmax")(pooled))


def _rectified(keras: Any) -> Any:
    base = _base(keras)
    return keras.Model(base.input, keras.layers.Activation("relu")(keras.layers.Flatten()(base.output)))


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_with_lambda, r"holds Python code \(scale\), which is not run; .* Rescaling"),
        (_custom, r"has custom objects \(Twice\), whose code is not in the file"),
        (_two_inputs, r"takes \(any, 40, 48, 3\) and \(any, 2\); expected one image"),
        (_channels_first, r"takes \(any, 3, 40, 48\); expected one image .* channels last"),
        (_segments, r"gives \(any, 20, 24, 6\); expected one number for each class"),
        (_two_sigmoids, "is Dense with 2 units and gives sigmoid; expected a sigmoid of one unit, a softmax"),
        (
            _softmax_of_one,
            "is Dense with 1 unit and gives softmax; expected a sigmoid of one unit, a softmax of two or",
        ),
        (_rectified, "gives relu; expected a sigmoid of one unit"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_taken_is_refused_by_name(
    keras: Any, make: Callable[[Any], Any], said: str, ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"own{ending}"
    make(keras).save(path)
    with pytest.raises(ConversionError, match=said):
        open_network(path)


def test_code_in_a_file_is_not_run(keras: Any, tmp_path: Path) -> None:
    """Also not such as names a function of another library, which Keras itself might look up."""
    _student(keras).save(tmp_path / "own.keras")
    with zipfile.ZipFile(tmp_path / "own.keras") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(contents["config.json"])
    config["config"]["layers"][1]["config"]["activation"] = {
        "module": "os", "class_name": "function", "config": "system", "registered_name": "function",
    }  # fmt: skip
    with zipfile.ZipFile(tmp_path / "own.keras", "w") as archive:
        for name, content in (contents | {"config.json": json.dumps(config).encode()}).items():
            archive.writestr(name, content)
    with pytest.raises(ConversionError, match=r"holds Python code \(a function\)"):
        open_network(tmp_path / "own.keras")


def test_files_that_hold_no_model_are_refused(keras: Any, tmp_path: Path) -> None:
    model = _student(keras)
    model.save_weights(tmp_path / "own.weights.h5")
    (tmp_path / "own.keras").write_bytes(b"PK\x03\x04 cut short")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "no model")
    for name in ("own.weights.h5", "own.keras", "other.keras"):
        with pytest.raises(ConversionError, match="weights alone are not enough"):
            open_network(tmp_path / name)
    with pytest.raises(ConversionError, match="No such file"):
        open_network(tmp_path / "missing.keras")
