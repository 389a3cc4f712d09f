from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pneumo_edge.converters import interface, isolated, ranges
from pneumo_edge.formats import FORMATS
from pneumo_edge.runtime import engines
from pneumo_edge.task import PNEUMONIA
from tests.converting import forget

_MAPS = st.lists(arrays(np.float32, (4, 8), elements=st.floats(-100, 100, width=32)), min_size=1, max_size=3)

Pixels = npt.NDArray[np.uint8]


@given(_MAPS)
def test_a_smaller_share_of_the_values_gives_a_range_within(maps: list[Any]) -> None:
    values = ranges.Values()
    for feature_map in maps:
        values.add("map", feature_map)
    assert values.ranges(1) == {}, "the ends of whole ranges are not drawn"
    low, high = min(0.0, float(np.min(maps))), max(0.0, float(np.max(maps)))
    for share in ranges.SHARES[1:]:
        ((least, most),) = values.ranges(share).values()
        assert low <= least <= 0 <= most <= high
        low, high = least, most


def test_the_share_is_that_of_values_below_the_upper_end_and_above_the_lower() -> None:
    values = ranges.Values()
    normal = np.random.default_rng(0).normal(size=(100, 100, 100))
    for feature_map in normal:
        values.add(0, feature_map)
    for share in (0.99, 0.999):
        ((least, most),) = values.ranges(share).values()
        assert np.mean(normal < most) == pytest.approx(share, abs=0.1 * (1 - share))
        assert np.mean(normal > least) == pytest.approx(share, abs=0.1 * (1 - share))


_EXPECTED = np.array([[0.25, 0.75]])


def _chosen(*probabilities: float) -> tuple[float, bytes]:
    """What is chosen of files with such a probability each, from whole ranges to the narrowest."""
    found = iter(probabilities)
    values = ranges.Values()
    values.add(0, np.arange(-5000.0, 5000))
    widths = []

    def quantize(narrower: ranges.Ranges) -> bytes:
        widths.append(narrower.get(0, (-5000, 5000))[1])
        return np.float64(next(found)).tobytes()

    def classify(file: bytes) -> Any:
        probability = np.frombuffer(file)[0]
        return np.array([[1 - probability, probability]])

    chosen = ranges.choose(_EXPECTED, values, quantize, classify)
    assert widths == sorted(widths, reverse=True)
    return chosen


def test_narrower_ranges_have_to_pay() -> None:
    assert _chosen(0.5, 0.6, 0.74, 0.9) == (0.9999, np.float64(0.74).tobytes())
    assert _chosen(0.7, 0.71, 0.71, 0.6) == (1, np.float64(0.7).tobytes()), "three quarters of the mean square are left"
    assert _chosen(0.75, 0.75, 0.75, 0.75)[0] == 1, "what is as good as can be stays"
    assert _chosen(0.5, 0.7, 0.7, 0.7)[0] == 0.99999, "of equals, the widest"


def _save_network(path: Path) -> None:
    """A network that tells dim images apart, and in which the few bright pixels of each make all others small."""
    import keras

    image = keras.Input((160, 160, 3))
    mean = keras.layers.Conv2D(8, 3, padding="same")
    tensor = mean(keras.layers.Rescaling(1 / 255)(image))
    squares = keras.layers.Multiply()([tensor, tensor])
    dense = keras.layers.Dense(2)
    output = keras.layers.Softmax(name="probability")(dense(keras.layers.GlobalAveragePooling2D()(squares)))
    mean.set_weights([np.full((3, 3, 3, 8), 1 / 27, np.float32), np.zeros(8, np.float32)])
    dense.set_weights([np.array([[-100, 100]] * 8, np.float32), np.array([1.5, -1.5], np.float32)])
    keras.Model(image, output).save(path)


def _images(seed: int) -> Pixels:
    images = np.empty((40, 160, 160, 3), np.uint8)
    images[:] = np.random.default_rng(seed).integers(5, 18, (40, 1, 1, 1))
    images[:, 20:22, 30] = 255
    images[:, 0, 0] = 0
    return images


def _convert(model: Path, row: str, images: Pixels, target: Path, most_left: float) -> float:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "_MOST_LEFT", most_left)
        return interface.make(interface.Network(model, PNEUMONIA), FORMATS[row], images, target)


def _probabilities(path: Path, row: str, images: Pixels) -> Any:
    engine = engines.load(path, engines.ENGINES[FORMATS[row].engines[0]], 1)
    return np.array([engine.run(image[np.newaxis].astype(FORMATS[row].input_dtype)) for image in images])


def _log_odds(probabilities: Any) -> Any:
    # Half a step of what has 256 steps.
    first, second = np.maximum(probabilities, 1 / 512).T
    return np.log(second / first)


@pytest.mark.slow
def test_a_network_with_outliers_is_quantized_without_them_and_is_nearer_for_it(
    converter: isolated.Child, tmp_path: Path
) -> None:
    model, seen, unseen = tmp_path / "outliers.keras", _images(1), _images(2)
    converter.call(_save_network, model)
    converter.call(_convert, model, "tflite-fp32", seen, tmp_path / "float.tflite", 0.5)
    for row in ("tflite-int8", "tflite-integer-only", "onnx-int8"):
        made = {}
        for most_left in (0.5, 0.0):
            # What was chosen for the same images is kept.
            converter.call(forget)
            path = tmp_path / f"{row}-{most_left}.{FORMATS[row].target}"
            made[path] = converter.call(_convert, model, row, seen, path, most_left)
        narrowed, whole = made
        assert made[narrowed] < made[whole] == 1
        expected = _probabilities(tmp_path / "float.tflite", "tflite-fp32", unseen)
        assert expected.mean(axis=0).min() > 0.1
        found, worse = (np.abs(_log_odds(_probabilities(path, row, unseen)) - _log_odds(expected)) for path in made)
        assert found.mean() < worse.mean() / 2, row
