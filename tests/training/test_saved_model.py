"""A SavedModel is read as a Keras model that computes the same, and nothing of it is run but what computes numbers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumo_edge import keras_file, saved_model
from pneumo_edge.errors import ConversionError
from pneumo_edge.keras_file import open_network
from pneumo_edge.scaling import parse

_PIXELS = np.random.default_rng(0).integers(0, 256, (3, 40, 48, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def tf(keras: Any) -> Any:
    return pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def student(keras: Any) -> Any:
    """A network as a student trains one: a sigmoid behind batch norm, pooling and dropout."""
    keras.utils.set_random_seed(1)
    layers, image = keras.layers, keras.Input((40, 48, 3))
    tensor = layers.ReLU(6)(layers.BatchNormalization()(layers.Conv2D(6, 3, 2, padding="same")(image)))
    tensor = layers.Add()([tensor, layers.DepthwiseConv2D(3, padding="same")(tensor)])
    tensor = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(tensor))
    model = keras.Model(image, layers.Dense(1, activation="sigmoid")(tensor))
    random = np.random.default_rng(2)
    model.set_weights([array + 0.1 * random.uniform(size=array.shape) for array in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def exported(student: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "own"
    student.export(folder, verbose=False)
    return folder


def _module(tf: Any, compute: Callable[[Any, Any], Any], folder: Path) -> Path:
    """Save a module of plain TensorFlow, with a function beside its signature that is never used, as Keras 2 has."""

    class Module(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(np.random.default_rng(3).normal(size=(3, 4)).astype(np.float32))
            self.other = tf.Variable(np.ones((3, 4), np.float32))

        @tf.function(input_signature=[tf.TensorSpec((None, 40, 48, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def answer(self, image: Any) -> dict[str, Any]:
            return {"scores": compute(self, image)}

        @tf.function(input_signature=[tf.TensorSpec((), tf.string)])  # type: ignore[untyped-decorator]
        def train(self, path: Any) -> Any:
            tf.io.write_file(path, "written")
            return tf.random.uniform((2,)) * self.other[0, 0]

    module = Module()
    tf.saved_model.save(module, folder, signatures={"serving_default": module.answer})
    return folder


def test_it_computes_what_it_did(student: Any, exported: Path, tmp_path: Path) -> None:
    assert keras_file.is_own_model(exported)
    network = open_network(exported)
    assert (network.pools, network.output, network.size) == (True, "sigmoid", (40, 48))
    expected = student.predict(_PIXELS / 255, verbose=0)
    model = network.assemble(parse("0..1"), (40, 48))
    assert expected.std() > 1e-3
    np.testing.assert_allclose(model.predict(_PIXELS, verbose=0)[:, 1:], expected, atol=1e-5)
    # A run keeps it as a file of Keras.
    model.save(tmp_path / "model.keras")
    again = keras_file.load_trained(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(_PIXELS, verbose=0)[:, 1:], expected, atol=1e-5)
    with pytest.raises(ConversionError, match="has custom objects"):
        open_network(tmp_path / "model.keras")


def test_plain_tensorflow_is_read_for_any_size_without_its_other_functions(tf: Any, tmp_path: Path) -> None:
    def compute(module: Any, image: Any) -> Any:
        return tf.nn.softmax(tf.matmul(tf.reduce_mean(image, [1, 2]), module.kernel))

    network = open_network(_module(tf, compute, tmp_path / "own"))
    assert (network.pools, network.output, network.classes) == (True, "softmax", 4)
    np.testing.assert_allclose(network.kernel, np.random.default_rng(3).normal(size=(3, 4)), atol=1e-6)
    said = network.assemble(parse("-1..1"), (40, 48)).predict(_PIXELS, verbose=0)
    logits = (_PIXELS / 127.5 - 1).mean(axis=(1, 2)) @ network.kernel
    np.testing.assert_allclose(said, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), atol=1e-5)


def test_operators_that_do_more_than_compute_are_refused_by_name(tf: Any, tmp_path: Path) -> None:
    target = str(tmp_path / "written")

    def reads(module: Any, image: Any) -> Any:
        length = tf.strings.length(tf.io.read_file("/etc/hostname"))
        return tf.matmul(tf.reduce_mean(image, [1, 2]), module.kernel) + tf.cast(length, tf.float32)

    def writes(module: Any, image: Any) -> Any:
        with tf.control_dependencies([tf.io.write_file(target, "written")]):
            return tf.matmul(tf.reduce_mean(image, [1, 2]), module.kernel)

    def calls(module: Any, image: Any) -> Any:
        mean = tf.numpy_function(lambda pixels: pixels.mean(axis=(1, 2)), [image], tf.float32)
        return tf.matmul(tf.reshape(mean, (-1, 3)), module.kernel)

    for compute, operators in ((reads, "ReadFile, StringLength"), (writes, "WriteFile"), (calls, "PyFunc")):
        folder = _module(tf, compute, tmp_path / compute.__name__)
        with pytest.raises(ConversionError, match=rf"holds operators that are not run \({operators}\)"):
            open_network(folder)
        assert not Path(target).exists()


def test_a_layer_of_a_run_takes_no_other_graph(tf: Any) -> None:
    import base64
    import zlib

    with tf.Graph().as_default() as graph:
        tf.io.read_file(tf.constant("/etc/hostname"), name="last")
    text = base64.b64encode(zlib.compress(graph.as_graph_def().SerializeToString())).decode()
    with pytest.raises(ConversionError, match=r"not run \(ReadFile\)"):
        saved_model.graph_layer()(text, {}, "image:0", "last:0")


def test_a_damaged_folder_is_refused(exported: Path, tmp_path: Path) -> None:
    whole = saved_model.sha256(exported)
    for name, damage in (("saved_model.pb", b"\xff\xff"), ("variables/variables.index", b"nothing")):
        folder = shutil.copytree(exported, tmp_path / name.replace("/", "-"))
        (folder / name).write_bytes(damage)
        assert saved_model.sha256(folder) != whole
        with pytest.raises(ConversionError, match="cannot be read as a SavedModel"):
            open_network(folder)
    shutil.rmtree(shutil.copytree(exported, tmp_path / "bare") / "variables")
    with pytest.raises(ConversionError, match="cannot be read as a SavedModel"):
        open_network(tmp_path / "bare")


def test_several_images_or_answers_are_refused(tf: Any, tmp_path: Path) -> None:
    class Module(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])  # type: ignore[untyped-decorator]
        def answer(self, image: Any) -> dict[str, Any]:
            return {"length": tf.strings.length(image)}

    module = Module()
    tf.saved_model.save(module, tmp_path / "text", signatures={"one": module.answer})
    with pytest.raises(ConversionError, match="takes string and gives 1 outputs; expected one image of float32"):
        open_network(tmp_path / "text")
    tf.saved_model.save(module, tmp_path / "two", signatures={"one": module.answer, "other": module.answer})
    with pytest.raises(ConversionError, match="has the signatures one, other; expected one"):
        open_network(tmp_path / "two")
