"""A table of labels labels the images that its rows name, and no others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from pneumo_edge.data.datasource import DataSource
from pneumo_edge.data.sources import Source, open_source
from pneumo_edge.errors import DataError


def _open(folder: Path, files: Iterable[str], rows: Iterable[str], **reading: str) -> Source:
    """The data set of empty files in a folder and a table beside it."""
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    table = folder.parent / "labels.csv"
    table.write_text("\n".join(rows) + "\n")
    reading = {"split": "0/0/100", "positive": "sick", "labels": str(table), **reading}
    return open_source(DataSource(str(folder), **reading))


def _labels(source: Source) -> dict[str, str]:
    return {sample.name: source.task.class_names[sample.label] for sample in source.samples}


@pytest.mark.parametrize("above", ["cx/", "", "/elsewhere/cx/", "CheXpert-v1.0/"])
def test_a_row_of_a_missing_image_does_not_label_that_of_another_patient(tmp_path: Path, above: str) -> None:
    files = ["p1/study1/frontal.png", "p2/study1/frontal.png", "p2/study1/lateral.png"]
    there = ["p1/study1/frontal.png,sick", "p2/study1/frontal.png,well", "p2/study1/lateral.png,well"]
    missing = [f"p{number}/study1/lateral.png" for number in range(10, 14)]
    rows = [*there, *(f"{name},sick" for name in missing)]
    source = _open(tmp_path / "cx", files, ["path,label", *(above + row for row in rows)])
    assert _labels(source) == dict(row.split(",") for row in there)
    assert source.passed_over == {f"labels.csv: {above}{name}": "no image for this row" for name in missing}


@pytest.mark.parametrize(
    ("folder", "row"),
    [
        ("images", "0{}.png"), ("images", "0{}"), ("images", "0{}.jpeg"), ("images", "./0{}.png"),
        ("images", "images/0{}.png"), ("images", "../images/0{}.png"), ("images", "/elsewhere/set/images/0{}.png"),
        ("images", "C:\\set\\images\\0{}.png"), ("images/all/deep", "0{}"), ("images/all/deep", "deep/0{}.png"),
        ("images/all/deep", "set/all/deep/0{}.png"), ("images/all", "all/0{}.jpeg"),
    ],
)  # fmt: skip
def test_a_row_names_its_image_in_each_of_these_ways(tmp_path: Path, folder: str, row: str) -> None:
    inner = f"{folder}/".removeprefix("images/")
    source = _open(
        tmp_path / "images",
        [f"{inner}0{number}.png" for number in (1, 2)],
        ["image,label", f"{row.format(1)},sick", f"{row.format(2)},well"],
    )
    assert _labels(source) == {f"{inner}01.png": "sick", f"{inner}02.png": "well"}


@pytest.mark.parametrize("above", ["../../etc/", "/etc/", "B/images/p7/", "images/other/"])
def test_images_in_other_folders_than_the_table_tells_are_refused(tmp_path: Path, above: str) -> None:
    with pytest.raises(
        DataError, match=rf"names an image in .*images, such as {above}1\.png; .* Call this folder "
    ) as told:
        _open(tmp_path / "images", ["1.png", "2.png"], ["image,label", f"{above}1.png,sick", f"{above}2.png,well"])
    assert "\n" not in str(told.value)


def test_of_two_hospitals_in_a_table_the_images_of_one_have_its_rows_alone(tmp_path: Path) -> None:
    source = _open(
        tmp_path / "A" / "images",
        ["1.png", "2.png", "3.png"],
        ["image,label", "A/images/1.png,sick", "B/images/1.png,well", "A/images/2.png,well", "B/images/3.png,sick"],
    )
    assert _labels(source) == {"1.png": "sick", "2.png": "well"}
    assert source.passed_over == {
        "labels.csv: B/images/1.png": "no image for this row",
        "labels.csv: B/images/3.png": "no image for this row",
        "3.png": "no row in the table",
    }
