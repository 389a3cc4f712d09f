from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumo_edge.training.augmentation import Augmentation, augment, resize
from pneumo_edge.training.shifts import SHIFTS

pytest.importorskip("cv2", reason="the extra 'train' is not installed")

_RAMP = np.tile(np.linspace(0, 255, 224).astype(np.uint8), (224, 1))
_STRONG = Augmentation(10, 0.08, 0.08, 0.2, 0.5, 0.4, 0.15, 1.5, 0.06, 0.35)


def test_without_amounts_images_are_left_as_they_are() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (3, 224, 224), dtype=np.uint8)
    np.testing.assert_array_equal(augment(grey, Augmentation(), np.random.default_rng(1)), grey)


@given(st.integers(0, 2**32 - 1))
def test_images_stay_images_and_the_generator_decides_them(seed: int) -> None:
    grey = np.stack([_RAMP, 255 - _RAMP])
    one, other = (augment(grey, _STRONG, np.random.default_rng(seed)) for _ in range(2))
    assert one.shape == grey.shape and one.dtype == np.uint8
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(grey[0], _RAMP)


@pytest.mark.parametrize("name", [field.name for field in fields(Augmentation)])
def test_every_amount_changes_some_image(name: str) -> None:
    grey = np.stack([_RAMP] * 8)
    amount = 10.0 if name == "rotation" else 0.3 if name != "blur" else 3.0
    grey[:, 100:110] = 255  # a ramp alone looks the same after a vertical shift
    changed = augment(grey, Augmentation(**{name: amount}), np.random.default_rng(2))
    assert (changed != grey).any()


def test_the_centre_stays_where_it_is_without_translation() -> None:
    dot = np.zeros((1, 225, 225), np.uint8)
    dot[0, 109:116, 109:116] = 200
    turned = augment(
        np.repeat(dot, 8, axis=0), Augmentation(rotation=45, shear=0.2, scale=0.2), np.random.default_rng(3)
    )
    assert (turned != dot).any()
    for image in turned:
        rows, columns = np.nonzero(image > 100)
        assert rows.mean() == pytest.approx(112, abs=0.6) and columns.mean() == pytest.approx(112, abs=0.6)


def test_about_every_second_image_gets_a_change() -> None:
    grey = np.stack([_RAMP] * 200)
    changed = augment(grey, Augmentation(brightness=0.2), np.random.default_rng(6))
    assert 70 < sum((one != other).any() for one, other in zip(grey, changed, strict=True)) < 130


def test_smaller_images_keep_the_mean_grey_of_each_area() -> None:
    grey = np.random.default_rng(4).integers(0, 256, (2, 224, 224), dtype=np.uint8)
    small = resize(grey, 112)
    areas = grey.reshape(2, 112, 2, 112, 2).mean((2, 4))
    np.testing.assert_allclose(small, areas, atol=1)
    assert resize(grey, 224) is grey


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_changes_an_image_and_keeps_its_shape(name: str) -> None:
    image = np.random.default_rng(5).integers(0, 256, (224, 224), dtype=np.uint8)
    before = image.copy()
    shifted = SHIFTS[name](image)
    assert shifted.shape == image.shape and shifted.dtype == np.uint8
    assert (shifted != image).mean() > 0.3
    np.testing.assert_array_equal(image, before)
