"""Patients and validation of model files that were trained with a pattern of the user's, or before today's rule."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_edge.api.datasets import open_data
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.splits import make_manifest
from pneumo_edge.errors import PatternError
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.scoring import run


def _picture(seed: int, quality: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 12), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Forty pictures of each class, each of which is there again in other bytes, by names of a hospital's own."""
    for label, first in (("NORMAL", 0), ("PNEUMONIA", 100)):
        folder = tmp_path / "data" / "train" / label
        folder.mkdir(parents=True)
        for i in range(40):
            (folder / f"h{i % 20 + first}x{i}.jpeg").write_bytes(_picture(first + i, 90))
            (folder / f"h{i % 20 + first}x{i + 40}.jpeg").write_bytes(_picture(first + i, 40))
    return tmp_path / "data"


def _model(tiny_models: Path, target: Path, pattern: str = "", fingerprint: str = "") -> Path:
    spec = read_spec(tiny_models / "tiny-fp32.tflite")
    trained = replace(spec.data, patient_pattern=pattern, fingerprint=fingerprint or spec.data.fingerprint)
    write_spec(tiny_models / "bare" / "tiny-fp32.tflite", target, replace(spec, data=trained))
    return target


def test_the_pattern_travels_in_the_model_file(tiny_models: Path, data: Path, tmp_path: Path) -> None:
    one = _model(tiny_models, tmp_path / "one.tflite", r"^h(\d+)x")
    assert len({sample.patient for sample in open_data(data, None, [one]).samples}) == 40
    assert len({sample.patient for sample in open_data(data, "", [one]).samples}) == 160
    assert len({sample.patient for sample in open_data(data, r"x(\d)\d*$", [one]).samples}) == 10
    # Other data, whose names are written otherwise.
    other = _model(tiny_models, tmp_path / "other.tflite", r"^nobody(\d+)")
    assert not any(sample.is_patient_known for sample in open_data(data, None, [other]).samples)
    with pytest.raises(PatternError, match="different patient patterns"):
        open_data(data, None, [one, other])


def test_validation_is_that_of_the_model_and_what_is_not_is_told(tiny_models: Path, data: Path, tmp_path: Path) -> None:
    source = open_source(data)
    digests = {sample.name: str(run._look(source.read(sample)).sha256) for sample in source.samples}
    hashes = {sample.name: run._look(source.read(sample)).bits for sample in source.samples}
    earlier = make_manifest(source, digests, {})
    today = make_manifest(source, digests, {}, hashes)
    assert earlier.fingerprint != today.fingerprint
    for fingerprint, expected, is_told in (
        (earlier.fingerprint, earlier, False),
        (today.fingerprint, today, False),
        ("0" * 64, today, True),
    ):
        told: list[str] = []
        model = _model(tiny_models, tmp_path / "model.tflite", fingerprint=fingerprint)
        scores = run.score([model], source, "val", tmp_path / fingerprint / "scores.json", warn=told.append)
        assert {image.name for image in scores.data.images} == {
            entry.name for entry in expected.entries if entry.split == "val"
        }
        assert bool(told) == is_told
