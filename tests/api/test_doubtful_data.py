"""What is doubtful in a data set is said wherever one is opened: shared patients, and labels against folders."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_edge import DataSource
from pneumo_edge.api import datasets
from pneumo_edge.data import advice
from pneumo_edge.data.audit import audit
from pneumo_edge.data.sources import FolderSource
from pneumo_edge.data.splits import make_manifest
from pneumo_edge.errors import DataError


def _table(folder: Path, patients: str) -> Path:
    """Six images in the splits train, train, train, train, test, test, with a letter for the patient of each."""
    lines = ["image,label,split,patient"]
    for index, patient in enumerate(patients):
        pixels = np.random.default_rng(index).integers(0, 255, (24, 24), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        lines.append(f"{index}.png,{('well', 'ill')[index % 2]},{'train' if index < 4 else 'test'},{patient}")
    table = folder / "labels.csv"
    table.write_text("\n".join(lines))
    return table


@pytest.mark.parametrize(("patients", "shared"), [("ABCDEF", 0), ("AACDEF", 0), ("ABCDAB", 2)])
def test_patients_of_the_test_split_in_another_one_are_said(tmp_path: Path, patients: str, shared: int) -> None:
    data = DataSource(str(tmp_path), labels=str(_table(tmp_path, patients)), positive="ill")
    told: list[str] = []
    source = datasets.open_data(data, tell=told.append)
    found = [line for line in told if "Patients in more than one split" in line]
    assert len(found) == bool(shared)
    if found:
        assert found[0].startswith(f"warning: Patients in more than one split ({shared}): a model can recognize them")
        # The audit says it in the same words.
        assert found[0].removeprefix("warning: ") in advice.advise(audit(source))


@pytest.mark.parametrize(("swapped", "said"), [(0, ""), (2, "2 of 6 images lie in the folder of another class")])
def test_a_table_that_contradicts_the_folders_is_said(tmp_path: Path, swapped: int, said: str) -> None:
    lines = ["image,label,split"]
    for index in range(6):
        name, other = ("well", "ill") if index % 2 else ("ill", "well")
        path = tmp_path / "images" / name.upper() / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 255, (24, 24), dtype=np.uint8)).save(path)
        label = other if index < swapped else name
        lines.append(f"{name.upper()}/{index}.png,{label},{'train' if index < 4 else 'test'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    told: list[str] = []
    data = DataSource(str(tmp_path / "images"), labels=str(tmp_path / "labels.csv"), positive="ill")
    datasets.open_data(data, tell=told.append)
    found = [line for line in told if "folder of another class" in line]
    assert len(found) == bool(said)
    assert not found or (said in found[0] and "The table is used" in found[0])


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("images", "is the data folder itself; expected a folder of other images"),
        ("images/ill", "lies in the data folder"),
        ("", "the data folder .* lies in the test folder"),
    ],
)
def test_test_images_that_are_those_for_training_are_refused(tmp_path: Path, test: str, said: str) -> None:
    for name in ("well", "ill"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / f"{name}.png").touch()
    data = DataSource(str(tmp_path / "images"), positive="ill", test=str(tmp_path / test))
    with pytest.raises(DataError, match=said):
        datasets.open_data(data)
    if test == "images":
        table = tmp_path / "labels.csv"
        table.write_text("image,label\nwell.png,well\nill.png,ill\n")
        with pytest.raises(DataError, match=said):
            datasets.open_data(replace(data, labels=str(table)))


def test_copies_of_the_test_images_are_named_where_nothing_else_is_left(tmp_path: Path) -> None:
    for folder in ("images", "again"):
        for name in ("well", "ill"):
            (tmp_path / folder / name).mkdir(parents=True)
            (tmp_path / folder / name / "1.png").write_bytes(name.encode())
    data = DataSource(str(tmp_path / "images"), positive="ill", test=str(tmp_path / "again"), split="50/50")
    source = FolderSource(tmp_path / "images", data)
    digests = {sample.name: hashlib.sha256(source.read(sample)).hexdigest() for sample in source.samples}
    said = r"leaves nothing for train, as 2 images have the same bytes as images of test .* give other test images"
    with pytest.raises(DataError, match=said):
        make_manifest(source, digests, {})
