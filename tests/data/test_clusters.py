"""Groups of images of one look and nearly one class are found, and none where the look has nothing to do with it."""

from __future__ import annotations

import numpy as np
import pytest

from pneumo_edge.data.clusters import find_clusters
from pneumo_edge.data.samples import Sample
from pneumo_edge.evaluation.metrics import Scores
from pneumo_edge.task import PNEUMONIA

pytest.importorskip("scipy")


def _samples(per_class: int, tested: int = 0) -> list[Sample]:
    train = [Sample(f"train-{row}", "train", row % 2, f"p{row}") for row in range(2 * per_class)]
    return train + [Sample(f"test-{row}", "test", row % 2, f"t{row}") for row in range(tested)]


def _measures(images: int, seed: int) -> dict[str, Scores]:
    noise = np.random.default_rng(seed)
    return {name: noise.normal(0.5, 0.1, images) for name in ("tone", "sharpness", "contrast", "border brightness")}


def test_soft_images_of_one_class_are_a_group() -> None:
    samples = _samples(150, tested=4)
    measures = _measures(len(samples), 0)
    # Thirty of one class, one of the other, and a test image of the other.
    soft = [*range(1, 61, 2), 0, len(samples) - 2]
    measures["sharpness"][soft] = 0.02
    measures["contrast"][soft] = 0.1
    (cluster,) = find_clusters(samples, measures, PNEUMONIA)
    assert cluster.class_name == "PNEUMONIA"
    assert cluster.counts == {"train": {"NORMAL": 1, "PNEUMONIA": 30}, "test": {"NORMAL": 1, "PNEUMONIA": 0}}
    assert (cluster.patients, cluster.others) == (30, 1)
    assert set(cluster.names) == {samples[row].name for row in soft}
    assert [trait.measure for trait in cluster.traits] == ["sharpness", "contrast"]
    assert all(trait.inside < trait.outside for trait in cluster.traits)
    assert cluster.p_value < 0.01


def test_images_of_one_patient_are_no_group() -> None:
    samples = _samples(150)
    soft = range(1, 61, 2)
    samples = [
        Sample(sample.name, "train", sample.label, "same" if row in soft else sample.patient)
        for row, sample in enumerate(samples)
    ]
    measures = _measures(len(samples), 0)
    measures["sharpness"][list(soft)] = 0.02
    assert find_clusters(samples, measures, PNEUMONIA) == ()


def test_without_such_a_group_none_is_found_in_twenty_data_sets() -> None:
    samples = _samples(200)
    assert sum(len(find_clusters(samples, _measures(len(samples), seed), PNEUMONIA)) for seed in range(20)) <= 1
