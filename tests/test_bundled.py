"""The trained models inside the package, from Python; tests/cli/test_model_names.py has the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pneumo_edge import Classifier, bundled
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.runtime.engines import usual_engines_for
from pneumo_edge.spec import RANDOM_WEIGHTS

_MEGA = 1_000_000
_each = pytest.mark.parametrize("name", bundled.NAMES)


@pytest.fixture
def x_ray() -> Image.Image:
    return Image.effect_noise((400, 300), 60)


@_each
def test_each_file_is_what_its_name_says(name: str) -> None:
    spec = read_spec(bundled.path(name))
    assert spec.name == bundled.path(name).stem == f"{name}-int8"
    assert (spec.backbone, spec.format) == (name, "int8")
    assert spec.input.dtype == "uint8"


@_each
def test_each_was_trained_on_x_rays_from_pretrained_weights_and_passed_its_gate(name: str) -> None:
    spec = read_spec(bundled.path(name))
    assert spec.data.real
    assert spec.training.initial_weights != RANDOM_WEIGHTS
    assert spec.verification
    assert set(spec.verification.engines) == {row.name for row in usual_engines_for(bundled.path(name))}
    assert all(output.faithful for output in spec.outputs), "each explains itself"


def test_nothing_else_lies_beside_them_and_all_are_small() -> None:
    folder = bundled.path(bundled.DEFAULT).parent
    named = [bundled.path(name) for name in bundled.NAMES]
    found = [path for path in folder.iterdir() if path.suffix != ".py" and path.is_file()]
    beside = [path.with_name(f"{path.name}.proof.json") for path in named]
    beside += [path.with_name(f"{name}-reference.npz") for name, path in zip(bundled.NAMES, named, strict=True)]
    assert sorted(found) == sorted([*named, *beside, *(path.with_suffix(".md") for path in named)])
    assert sum(path.stat().st_size for path in found) < 12 * _MEGA
    assert min(named, key=lambda path: path.stat().st_size) == bundled.path(bundled.DEFAULT)


@_each
def test_a_name_and_the_path_behind_it_judge_alike(name: str, x_ray: Image.Image) -> None:
    by_name, by_path = Classifier(name), Classifier(bundled.path(name))
    assert by_name.spec == by_path.spec
    assert by_name.predict(x_ray).probabilities == by_path.predict(x_ray).probabilities


def test_no_name_is_the_default() -> None:
    assert Classifier().spec == read_spec(bundled.path(bundled.DEFAULT))


@pytest.mark.slow
@_each
def test_what_the_decoder_leaves_out_changes_no_verdict(name: str, shared_data: Path) -> None:
    paths = sorted((shared_data / "chest_xray_original").rglob("*.jpeg"))
    classifier, size = Classifier(name), read_spec(bundled.path(name)).input
    index, threshold = classifier.spec.task.positive_index, classifier.spec.decision.threshold
    # Against the shortest way there is: Pillow, and every pixel of the file.
    in_full = []
    for path in paths:
        with Image.open(path) as image:
            grey = image.convert("L").resize((size.width, size.height), Image.Resampling.BILINEAR)
        in_full.append(classifier.engine.run(classifier.as_input(np.stack([np.asarray(grey)] * 3, axis=-1)))[index])
    expected = np.array(in_full)
    found = np.array([classifier.predict(path).probabilities["PNEUMONIA"] for path in paths])
    assert len(paths) >= 100
    assert np.mean((found >= threshold) == (expected >= threshold)) >= 0.995
    assert np.abs(found - expected).mean() < 0.005
    if classifier.spec.smallest_decoded:
        assert np.any(found != expected)


@given(st.text(min_size=1))
def test_what_is_no_name_is_a_path(text: str) -> None:
    assert bundled.find(text) == (bundled.path(text) if text in bundled.NAMES else Path(text))


@_each
def test_a_path_of_that_name_is_a_path(name: str) -> None:
    assert bundled.find(Path(name)) == bundled.find(f"./{name}") == Path(name)
    assert bundled.find(f"{name}-int8.tflite") == Path(f"{name}-int8.tflite")
