"""Burned-in marks are found where they stand in one class only, in any corner, and nowhere else."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

from pneumo_edge.cli import app
from pneumo_edge.data import marks
from pneumo_edge.data.audit import Audit, audit
from pneumo_edge.data.sources import open_source

MakeFolder = Callable[[dict[str, bytes]], Path]
_SIDE = 200
_PER_CLASS = 16


def _x_ray(seed: int, mark: str = "", right: bool = False, low: bool = False) -> bytes:
    """A picture of its own, of smooth clouds, and a text in one of its corners."""
    rng = np.random.default_rng(seed)
    clouds = Image.fromarray(rng.integers(60, 190, (9, 9), dtype=np.uint8))
    height = int(rng.integers(_SIDE - 20, _SIDE + 20))
    picture = clouds.resize((height + 40, height), Image.Resampling.BICUBIC)
    if mark:
        draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
        _, _, width, tall = draw.textbbox((0, 0), mark, font=font)
        place = picture.width - int(width) - 8 if right else 8, picture.height - int(tall) - 8 if low else 8
        draw.text(place, mark, fill=255, font=font)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _data(marked: dict[str, int], mark: str = "KV59", right: bool = False, low: bool = False) -> dict[str, bytes]:
    """Images of two classes, of which some in each class, and a test image of pneumonia, have a mark."""
    files = {}
    for offset, (class_name, name) in enumerate((("NORMAL", "IM-{}-0001"), ("PNEUMONIA", "person{}_virus_1"))):
        for number in range(1, _PER_CLASS + 1):
            text = mark if number <= marked.get(class_name, 0) else ""
            path = f"train/{class_name}/{name.format(f'{number:04d}')}.jpeg"
            files[path] = _x_ray(1000 * offset + number, text, right, low)
        for number in range(51, 54):
            text = mark if number == 51 and marked.get(class_name) else ""
            path = f"test/{class_name}/{name.format(f'{number:04d}')}.jpeg"
            files[path] = _x_ray(1000 * offset + number, text, right, low)
    return files


def _audit(make_folder: MakeFolder, files: dict[str, bytes]) -> Audit:
    return audit(open_source(make_folder(files)))


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("right", [False, True])
def test_a_mark_of_one_class_is_found_in_any_corner(make_folder: MakeFolder, right: bool, low: bool) -> None:
    found = _audit(make_folder, _data({"PNEUMONIA": 6}, right=right, low=low)).marks
    assert found
    (mark,) = found
    assert mark.class_name == "PNEUMONIA"
    assert mark.counts["train"] == {"NORMAL": 0, "PNEUMONIA": 6}
    assert mark.counts["test"] == {"NORMAL": 0, "PNEUMONIA": 1}
    assert mark.patients == 6
    assert [name.rpartition("person")[2][:4] for name in mark.names if name.startswith("train")] == [
        f"{number:04d}" for number in range(1, 7)
    ]
    assert (mark.left > 0.5) == right
    assert (mark.top > 0.5) == low


@pytest.mark.parametrize("marked", [{}, {"NORMAL": 6, "PNEUMONIA": 6}, {"NORMAL": 2, "PNEUMONIA": 3}])
def test_what_stands_in_no_class_alone_is_no_finding(make_folder: MakeFolder, marked: dict[str, int]) -> None:
    assert _audit(make_folder, _data(marked)).marks == ()


def test_films_of_few_patients_are_no_finding(make_folder: MakeFolder) -> None:
    files = _data({})
    for number in range(1, 9):
        files[f"train/PNEUMONIA/person90{number % 2}_virus_{number}.jpeg"] = _x_ray(5000 + number, "KV59")
    assert _audit(make_folder, files).marks == ()


def test_the_command_shows_marks_and_draws_them(make_folder: MakeFolder, tmp_path: Path) -> None:
    root, sheet = make_folder(_data({"NORMAL": 6}, mark="R")), tmp_path / "marks.png"
    result = CliRunner().invoke(app, ["data", "audit", str(root), "--contact-sheet", str(sheet)])
    assert result.exit_code == 0, result.output
    assert "train (6), test (1)" in result.stdout
    assert "a model can learn to answer with that class wherever such a mark is" in result.stdout
    with Image.open(sheet) as drawn:
        assert drawn.width > 1500


def test_without_marks_no_contact_sheet_is_written(make_folder: MakeFolder, tmp_path: Path) -> None:
    root, sheet = make_folder(_data({})), tmp_path / "marks.png"
    result = CliRunner().invoke(app, ["data", "audit", str(root), "--contact-sheet", str(sheet)])
    assert result.exit_code == 0, result.output
    assert "None found." in result.stdout
    assert f"{sheet} is not written" in result.stderr
    assert not sheet.exists()


@given(*(st.integers(0, 60) for _ in range(4)))
def test_the_chance_is_that_of_fishers_exact_test(own: int, others: int, without: int, others_without: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.fisher_exact([[own, without], [others, others_without]], "greater").pvalue
    assert marks.chance(own, others, without, others_without) == pytest.approx(expected, rel=1e-9)
