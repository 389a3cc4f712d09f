"""The weights of a quantized file in a Keras network: both say the same."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pneumo_edge import bundled
from pneumo_edge._util import extras
from pneumo_edge.backbones import BACKBONES, SIDE
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.tensors import prepare
from pneumo_edge.evaluation.metrics import auc
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.scaling import Scaling
from pneumo_edge.training import initial_weights, network, tflite_weights
from pneumo_edge.training.weights_file import DoesNotFitError

pytestmark = pytest.mark.slow

_SIDE = 16


@pytest.mark.parametrize("name", bundled.NAMES)
def test_a_network_with_the_bundled_weights_says_what_the_file_says(
    keras: Any, name: str, sample_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The statistics of batch norm are those of the file.
    monkeypatch.setattr(network, "_estimate_statistics", lambda *_: None)
    dataset = prepare(open_source(sample_pack), tmp_path, SIDE, SIDE)
    indices = dataset.indices("test")[::2]
    pixels, labels = dataset.rgb(indices), dataset.labels(indices)
    row = BACKBONES[name]
    model = network.build(row, initial_weights.RANDOM, 0.2, pixels[:2], 2)
    base = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    # With the head, which training makes anew.
    layers = [*base.layers, model.get_layer(network.LOGITS)]
    tflite_weights.take(layers, bundled.path(name).read_bytes(), row.scaling)
    classifier = Classifier(name, engine="litert")
    expected = np.array([classifier.engine.run(classifier.as_input(each))[1] for each in pixels])
    found = model.predict(pixels.astype(np.float32), batch_size=32, verbose=0)[:, 1]
    assert np.abs(found - expected).mean() < 0.02
    assert np.corrcoef(found, expected)[0, 1] > 0.99
    assert auc(labels, found) > 0.95


@dataclass(frozen=True)
class _Block:
    """A convolution of a small network, and what comes after it."""

    depthwise: bool
    kernel: int
    stride: int
    biased: bool
    normalized: bool
    scale: bool
    center: bool
    epsilon: float
    activation: str
    residual: bool


_BLOCKS = st.lists(
    st.builds(
        _Block,
        depthwise=st.booleans(),
        kernel=st.sampled_from([1, 3]),
        stride=st.sampled_from([1, 2]),
        biased=st.booleans(),
        normalized=st.booleans(),
        scale=st.booleans(),
        center=st.booleans(),
        epsilon=st.sampled_from([1e-3, 1e-5, 0.1]),
        activation=st.sampled_from(["linear", "relu6", "swish"]),
        residual=st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


def _build(keras: Any, blocks: list[_Block], normalized: bool, seed: int) -> Any:
    """A network from pixels to probabilities; with a seed its weights and statistics are random."""
    layers, random = keras.layers, np.random.default_rng(seed)
    image = keras.Input((_SIDE, _SIDE, 3), name="image")
    tensor = layers.Rescaling(1 / 255, name="rescaling")(image)
    if normalized:
        tensor = layers.Normalization(name="normalization")(tensor)
    for number, block in enumerate(blocks):
        before = tensor
        options = {"strides": block.stride, "padding": "same", "use_bias": block.biased, "name": f"block{number}_conv"}
        if block.depthwise:
            tensor = layers.DepthwiseConv2D(block.kernel, **options)(tensor)
        else:
            tensor = layers.Conv2D(8, block.kernel, **options)(tensor)
        if block.normalized:
            norm = layers.BatchNormalization(
                scale=block.scale, center=block.center, epsilon=block.epsilon, name=f"block{number}_bn"
            )
            tensor = norm(tensor)
        tensor = layers.Activation(block.activation, name=f"block{number}_activation")(tensor)
        if block.residual and before.shape == tensor.shape:
            tensor = layers.Add(name=f"block{number}_add")([before, tensor])
    pooled = layers.GlobalAveragePooling2D(name="pool")(tensor)
    probability = layers.Softmax(name="probability")(layers.Dense(2, name="logits")(pooled))
    model = keras.Model(image, probability)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(random.normal(0, 0.3, shape))
            layer.moving_variance.assign(random.uniform(0.3, 2, shape))
            if layer.scale:
                layer.gamma.assign(random.uniform(0.5, 1.5, shape) * random.choice([-1, 1], shape))
            if layer.center:
                layer.beta.assign(random.normal(0, 0.3, shape))
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(random.normal(0, 0.3, layer.bias.shape))
        elif isinstance(layer, layers.Normalization):
            layer.set_weights([np.array([0.4, 0.5, 0.6]), np.array([0.05, 0.06, 0.04]), np.array(0)])
            layer.finalize_state()
    return model


def _pixels(count: int) -> npt.NDArray[np.float32]:
    random = np.random.default_rng(7)
    coarse = random.uniform(0, 255, (count, 4, 4, 3)).repeat(_SIDE // 4, axis=1).repeat(_SIDE // 4, axis=2)
    return np.clip(coarse + random.normal(0, 20, coarse.shape), 0, 255).astype(np.float32)


def _quantize(model: Any, folder: Path) -> bytes:
    lite = extras.need("tensorflow", "convert").lite
    with contextlib.redirect_stdout(io.StringIO()):
        model.export(folder, format="tf_saved_model", verbose=False)
        converter = lite.TFLiteConverter.from_saved_model(str(folder))
        converter.optimizations = [lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in _pixels(40))
        converter.target_spec.supported_ops = [lite.OpsSet.TFLITE_BUILTINS_INT8]
        return bytes(converter.convert())


def _run(content: bytes, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(model_content=content)
    (given,), (said,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.allocate_tensors()
    answers = []
    for image in images:
        interpreter.set_tensor(given["index"], image[np.newaxis])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(said["index"])[0])
    return np.array(answers)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(blocks=_BLOCKS, normalized=st.booleans(), seed=st.integers(0, 2**16))
def test_any_network_says_what_its_quantized_file_says(
    keras: Any, tmp_path_factory: pytest.TempPathFactory, blocks: list[_Block], normalized: bool, seed: int
) -> None:
    trained = _build(keras, blocks, normalized, seed)
    content = _quantize(trained, tmp_path_factory.mktemp("saved"))
    taken = _build(keras, blocks, normalized, seed + 1)
    tflite_weights.take(taken.layers, content)
    images = _pixels(30)
    of_file, of_taken = _run(content, images), taken.predict(images, verbose=0)
    of_trained = trained.predict(images, verbose=0)
    # What is left is the rounding of activations, which the network that was quantized is as far away by.
    assert np.abs(of_taken - of_file).max() < 0.05 + 2 * np.abs(of_trained - of_file).max()
    assert np.abs(of_taken - of_trained).max() < 0.08
    if normalized:
        for one, other in zip(trained.get_layer("normalization").get_weights()[:2],
                              taken.get_layer("normalization").get_weights()[:2], strict=True):  # fmt: skip
            np.testing.assert_allclose(one, other, rtol=0.05)


def test_what_does_not_fit_is_refused(keras: Any) -> None:
    content = bundled.path("mobilenetv2").read_bytes()
    narrow = keras.applications.MobileNetV2(include_top=False, weights=None, alpha=0.5, input_shape=(96, 96, 3))
    whole = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3))
    other = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(96, 96, 3))
    for layers, scaling, said in (
        (narrow.layers, (1 / 127.5, -1.0), r"Conv1 has weights of \(3, 3, 3, 32\), not \(3, 3, 3, 16\)"),
        (other.layers, (1.0, 0.0), "it has 52 convolutions and dense layers, the network has 81"),
        (whole.layers, (1 / 255, 0.0), "it scales a pixel of 0 to"),
        (whole.layers[:-3], (1 / 127.5, -1.0), "it has 52 convolutions and dense layers, the network has 51"),
    ):
        with pytest.raises(DoesNotFitError, match=said):
            tflite_weights.take(layers, content, Scaling(*scaling))
