"""A probe of one place tells the classes where that place does, and not from whose images they are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pneumo_edge.data import places
from pneumo_edge.data.samples import Sample
from pneumo_edge.task import PNEUMONIA, Task

_Blocks = npt.NDArray[np.uint8]


def _images(patients: int, of_each: int, classes: int = 2) -> tuple[list[Sample], dict[str, _Blocks]]:
    """Images of noise; all of a patient are alike."""
    noise = np.random.default_rng(0)
    samples, blocks = [], {}
    for patient in range(patients * classes):
        seen = noise.integers(60, 120, (2, 28, 28)).astype(np.uint8)
        for number in range(of_each):
            name = f"{patient}-{number}"
            samples.append(Sample(name, "train", patient % classes, f"p{patient}"))
            blocks[name] = seen + noise.integers(0, 3, (2, 28, 28)).astype(np.uint8)
    return samples, blocks


def test_the_place_that_tells_the_classes_is_found() -> None:
    samples, blocks = _images(60, 1)
    for sample in samples:
        blocks[sample.name][0, 0:4, 24:28] += 60 * sample.label
    found = {place.name: place for place in places.probe_places(samples, blocks, PNEUMONIA) or ()}
    assert len(found) == 2 + places.GRID**2
    told = [name for name, place in found.items() if place.auc.low > 0.55]
    assert told == ["border", "row 1, column 7"]
    corner = found["row 1, column 7"]
    assert (corner.left, corner.top, corner.width, corner.height) == pytest.approx((6 / 7, 0, 1 / 7, 1 / 7))
    assert corner.outer
    assert corner.class_name == "PNEUMONIA"
    assert not found["centre"].outer


def test_patients_that_are_seen_again_tell_nothing() -> None:
    # Were the images of a patient in several parts of the cross-validation, every place would tell.
    found = places.probe_places(*_images(30, 4), PNEUMONIA)
    assert found
    assert max(place.auc.low for place in found) < 0.55


def test_of_three_classes_the_one_that_is_told_is_named() -> None:
    samples, blocks = _images(40, 1, classes=3)
    for sample in samples:
        blocks[sample.name][1, 24:28, 0:4] += 60 * (sample.label == 2)
    task = Task.of(("NORMAL", "BACTERIA", "VIRUS"), None)
    (corner,) = (place for place in places.probe_places(samples, blocks, task) or () if place.name == "row 7, column 1")
    assert corner.class_name == "VIRUS"
    assert corner.auc.low > 0.55


def test_few_patients_are_not_probed() -> None:
    assert places.probe_places(*_images(9, 3), PNEUMONIA) is None


def test_blocks_have_mean_and_deviation() -> None:
    pixels = np.full((224, 224), 100, np.uint8)
    pixels[:8, :4] = 200
    seen = places.blocks(Image.fromarray(pixels))
    assert (seen[0, 0, 0], seen[1, 0, 0]) == (150, 50)
    assert (seen[0, 5, 5], seen[1, 5, 5]) == (100, 0)
    assert places.border_of(seen).max() == 150
