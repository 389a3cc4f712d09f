"""Exchanges between images, and counterfactual validation, on drawn images with a mark on one class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFont

from pneumo_edge.data.layout import SplitName
from pneumo_edge.data.splits import Entry, Manifest
from pneumo_edge.data.tensors import Dataset, GreyImages
from pneumo_edge.evaluation.metrics import Scores
from pneumo_edge.training import counterfactuals
from pneumo_edge.training.exchange import (
    Donors,
    Exchange,
    erase,
    exchange,
    match_sharpness,
    match_tone,
    paste,
    take_border,
)

cv2 = pytest.importorskip("cv2", reason="the extra 'train' is not installed")

Grey = npt.NDArray[np.uint8]
_SIDE, _IMAGES = 128, 64
#: Where the mark is drawn, with room for its letters.
_MARK = (slice(96, 124), slice(80, 126))


def _image(seed: int, marked: bool, soft: float, bright: int, contrast: float = 1.0) -> Grey:
    """Clouds with fine noise; ``soft`` is how much they are blurred, ``bright`` their mean."""
    rng = np.random.default_rng(seed)
    clouds = Image.fromarray(rng.integers(60, 190, (9, 9), dtype=np.uint8))
    pixels = np.asarray(clouds.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)) + rng.normal(0, 15, (_SIDE, _SIDE))
    pixels = cv2.GaussianBlur(pixels, (0, 0), soft)
    picture = Image.fromarray(np.clip((pixels - pixels.mean()) * contrast + bright, 0, 220).astype(np.uint8))
    if marked:
        ImageDraw.Draw(picture).text((90, 100), "KV59", fill=255, font=ImageFont.load_default(13))
    return np.asarray(picture)


def _is_marked(image: Grey) -> bool:
    return bool((image[_MARK] > 235).sum() > 20)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Every second image is of pneumonia; it is flatter and darker, and every fourth of them has the mark."""
    entries, pixels = [], []
    for number in range(_IMAGES):
        label = number % 2
        split: SplitName = "val" if number % 6 > 3 else "train"
        entries.append(Entry(f"{number:02d}.png", split, label, f"patient {number}", "", f"{number:064x}"))
        pixels.append(_image(number, number % 16 in (1, 5), 1, *((90, 0.6) if label else (130, 1.0))))
    manifest = Manifest("drawn", False, "none", "drawn", "f" * 64, tuple(entries), {})
    return Dataset(manifest, GreyImages(np.stack(pixels)))


@pytest.fixture(scope="module")
def donors(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Donors:
    return Donors.of(dataset, tmp_path_factory.mktemp("cache"))


def _detail(image: Grey) -> float:
    return float(np.abs(image - cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1)).mean())


def test_the_tone_becomes_that_of_the_donor() -> None:
    image, donor = _image(0, False, 1, 130), _image(1, False, 1, 70)
    np.testing.assert_array_equal(match_tone(image, donor, 0.0), image)
    matched = match_tone(image, donor)
    assert np.abs(np.sort(matched.ravel()).astype(int) - np.sort(donor.ravel())).mean() < 2
    half = match_tone(image, donor, 0.5)
    assert donor.mean() + 10 < half.mean() < image.mean() - 10


@pytest.mark.parametrize(("own", "other"), [(1.0, 2.0), (2.0, 1.0)])
def test_an_image_becomes_as_sharp_as_the_donor(own: float, other: float) -> None:
    image, donor = _image(0, False, own, 120), _image(1, False, other, 120)
    matched = match_sharpness(image, donor)
    before, after = (abs(np.log(_detail(each) / _detail(donor))) for each in (image, matched))
    assert before > 0.5 and after < before / 2
    assert matched.mean() == pytest.approx(image.mean(), abs=2)
    np.testing.assert_allclose(match_sharpness(image, donor, 0.0), image, atol=1)


def test_the_border_is_the_donors_and_the_inside_stays() -> None:
    image, donor = np.full((100, 80), 50, np.uint8), np.full((100, 80), 200, np.uint8)
    changed = take_border(image, donor, (0.2, 0.1, 0.1, 0.0))
    assert (changed[:16] == 200).all() and (changed[-6:] == 200).all() and (changed[:, :5] == 200).all()
    assert (changed[24:86, 12:] == 50).all()


def test_marks_are_found_once_pasted_and_erased(dataset: Dataset, donors: Donors, tmp_path: Path) -> None:
    (place,) = donors.places
    marked = {number for number in range(_IMAGES) if number % 16 in (1, 5)}
    assert place.label == 1 and place.images <= marked and len(place.images) >= 0.8 * len(marked)
    assert set(place.donors) == {number for number in place.images if dataset.manifest.entries[number].split == "train"}
    assert _is_marked(paste(dataset.grey[0], dataset.grey[place.donors[0]], place))
    assert not _is_marked(erase(dataset.grey[place.donors[0]], [place]))
    assert Donors.of(dataset, tmp_path).places == Donors.of(dataset, tmp_path).places == donors.places


def test_both_classes_get_what_the_other_has(dataset: Dataset, donors: Donors) -> None:
    indices = np.tile(dataset.indices("train"), 8)
    settings = Exchange(1.0, border=0.1, tone=1.0, sharpness=1.0, marks=True)
    changed = exchange(dataset.grey[indices], indices, donors, settings, np.random.default_rng(0))
    labels = dataset.labels(indices)

    def differ(images: Grey) -> tuple[float, float, float]:
        """How far the classes are apart: share of marks, grey value, and detail."""
        marked, bright, detail = (
            [np.mean([measure(image) for image in images[labels == label]]) for label in (0, 1)]
            for measure in (_is_marked, np.mean, _detail)
        )
        return abs(marked[0] - marked[1]), abs(bright[0] - bright[1]), abs(np.log(detail[0] / detail[1]))

    for before, after in zip(differ(dataset.grey[indices]), differ(changed), strict=True):
        assert after < before / 2
    again = exchange(dataset.grey[indices], indices, donors, settings, np.random.default_rng(0))
    np.testing.assert_array_equal(changed, again)


def test_without_a_chance_nothing_is_exchanged(dataset: Dataset, donors: Donors) -> None:
    indices = dataset.indices("train")
    settings = Exchange(0.0, border=0.1, tone=1.0, sharpness=1.0, marks=True)
    changed = exchange(dataset.grey[indices], indices, donors, settings, np.random.default_rng(0))
    np.testing.assert_array_equal(changed, dataset.grey[indices])


def test_counterfactual_validation_tells_what_a_classifier_reads(dataset: Dataset, donors: Donors) -> None:
    indices = dataset.indices("val")
    labels = dataset.labels(indices)
    kinds = {kind: counterfactuals.change(dataset, indices, donors, kind) for kind in counterfactuals.KINDS}

    def measure(score: object, plain: Grey) -> dict[str, float]:
        assert callable(score)
        columns: dict[str, Scores] = {"probability": np.array([float(score(image)) for image in plain])}
        for kind, images in kinds.items():
            columns[counterfactuals.column(kind)] = np.array([float(score(image)) for image in images])
        return counterfactuals.counterfactual_metrics(labels, columns, 0.5)

    plain = dataset.grey[indices]
    by_mark = measure(_is_marked, plain)
    assert by_mark["counterfactual_auc_marks"] < 0.1 and by_mark["counterfactual_flips_marks"] > 0.5
    by_tone = measure(lambda image: image.mean() < 110, plain)
    assert by_tone["counterfactual_auc_tone"] < 0.1 and by_tone["counterfactual_flips_marks"] == 0
    by_detail = measure(lambda image: _detail(image[20:90, 20:70]) < 1.2, plain)
    assert by_detail["counterfactual_auc_sharpness"] < 0.3
    assert by_detail["counterfactual_flips_borders"] == by_detail["counterfactual_flips_marks"] == 0
    for measured in (by_mark, by_tone, by_detail):
        assert measured["counterfactual_auc"] < 0.9 and measured["counterfactual_auc_all"] < 0.5


def test_runs_without_counterfactual_validation_have_no_metrics_of_it() -> None:
    assert counterfactuals.counterfactual_metrics(np.array([0, 1]), {"probability": np.array([0.1, 0.9])}, 0.5) == {}
