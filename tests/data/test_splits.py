from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumo_edge.data.sources import Sample, SplitName
from pneumo_edge.data.splits import AS_GIVEN, BY_IMAGE, BY_PATIENT, Manifest, make_manifest
from pneumo_edge.errors import DataError
from pneumo_edge.task import PNEUMONIA, Task

Rows = list[tuple[SplitName, int, str, str]]


@dataclass
class ListSource:
    """A source that is a list of samples; its images are never read."""

    samples: tuple[Sample, ...]
    title: str = "a list"
    task: Task = PNEUMONIA
    real: bool = True
    licence: str = "none"
    has_patients: bool = True
    own_validation: bool = False
    has_files: bool = True
    patient_pattern: str = ""
    passed_over: dict[str, str] = field(default_factory=dict)
    rule: str = AS_GIVEN
    options: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def read(self, sample: Sample) -> bytes:
        raise AssertionError("a split is drawn without reading an image")


#: Split, label, patient and content of images: patients and contents often repeat, in any combination.
rows = st.lists(
    st.tuples(
        st.sampled_from(("train", "train", "train", "val", "test")),
        st.integers(0, 1),
        st.one_of(st.integers(0, 40).map(lambda n: f"person{n}"), st.text(max_size=6)),
        st.one_of(st.integers(0, 30), st.integers(0, 10**9)).map(lambda n: f"{n:064x}"),
    ),
    min_size=20,
    max_size=150,
)


def _source(table: Rows, own_validation: bool = False) -> tuple[ListSource, dict[str, str]]:
    samples = [Sample(f"{split}/{i}", split, label, patient) for i, (split, label, patient, _) in enumerate(table)]
    digests = {sample.name: digest for sample, (*_, digest) in zip(samples, table, strict=True)}
    return ListSource(tuple(samples), own_validation=own_validation), digests


def _draw(table: Rows, own_validation: bool = False) -> Manifest | None:
    source, digests = _source(table, own_validation)
    try:
        return make_manifest(source, digests, {})
    except DataError:
        return None


def _of(manifest: Manifest, field: str, *splits: str) -> set[str]:
    return {getattr(entry, field) for entry in manifest.entries if entry.split in splits}


@given(rows)
def test_train_and_validation_share_no_patient_and_no_image(table: Rows) -> None:
    if manifest := _draw(table):
        assert not _of(manifest, "patient", "train") & _of(manifest, "patient", "val")
        assert not _of(manifest, "sha256", "train") & _of(manifest, "sha256", "val")


@given(rows, st.booleans())
def test_no_image_of_test_is_ever_trained_on_and_none_is_lost(table: Rows, own_validation: bool) -> None:
    if manifest := _draw(table, own_validation):
        assert not _of(manifest, "sha256", "train", "val") & _of(manifest, "sha256", "test")
        assert not _of(manifest, "sha256", "train") & _of(manifest, "sha256", "val")
        names = [entry.name for entry in manifest.entries]
        assert Counter([*names, *manifest.left_out]) == Counter(f"{row[0]}/{i}" for i, row in enumerate(table))
        assert _of(manifest, "name", "test") == {f"test/{i}" for i, row in enumerate(table) if row[0] == "test"}


@given(rows, st.randoms(use_true_random=False))
def test_the_split_does_not_depend_on_the_order_of_files(table: Rows, shuffler: random.Random) -> None:
    source, digests = _source(table)
    shuffled = list(source.samples)
    shuffler.shuffle(shuffled)
    try:
        first = make_manifest(source, digests, {})
    except DataError:
        return
    second = make_manifest(ListSource(tuple(shuffled)), digests, {})
    assert first.fingerprint == second.fingerprint
    assert set(first.entries) == set(second.entries)
    assert first.left_out.keys() == second.left_out.keys()


@given(st.lists(st.integers(1, 9), min_size=30, max_size=120), st.lists(st.integers(1, 9), min_size=30, max_size=120))
def test_validation_takes_a_tenth_of_each_class_to_within_one_patient(
    normal: Sequence[int], pneumonia: Sequence[int]
) -> None:
    table: Rows = []
    for label, images_of in enumerate((normal, pneumonia)):
        for patient, count in enumerate(images_of):
            table += [("train", label, f"{label}-{patient}", f"{len(table) + i:064x}") for i in range(count)]
    manifest = _draw(table)
    assert manifest is not None
    for name, images_of in (("NORMAL", normal), ("PNEUMONIA", pneumonia)):
        over = manifest.counts["val"][name] - 0.1 * sum(images_of)
        assert -0.5 <= over <= max(images_of)


def _plain(count: int = 40) -> Rows:
    return [("train", i % 2, f"person{i // 2}-{i % 2}", f"{i:064x}") for i in range(count)]


def test_the_split_is_the_same_for_everyone() -> None:
    # Pinned: who changes this changes every split and fingerprint that was ever written down.
    manifest = _draw(_plain())
    assert manifest is not None
    assert _of(manifest, "name", "val") == {"train/5", "train/7", "train/10", "train/14"}
    assert manifest.fingerprint == "aca0bccceba75cde2f8a2650ab6c32a844e8991a98678399fa2ab4946263f41f"


def test_the_fingerprint_tells_content_label_and_split_but_not_names() -> None:
    table = _plain()
    original = _draw(table)
    other_content = _draw([*table[:-1], (*table[-1][:3], "f" * 64)])
    other_label = _draw([*table[:-1], ("train", 1 - table[-1][1], *table[-1][2:])])
    other_split = _draw([*table[:-1], ("test", *table[-1][1:])])
    assert original and other_content and other_label and other_split
    assert len({m.fingerprint for m in (original, other_content, other_label, other_split)}) == 4

    source, digests = _source(table)
    renamed = ListSource(tuple(replace(sample, name=f"copy of {sample.name}") for sample in source.samples))
    again = make_manifest(renamed, {f"copy of {name}": digest for name, digest in digests.items()}, {})
    assert again.fingerprint == original.fingerprint


def test_kaggles_validation_folder_is_pooled_with_train() -> None:
    moved: Rows = [("val", *row[1:]) if i < 16 else row for i, row in enumerate(_plain())]
    original, pooled = _draw(_plain()), _draw(moved)
    assert original and pooled
    assert pooled.fingerprint == original.fingerprint


def test_copies_of_test_images_are_left_out_with_the_reason() -> None:
    manifest = _draw([*_plain(), ("test", 0, "other", f"{3:064x}")])
    assert manifest is not None
    assert manifest.left_out == {"train/3": "has the same bytes as test/40, a test image"}


def test_a_validation_split_of_its_own_is_kept_less_copies_in_train() -> None:
    table = _plain()
    table += [("val", i % 2, f"v{i}", f"{100 + i:064x}") for i in range(6)]
    table += [("val", 1, "v6", f"{5:064x}")]
    manifest = _draw(table, own_validation=True)
    assert manifest is not None
    assert manifest.rule == AS_GIVEN
    assert _of(manifest, "name", "val") == {f"val/{i}" for i in range(40, 47)}
    assert manifest.left_out == {"train/5": "has the same bytes as val/46, a val image"}


def test_the_rule_says_whether_patients_were_known() -> None:
    source, digests = _source(_plain())
    assert make_manifest(source, digests, {}).rule == BY_PATIENT
    assert make_manifest(replace(source, has_patients=False), digests, {}).rule == BY_IMAGE


def test_too_little_data_is_refused() -> None:
    source, digests = _source(_plain(4))
    with pytest.raises(DataError, match="images of each class"):
        make_manifest(source, digests, {})
    source, digests = _source(_plain())
    with pytest.raises(DataError, match="images of each class"):
        make_manifest(source, digests, {sample.name: "bad" for sample in source.samples if sample.label == 0})


def test_a_manifest_has_the_task_of_its_source(tmp_path: Path) -> None:
    source, digests = _source(_plain())
    task = Task(("AP", "PA"), "AP")
    manifest = make_manifest(replace(source, task=task), digests, {})
    manifest.save(tmp_path / "split.json")
    found = Manifest.load(tmp_path / "split.json")
    assert found.task == task and found.task.positive_index == 0
    assert set(found.counts["train"]) == {"AP", "PA"}


def test_a_manifest_of_three_classes_draws_validation_of_each_and_keeps_its_task(tmp_path: Path) -> None:
    labels = [0] * 40 + [1] * 30 + [2] * 20
    table: Rows = [("train", label, f"p{index}", f"{index:064x}") for index, label in enumerate(labels)]
    source, digests = _source(table)
    task = Task.of(("NORMAL", "BACTERIA", "VIRUS"), None)
    manifest = make_manifest(replace(source, task=task), digests, {})
    manifest.save(tmp_path / "split.json")
    found = Manifest.load(tmp_path / "split.json")
    assert found.task == task and found.task.decided_by == "argmax"
    assert found.counts["val"] == {"NORMAL": 4, "BACTERIA": 3, "VIRUS": 2}


def test_a_task_gives_metrics_the_labels_and_scores_that_they_take() -> None:
    labels, probabilities = np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    first, last = Task.of(("AP", "PA"), "AP"), Task.of(("AP", "PA"), "PA")
    assert first.targets(labels).tolist() == [1, 0, 0] and last.targets(labels).tolist() == [0, 1, 1]
    assert first.scores(probabilities).tolist() == [0.9, 0.2, 0.6]
    assert last.scores(probabilities).tolist() == [0.1, 0.8, 0.4]
    several = Task.of(("A", "B", "C"), None)
    assert several.targets(labels).tolist() == [0, 1, 1]
    assert several.scores(np.full((2, 3), 1 / 3, np.float32)).shape == (2, 3)


def test_a_manifest_from_before_tasks_were_written_is_of_pneumonia(tmp_path: Path) -> None:
    manifest = _draw(_plain())
    assert manifest is not None
    manifest.save(tmp_path / "split.json")
    document = json.loads((tmp_path / "split.json").read_bytes())
    del document["task"]
    (tmp_path / "split.json").write_text(json.dumps(document))
    assert Manifest.load(tmp_path / "split.json") == manifest
    assert manifest.task == PNEUMONIA


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ({"class_names": ["A"], "positive_class": "A"}, "not two or more different names"),
        ({"class_names": ["A", "A"], "positive_class": "A"}, "not two or more different names"),
        ({"class_names": ["A", "B"], "positive_class": "C"}, "positive_class 'C' is not in class_names"),
        ({"class_names": ["A", "B"], "positive_class": "A", "decided_by": "a coin"}, "task.decided_by is"),
        ({"class_names": ["A", "B"], "positive_class": None}, "positive_class None is not in class_names"),
        ({"class_names": ["A", "B"], "positive_class": None, "decided_by": "argmax"}, "take a threshold"),
        ({"class_names": ["A", "B", "C"], "positive_class": "A", "decided_by": "argmax"}, "argmax takes none"),
    ],
)
def test_a_task_that_is_none_is_refused(tmp_path: Path, task: dict[str, object], problem: str) -> None:
    manifest = _draw(_plain())
    assert manifest is not None
    manifest.save(tmp_path / "split.json")
    document = json.loads((tmp_path / "split.json").read_bytes())
    (tmp_path / "split.json").write_text(json.dumps({**document, "task": task}))
    with pytest.raises(DataError, match=problem):
        Manifest.load(tmp_path / "split.json")


def test_a_manifest_survives_being_written_and_read(tmp_path: Path) -> None:
    manifest = _draw([*_plain(), ("test", 0, "other", f"{3:064x}")])
    assert manifest is not None
    manifest.save(tmp_path / "split.json")
    assert Manifest.load(tmp_path / "split.json") == manifest
    (tmp_path / "split.json").write_text("{}")
    with pytest.raises(DataError, match=r"split\.json"):
        Manifest.load(tmp_path / "split.json")
    with pytest.raises(DataError, match=r"missing\.json"):
        Manifest.load(tmp_path / "missing.json")
