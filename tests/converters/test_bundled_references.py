"""``verify`` by a bundled model's name, and the command that makes what it holds the model to."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumo_edge import bundled
from pneumo_edge._util import files
from pneumo_edge.converters import proof
from pneumo_edge.converters import reference as references
from pneumo_edge.data import sample
from pneumo_edge.evaluation.metrics import auc
from pneumo_edge.imaging import images
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.runtime.engines import installed_engines_for
from pneumo_edge.task import PNEUMONIA
from tests import pages

_REPOSITORY = Path(__file__).parents[2]
_VALIDATION_IMAGES, _TRAVELLING = 523, 58
_OWN = f"tests/converters/{Path(__file__).name}"
_each = pytest.mark.parametrize("name", bundled.NAMES)


def _path(name: str) -> Path:
    return bundled.path(name).with_name(references.file_name(name))


def _contents(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name].tolist() for name in archive.files}


def _verify(env: Mapping[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pneumo_edge", "verify", *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@_each
def test_images_of_the_sample_pack_travel_as_they_are_there(name: str, sample_pack: Path) -> None:
    found = references.load(_path(name))
    assert len(found.labels) == len(found.pixels) == _TRAVELLING and found.of == _VALIDATION_IMAGES
    with (sample_pack / sample.MANIFEST_NAME).open(newline="") as stream:
        rows = {row["sha256"]: row for row in csv.DictReader(stream)}
    for digest, label, pixels in zip(found.sha256.tolist(), found.labels, found.pixels, strict=True):
        assert rows[digest]["class"] == PNEUMONIA.class_names[label] and rows[digest]["split"] == "train"
        data = (sample_pack / rows[digest]["name"]).read_bytes()
        np.testing.assert_array_equal(pixels, images.load(data, 224, 224))
    assert len(np.unique(found.patients)) == len({rows[digest]["patient"] for digest in found.sha256.tolist()})
    assert set(found.labels) == {0, 1}


@_each
def test_the_probabilities_are_those_of_the_network_behind_the_file(name: str) -> None:
    spec, stored = read_spec(bundled.path(name)), _contents(_path(name))
    labels, scores = np.array(stored["labels"]), np.array(stored["scores"])
    assert np.bincount(labels.astype(int)).tolist() == [spec.data.counts["val"][each] for each in PNEUMONIA.class_names]
    assert auc(labels, scores) == pytest.approx(spec.training.validation["auc"], abs=1e-9)
    positive = scores[labels == 1] >= np.array(stored["threshold"])
    assert positive.mean() == pytest.approx(spec.training.validation["sensitivity"], abs=1e-9)
    assert (stored["fingerprint"], stored["rule"]) == (spec.data.fingerprint, spec.decision.rule)


@pytest.mark.slow
def test_the_command_makes_them_again(shared_data: Path, decoded: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.bundled_references"]
    env = {**os.environ, "PNEUMO_EDGE_CACHE": str(decoded)}
    made = tmp_path / "made"
    arguments = [str(shared_data / "chest_xray_224"), str(made)]
    subprocess.run([*command, *arguments], cwd=_REPOSITORY, env=env, check=True, capture_output=True)
    for name in bundled.NAMES:
        path = made / references.file_name(name)
        # Not the bytes of the archive, which are those of this machine's zlib.
        assert _contents(path) == _contents(_path(name))
        model = bundled.path(name)
        again, before = proof.load(made / model.name), proof.load(model)
        assert again.origin.reference == files.sha256(path)
        assert replace(again, origin=replace(again.origin, reference=before.origin.reference)) == before
    # Data of another training is refused.
    shutil.copytree(_REPOSITORY / sample.NAME, tmp_path / "other")
    other = subprocess.run(
        [*command, str(tmp_path / "other")], cwd=_REPOSITORY, env=env, check=False, capture_output=True, text=True
    )
    assert other.returncode == 1
    assert "error: the data has the SHA-256" in other.stderr and "Traceback" not in other.stderr


@pytest.mark.slow
def test_bundled_models_are_verified_by_their_names_alone(offline: Mapping[str, str]) -> None:
    (one,), (both,) = (
        [command.line for block in pages.blocks(_REPOSITORY / "docs" / page) if block.reason == _OWN
         for command in block.commands]
        for page in ("how-to/train.md", "formats.md")
    )  # fmt: skip
    # The page's own command names the two; the other page, the first of them.
    assert both.startswith(one)
    command, verb, *names = both.split()
    assert (command, verb, names) == ("pneumo-edge", "verify", list(bundled.NAMES))
    done = _verify(offline, *names)
    assert done.returncode == 0, done.stderr
    parts = re.split(r"^(?=\S)", done.stdout, flags=re.MULTILINE)[1:]
    for name, part in zip(names, parts, strict=True):
        first, *lines = part.splitlines()
        assert first.startswith(
            f"{bundled.path(name)}: verified on {_TRAVELLING} images of the validation split "
            "(not checked: heatmap, components, order of the colour channels), "
        )
        installed = [row.name for row in installed_engines_for(bundled.path(name))]
        engines = [described for engine in installed for described in (engine, f"{engine}, 2 threads")]
        assert [line.split(":")[0].strip() for line in lines] == engines
        assert all(f"{_TRAVELLING} images, same decision on" in line for line in lines)


@pytest.mark.slow
def test_with_the_data_a_bundled_model_is_verified_on_the_whole_split(
    shared_data: Path, decoded: Path, offline: Mapping[str, str]
) -> None:
    done = _verify(
        {**offline, "PNEUMO_EDGE_CACHE": str(decoded)}, bundled.DEFAULT, "--data", shared_data / "chest_xray_224"
    )
    assert done.returncode == 0, done.stderr
    assert f"verified on the validation split, {_VALIDATION_IMAGES} images (not checked: " in done.stdout
    assert f"{_VALIDATION_IMAGES} images, same decision on" in done.stdout and "AUC loss" in done.stdout


@pytest.mark.slow
def test_other_data_is_refused(sample_pack: Path, offline: Mapping[str, str]) -> None:
    done = _verify(offline, bundled.DEFAULT, "--data", sample_pack)
    assert done.returncode == 3
    missing = _VALIDATION_IMAGES - _TRAVELLING
    assert f"the data lacks {missing} of the {_VALIDATION_IMAGES} images of the reference" in done.stderr


def _damaged(folder: Path) -> None:
    model = folder / bundled.path(bundled.DEFAULT).name
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)


def _replaced(folder: Path) -> None:
    shutil.copy(bundled.path("efficientnetb0"), folder / bundled.path(bundled.DEFAULT).name)


def _truncated(folder: Path) -> None:
    path = folder / references.file_name(bundled.DEFAULT)
    path.write_bytes(path.read_bytes()[:-1000])


def _change_reference(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what is in the reference set, and the proof so that it names the changed one."""
    path, model = folder / references.file_name(bundled.DEFAULT), folder / bundled.path(bundled.DEFAULT).name
    with np.load(path) as archive:
        stored = {name: archive[name] for name in archive.files}
    change(stored)
    np.savez(path, **stored)
    record = proof.load(model)
    replace(record, origin=replace(record.origin, reference=files.sha256(path))).save(model)


def _without_an_image(folder: Path) -> None:
    _change_reference(folder, lambda stored: stored.update(encoded=stored["encoded"][1000:]))


def _another_network(folder: Path) -> None:
    _change_reference(folder, lambda stored: stored.update(scores=1 - stored["scores"]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (_damaged, 3, "mobilenetv2-int8.tflite"),
        (_replaced, 3, "that of the file which was verified"),
        (_truncated, 3, "mobilenetv2-reference.npz has the SHA-256"),
        (_without_an_image, 3, "mobilenetv2-reference.npz cannot be read"),
        (_another_network, 5, "against the Keras model"),
    ],
)
def test_what_is_not_as_it_was_is_refused(
    fault: Callable[[Path], None], code: int, said: str, tmp_path: Path, offline: Mapping[str, str]
) -> None:
    model = bundled.path(bundled.DEFAULT)
    folder = tmp_path / "bundled"
    shutil.copytree(model.parent, folder)
    fault(folder)
    done = _verify(offline, folder / model.name)
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and said in errors[0]
    assert "Traceback" not in done.stderr and done.stdout == ""
