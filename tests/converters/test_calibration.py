from __future__ import annotations

from pathlib import Path

import numpy as np

from pneumo_edge._util import files, records
from pneumo_edge.converters import calibration
from pneumo_edge.data.tensors import Dataset


def test_the_representative_dataset_is_training_images_one_per_patient(dataset: Dataset) -> None:
    chosen = calibration.choose(dataset, 40)
    entries = dataset.entries(chosen)
    assert {entry.split for entry in entries} == {"train"}
    assert len({entry.patient for entry in entries}) == len(entries) == 40
    assert sum(entry.label for entry in entries) == 20
    np.testing.assert_array_equal(chosen, calibration.choose(dataset, 40))


def test_two_sets_share_no_image_and_no_patient(dataset: Dataset) -> None:
    first, second = (dataset.entries(calibration.choose(dataset, 20, skip)) for skip in (0, 20))
    assert len(first) == len(second) == 20
    assert not {entry.patient for entry in first} & {entry.patient for entry in second}


def test_there_may_be_fewer_patients_than_asked_for(dataset: Dataset) -> None:
    chosen = calibration.choose(dataset, 10_000)
    patients = {entry.patient for entry in dataset.entries(dataset.indices("train"))}
    assert {entry.patient for entry in dataset.entries(chosen)} == patients


def test_its_pixels_span_the_whole_range(dataset: Dataset) -> None:
    pixels = calibration.pixels(dataset, calibration.choose(dataset, 10))
    assert pixels.dtype == np.uint8
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_the_manifest_names_every_image_and_its_hash(dataset: Dataset, tmp_path: Path) -> None:
    chosen, others = calibration.choose(dataset, 10), calibration.choose(dataset, 10, skip=10)
    path = tmp_path / "calibration.json"
    digest = calibration.write_manifest(dataset, chosen, others, path)
    manifest = records.loads(calibration.CalibrationManifest, path.read_bytes())
    assert digest == files.sha256(path)
    assert manifest.data_fingerprint == dataset.manifest.fingerprint
    assert [(image.name, image.sha256) for image in manifest.images] == [
        (entry.name, entry.sha256) for entry in dataset.entries(chosen)
    ]
    assert [image.sha256 for image in manifest.compared_with] == [entry.sha256 for entry in dataset.entries(others)]
