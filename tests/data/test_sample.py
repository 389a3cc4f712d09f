"""The sample pack: what lies in the repository, and the command that draws it."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumo_edge.data import sample
from pneumo_edge.data.audit import audit
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.data.sources import FolderSource, Sample, open_source
from pneumo_edge.errors import DataError
from pneumo_edge.task import PNEUMONIA

_REPOSITORY = Path(__file__).parents[2]
_MOST_BYTES = 4_000_000


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_its_manifest_names_every_image_and_nothing_else(sample_pack: Path) -> None:
    found = _contents(sample_pack)
    with (sample_pack / sample.MANIFEST_NAME).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["name"]: row["sha256"] for row in rows} == {
        name: hashlib.sha256(data).hexdigest() for name, data in found.items() if name.endswith(".jpeg")
    }
    assert found.keys() - {row["name"] for row in rows} == {sample.MANIFEST_NAME, sample.README_NAME}
    assert all(row["name"].startswith(f"{row['split']}/{row['class']}/") for row in rows)
    counts = Counter((row["split"], row["class"]) for row in rows)
    for split, wanted in sample.IMAGES.items():
        for class_name in PNEUMONIA.class_names:
            assert wanted <= counts[split, class_name] < wanted + 10
    assert sum(map(len, found.values())) <= _MOST_BYTES


def test_its_readme_has_what_the_licence_asks_for(sample_pack: Path) -> None:
    text = (sample_pack / sample.README_NAME).read_text()
    for needed in ("Kermany", "https://creativecommons.org/licenses/by/4.0/", "https://doi.org/", "Changes", "224x224"):
        assert needed in text
    assert sample.NAME in (_REPOSITORY / "NOTICE").read_text()


def test_the_audit_finds_nothing_wrong_with_it(sample_pack: Path) -> None:
    findings = audit(open_source(sample_pack))
    assert findings.real and findings.sizes == {"224x224": 524}
    assert (findings.unreadable, findings.wrong_endings, findings.near_duplicates) == ({}, (), ())
    assert findings.patients is not None and findings.patients.shared == ()
    assert all(len(group.splits) == len(group.classes) == 1 for group in findings.exact_duplicates)
    assert findings.training_split is not None and findings.training_split.left_out == {}


def test_the_command_draws_it_again_to_the_same_bytes(sample_pack: Path, shared_data: Path, tmp_path: Path) -> None:
    target = tmp_path / "drawn"
    command = [sys.executable, "-m", "pneumo_edge.data.sample", str(shared_data / "chest_xray_224"), str(target)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert _contents(target) == _contents(sample_pack)


def test_all_images_of_a_patient_are_there(sample_pack: Path, shared_data: Path) -> None:
    whole, pack = open_source(shared_data / "chest_xray_224").samples, open_source(sample_pack).samples
    patients = {(each.split, each.label, each.patient) for each in pack}
    assert {each.name for each in whole if (each.split, each.label, each.patient) in patients} == {
        each.name for each in pack
    }


_SAMPLES = st.lists(
    st.builds(
        Sample, st.uuids().map(str), st.sampled_from(("train", "val", "test")), st.integers(0, 1),
        patient=st.integers(0, 40).map(str),
    ),
    max_size=700,
)  # fmt: skip


@given(_SAMPLES, st.integers(0, 3))
def test_whole_patients_are_drawn_whatever_the_order_and_the_bytes(samples: list[Sample], seed: int) -> None:
    chosen = sample.choose(samples, seed)
    patients = {(each.split, each.label, each.patient) for each in chosen}
    assert sorted(each.name for each in chosen) == sorted(
        each.name for each in samples if (each.split, each.label, each.patient) in patients
    )
    assert sample.choose([replace(each, kind="virus") for each in reversed(samples)], seed) == [
        replace(each, kind="virus") for each in chosen
    ]
    for split, wanted in sample.IMAGES.items():
        for label in (0, 1):
            drawn = [each.patient for each in chosen if (each.split, each.label) == (split, label)]
            all_of_them = [each for each in samples if (each.split, each.label) == (split, label)]
            assert len(drawn) >= min(wanted, len(all_of_them))
            # One patient less would have been too few.
            assert not drawn or len(drawn) - max(Counter(drawn).values()) < wanted
    assert all(each.split != "val" for each in chosen)


def test_another_folder_is_not_overwritten(tmp_path: Path) -> None:
    source = FolderSource(make_phantom(tmp_path / "phantom", seed=0, train_per_class=2, test_per_class=2))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="other files"):
        sample.draw(source, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()
    for _ in range(2):
        sample.draw(source, tmp_path / "pack")
    assert len(_contents(tmp_path / "pack")) == 8 + 2


def test_git_ignores_none_of_it(sample_pack: Path) -> None:
    asked = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"], cwd=_REPOSITORY, capture_output=True, text=True, check=False,
        input="\n".join(f"{sample.NAME}/{name}" for name in _contents(sample_pack)),
    )  # fmt: skip
    assert asked.stdout == ""
