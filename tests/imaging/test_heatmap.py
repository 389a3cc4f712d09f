"""How a heatmap is drawn, and what of the X-ray goes into the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pneumo_edge.imaging import heatmap

_sides = st.integers(1, 60)
_evidence = st.floats(-1e6, 1e6, width=32)


def _x_ray(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width * height).integers(0, 256, (height, width))
    return Image.fromarray(noise.astype(np.uint8))


def _drawn(image: Image.Image, evidence: npt.ArrayLike) -> npt.NDArray[np.int16]:
    return np.asarray(heatmap.draw(image, np.array(evidence, np.float32))).astype(np.int16)


def _colour(rgb: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """How far each pixel is from grey."""
    return np.asarray(rgb.max(axis=-1) - rgb.min(axis=-1))


@given(_sides, _sides, st.lists(st.lists(_evidence, min_size=3, max_size=3), min_size=1, max_size=4))
def test_any_heatmap_is_drawn_over_any_x_ray_at_its_size(width: int, height: int, evidence: list[list[float]]) -> None:
    picture = heatmap.draw(_x_ray(width, height), np.array(evidence, np.float32))
    assert (picture.mode, picture.size) == ("RGB", (width, height))


@given(st.lists(st.floats(-1e6, 0, width=32), min_size=4, max_size=4))
def test_what_speaks_against_it_leaves_the_x_ray_as_it_is(evidence: list[float]) -> None:
    image = _x_ray(50, 40)
    drawn = _drawn(image, np.reshape(evidence, (2, 2)))
    np.testing.assert_array_equal(drawn, np.stack([np.asarray(image)] * 3, axis=-1))


@given(st.integers(0, 6), st.integers(0, 6))
def test_the_colour_lies_where_the_evidence_is(row: int, column: int) -> None:
    evidence = np.zeros((7, 7))
    evidence[row, column] = 100
    colour = _colour(_drawn(Image.new("L", (140, 210), 90), evidence))
    top, left = np.unravel_index(colour.argmax(), colour.shape)
    assert (int(top) // 30, int(left) // 20) == (row, column)
    far = np.ones((7, 7), bool)
    far[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = False
    assert not colour[np.kron(far, np.ones((30, 20))).astype(bool)].any()


def test_it_is_enlarged_bilinearly_from_the_centres_of_the_cells() -> None:
    """Along a row of two cells, against numpy's own interpolation."""
    image = Image.new("L", (100, 4), 0)
    red = _drawn(image, [[0, heatmap.FULL / 2]])[0, :, 0]
    share = np.interp(np.arange(100) + 0.5, [25, 75], [0, 0.5])
    # On black, up to half the scale, red is the colour's own red times an opacity that grows with the share.
    expected = 0.6 * 2 * share * np.interp(share, np.linspace(0, 1, 8), [106, 147, 188, 221, 243, 252, 246, 243])
    np.testing.assert_allclose(red, expected, atol=2)


def test_more_evidence_is_more_colour_and_little_stays_faint() -> None:
    image = Image.new("L", (20, 20), 120)
    steps = [0.05, 0.1, 0.2, 0.4]
    colours = [int(_colour(_drawn(image, [[share * heatmap.FULL]])).max()) for share in steps]
    assert colours == sorted(set(colours))
    assert colours[0] < 20 < colours[-1]


def test_where_more_than_the_scale_is_found_the_strongest_cell_sets_it() -> None:
    image = _x_ray(40, 40)
    many = np.array([[1.0, 2.0], [3.0, 4.0]]) * heatmap.FULL
    np.testing.assert_array_equal(_drawn(image, many), _drawn(image, many * 10))


def test_nothing_of_the_files_metadata_comes_along(tmp_path: Path) -> None:
    image = _x_ray(64, 64)
    image.info.update({"icc_profile": b"a profile", "exif": b"Exif", "comment": "Doe^Jane", "dpi": (72, 72)})
    heatmap.save(heatmap.draw(image, np.ones((2, 2), np.float32)), tmp_path / "x.png")
    assert image.info
    with Image.open(tmp_path / "x.png") as saved:
        saved.load()
        assert (saved.format, saved.info) == ("PNG", {})
    assert b"Doe" not in (tmp_path / "x.png").read_bytes()


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    (tmp_path / "x.png").write_bytes(b"before")
    with pytest.raises(OSError, match="No space left"):
        heatmap.save(Image.new("RGB", (4, 4)), tmp_path / "x.png")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    assert (tmp_path / "x.png").read_bytes() == b"before"
