"""Patients of the test split that are in another split too are said wherever a data set is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_edge import DataSource
from pneumo_edge.api import datasets
from pneumo_edge.data import advice
from pneumo_edge.data.audit import audit


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
