"""A table of labels labels the images that its rows name, and no others."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import pytest

from pneumo_edge.data.datasource import DataSource
from pneumo_edge.data.layout import describe_passed_over
from pneumo_edge.data.sources import Source, open_source
from pneumo_edge.errors import DataError


def _open(folder: Path, files: Iterable[str], rows: Iterable[str], **reading: str | None) -> Source:
    """The data set of empty files in a folder and a table beside it."""
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    table = folder.parent / "labels.csv"
    table.write_text("\n".join(rows) + "\n")
    given = {"split": "0/0/100", "positive": "sick", "labels": str(table), **reading}
    return open_source(DataSource(str(folder), **given))


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


_OF = ("train", "val", "test")
_FILES = [f"{number}.png" for number in range(6)]
_ROWS = ["image,label,patient,split", *(f"{i}.png,{'sick' if i % 2 else 'well'},P{i},{_OF[i // 2]}" for i in range(6))]


@pytest.mark.parametrize(
    ("further", "reason"),
    [
        ("0.png,sick,P0,train", "its rows in the table have labels that exclude each other"),
        ("0.png,well,P0,test", "its rows in the table have different splits"),
        ("0.png,well,P9,train", "its rows in the table have different patients"),
    ],
)
def test_an_image_whose_rows_contradict_each_other_is_left_out_and_named(
    tmp_path: Path, further: str, reason: str
) -> None:
    files, rows = [*_FILES, "6.png"], [*_ROWS, "6.png,well,P6,train", further]
    source = _open(tmp_path / "images", files, rows, split=None)
    assert source.passed_over == {"0.png": reason}
    assert sorted(sample.name for sample in source.samples) == files[1:]
    (line,) = describe_passed_over(source.passed_over)
    assert re.fullmatch(r"1 image has .*: 0\.png", line)


def test_rows_that_agree_or_tell_several_findings_are_read_together(tmp_path: Path) -> None:
    twice = _open(tmp_path / "images", _FILES, [*_ROWS, *_ROWS[1:], "0.png,WELL,,Training"], split=None)
    assert twice.passed_over == {}
    assert list(_labels(twice).values()) == ["well", "sick"] * 3
    assert [sample.patient for sample in twice.samples] == [f"P{number}" for number in range(6)]
    boxes = ["image,finding", "0.png,No Finding", "1.png,Mass", "1.png,Effusion", "2.png,Mass", "2.png,No Finding"]
    several = _open(tmp_path / "boxes", _FILES[:3], boxes, positive="Effusion")
    assert _labels(several) == {"0.png": "not Effusion", "1.png": "Effusion"}
    assert several.passed_over == {"2.png": "its rows in the table have labels that exclude each other"}


def test_a_flag_and_its_opposite_exclude_each_other(tmp_path: Path) -> None:
    rows = ["image,Pneumonia", "0.png,1.0", "1.png,0.0", "2.png,0.0", "2.png,1.0", "3.png,1.0", "3.png,1.0"]
    source = _open(tmp_path / "images", _FILES[:4], rows, positive="Pneumonia")
    assert _labels(source) == {"0.png": "Pneumonia", "1.png": "not Pneumonia", "3.png": "Pneumonia"}
    assert source.passed_over == {"2.png": "its rows in the table have labels that exclude each other"}


def test_a_table_that_contradicts_itself_throughout_is_refused(tmp_path: Path) -> None:
    rows = ["image,label", *(f"{name},{label}" for name in _FILES for label in ("sick", "well"))]
    with pytest.raises(DataError, match=r"no image of .* can be used, such as 0\.png: its rows .* --image-column"):
        _open(tmp_path / "images", _FILES, rows)


@pytest.mark.parametrize("odd", ["0.5", "2", "yes"])
def test_an_odd_value_in_the_column_of_a_finding_is_named(tmp_path: Path, odd: str) -> None:
    rows = ["image,Pneumonia,Edema", "a.png,1.0,0.0", f"b.png,{odd},0.0", "c.png,0.0,1.0"]
    with pytest.raises(DataError, match=rf"column Pneumonia of .* has '{re.escape(odd)}' \(1 row with such values\)"):
        _open(tmp_path, ["a.png", "b.png", "c.png"], rows, positive="Pneumonia")


@pytest.mark.parametrize("reading", [{}, {"label_column": "label"}])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, reading: dict[str, str]) -> None:
    rows = ["image,label, label ", *(f"{name},well,sick" for name in _FILES)]
    with pytest.raises(DataError, match=r"labels\.csv has several columns called label; "):
        _open(tmp_path / "images", _FILES, rows, **reading)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("rows", "line", "cells"),
    [
        (["image,label", "", "", "1.png,well", "  ", "2.png"], 6, "1 cell"),
        (["", "image,label", "1.png,well", "2.png"], 4, "1 cell"),
        (["image,label", '"1.png","two', 'lines"', "2.png,well", "3.png,a,b"], 5, "3 cells"),
        (["image,label", "1.png,well", '"2.png","two', 'lines",x'], 3, "3 cells"),
    ],
)
def test_a_row_with_a_cell_too_few_or_too_many_is_named_by_its_line(
    tmp_path: Path, rows: list[str], line: int, cells: str, end: str
) -> None:
    table = tmp_path / "labels.csv"
    table.write_bytes(end.join(rows).encode())
    (tmp_path / "1.png").touch()
    with pytest.raises(
        DataError, match=rf"line {line} of .*labels\.csv has {cells}; expected 2, as many as its header"
    ):
        open_source(DataSource(str(tmp_path), labels=str(table), positive="well", split="0/0/100"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_table_with_a_byte_order_mark_is_read(tmp_path: Path, encoding: str) -> None:
    table = tmp_path / "excel.txt"
    table.write_text("\n".join(["image\tlabel", "0.png\twell", "1.png\tsick"]), encoding=encoding)
    source = _open(tmp_path / "images", ["0.png", "1.png"], [], labels=str(table))
    assert _labels(source) == {"0.png": "well", "1.png": "sick"}


def test_labels_that_parquet_holds_as_bytes_are_text(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = tmp_path / "bytes.parquet"
    parquet.write_table(arrow.table({"image": ["0.png", "1.png"], "label": [b"well", b"sick"]}), table)
    source = _open(tmp_path / "images", ["0.png", "1.png"], [], labels=str(table))
    assert _labels(source) == {"0.png": "well", "1.png": "sick"}


def test_names_with_accents_match_in_both_forms_of_unicode(tmp_path: Path) -> None:
    """macOS has the NFD form in names of files, and tables mostly have NFC."""
    composed, apart = (unicodedata.normalize(form, "Müller/é{}.png") for form in ("NFC", "NFD"))
    for files, row in ((apart, composed), (composed, apart)):
        folder = tmp_path / f"images{len(files)}"
        names = [files.format(number) for number in (1, 2)]
        rows = ["image,label", f"{row.format(1)},sick", f"{row.format(2)},well"]
        assert _labels(_open(folder, names, rows)) == dict(zip(names, ("sick", "well"), strict=True))


def test_rows_and_images_that_do_not_match_are_named_before_a_class_that_is_missing(tmp_path: Path) -> None:
    rows = ["image,label", "0.png,well", "1.png,well", *(f"x{number}.png,sick" for number in range(3))]
    with pytest.raises(DataError) as told:
        _open(tmp_path / "images", _FILES, rows)
    first = "3 rows have no image, such as labels.csv: x0.png, and 4 images have no row, such as 2.png; "
    assert str(told.value).startswith(first)
    assert "'sick'" in str(told.value)


def test_all_columns_that_are_missing_are_named_at_once(tmp_path: Path) -> None:
    rows = ["Foto,Urteil", "0.png,well", "1.png,sick"]
    with pytest.raises(DataError, match=r"tells the file .* and one that tells the class .* Name them with --image-"):
        _open(tmp_path / "images", _FILES, rows, positive=None)
    with pytest.raises(DataError, match=r"has no column 'Bild' and no column 'Befund'; expected one of Foto, Urteil"):
        _open(tmp_path / "images", _FILES, rows, image_column="Bild", label_column="Befund")


def test_words_that_are_no_splits_are_all_named(tmp_path: Path) -> None:
    rows = ["image,label,split", "0.png,well,A", "1.png,sick,train", "2.png,well,B"]
    with pytest.raises(DataError, match=r"has the splits 'A', 'B'; expected train, val or test"):
        _open(tmp_path / "images", _FILES, rows, split=None)


def _remarks(folder: Path, header: str, rows: Iterable[str], **reading: str | None) -> tuple[Source, tuple[str, ...]]:
    source = _open(folder, _FILES, [header, *rows], **reading)
    return source, source.remarks


def test_of_two_columns_that_could_be_the_label_the_one_that_is_read_is_said(tmp_path: Path) -> None:
    rows = [f"{name},{('well', 'sick')[index % 2]},x{index},P{index}" for index, name in enumerate(_FILES)]
    header = "image,label,diagnosis,subject"
    _, said = _remarks(tmp_path / "images", header, rows)
    assert said == (
        "the label of an image is read from the column label, not from diagnosis; --label-column names another",
    )
    assert _remarks(tmp_path / "images", header, rows, label_column="label")[1] == ()
    assert _remarks(tmp_path / "images", "image,label,age,subject", rows)[1] == ()
    (of_patient,) = _remarks(tmp_path / "images", "image,label,person,patient", rows)[1]
    assert of_patient.startswith("the patient of an image is read from the column patient, not from person; ")


def test_what_a_name_stands_for_in_a_column_of_numbers_is_said(tmp_path: Path) -> None:
    rows = [f"{name},{index % 2}" for index, name in enumerate(_FILES)]
    source, (said,) = _remarks(tmp_path / "images", "image,label", rows, positive="ill")
    assert said.startswith("1 in the column label is taken for ill, and 0 for not ill; ")
    assert source.task.class_names == ("not ill", "ill")
    # As the line says.
    named, nothing = _remarks(tmp_path / "images", "image,label", rows, classes="0=well,1=ill", positive="ill")
    assert (named.task.class_names, nothing) == (("well", "ill"), ())
    assert _labels(named)["1.png"] == "ill"
    assert _remarks(tmp_path / "images", "image,label", rows, positive="1")[1] == ()


def test_columns_of_one_1_in_each_row_are_classes_where_they_are_named(tmp_path: Path) -> None:
    header, rows = "image,cat,dog,fox", [f"{i}.png,{i % 3 == 0:d},{i % 3 == 1:d},{i % 3 == 2:d}" for i in range(6)]
    for classes, positive, names in (
        ("fox,cat,dog", None, ("fox", "cat", "dog")),
        ("cat,dog=canid,fox=canid", "canid", ("cat", "canid")),
        ("cat,fox", "fox", ("cat", "fox")),
    ):
        source, said = _remarks(tmp_path / "images", header, rows, classes=classes, positive=positive)
        assert (source.task.class_names, said) == (names, ())
        assert (_labels(source)["0.png"], _labels(source)["2.png"]) == ("cat", names[-1] if positive else "fox")
    with pytest.raises(DataError, match=r"Give --positive cat, or another of them, or --classes cat,dog,fox\."):
        _remarks(tmp_path / "images", header, rows, positive=None)
    # Two findings in one row are no class.
    with pytest.raises(DataError, match="of cat, dog, fox, with none or several of them 1 in 1 row; "):
        _remarks(tmp_path / "images", header, [*rows[:5], "5.png,1,1,0"], classes="cat,dog,fox", positive=None)


def test_labels_that_parquet_holds_as_lists_are_findings(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = tmp_path / "lists.parquet"
    labels = [["well"], ["sick", "old"], []]
    parquet.write_table(arrow.table({"image": _FILES[:3], "label": labels}), table)
    source = _open(tmp_path / "images", _FILES[:3], [], labels=str(table))
    assert _labels(source) == {"0.png": "not sick", "1.png": "sick"}
    assert source.passed_over == {"2.png": "no label in the table"}
