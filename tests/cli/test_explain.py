"""``predict --explain``: where the pictures go, and what is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

from pneumo_edge import Classifier
from pneumo_edge.cli import app
from pneumo_edge.cli.predict import _different_names
from pneumo_edge.imaging import heatmap, images

Run = Callable[..., Any]


@pytest.fixture
def model(tiny_models: Path) -> Path:
    return tiny_models / "tiny-fp32.tflite"


@pytest.fixture
def x_ray(tmp_path: Path) -> Path:
    """Dark but for a bright square at the lower right, in a JPEG with words in it."""
    pixels = np.full((500, 400), 30, np.uint8)
    pixels[300:400, 250:350] = 250
    path = tmp_path / "in" / "x-ray.jpeg"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path, comment=b"Doe^Jane", dpi=(72, 72))
    return path


def _predict(*arguments: object, model: Path) -> Result:
    return CliRunner().invoke(app, ["predict", "--model", str(model), *map(str, arguments)])


def _pixels(path: Path) -> Any:
    with Image.open(path) as image:
        assert (image.format, image.mode, image.info) == ("PNG", "RGB", {})
        return np.asarray(image)


def test_one_image_gives_one_picture_of_its_own_size(model: Path, x_ray: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.png"
    result = _predict(x_ray, "--explain", out, model=model)
    assert (result.exit_code, result.stderr) == (0, "")
    pixels = _pixels(out).astype(int)
    assert pixels.shape == (500, 400, 3)
    colour = np.ptp(pixels, axis=-1)
    assert colour[350, 300] > 10
    assert not colour[:250].any()
    assert [path.name for path in out.parent.iterdir()] == ["out.png"]


def test_verdict_and_picture_are_what_python_gives(model: Path, x_ray: Path, tmp_path: Path) -> None:
    result = _predict(x_ray, "--explain", tmp_path / "out.png", "--jsonl", model=model)
    (verdict,) = map(json.loads, result.stdout.splitlines())
    expected = Classifier(model).predict(x_ray, explain=True)
    assert verdict["probabilities"] == expected.probabilities
    assert expected.heatmap is not None
    picture = heatmap.draw(images.decode(x_ray.read_bytes()), expected.heatmap)
    np.testing.assert_array_equal(_pixels(tmp_path / "out.png"), np.asarray(picture))


def test_a_folder_gives_a_picture_of_each_image(model: Path, x_ray: Path, tmp_path: Path) -> None:
    folder = x_ray.parent
    (folder / "more").mkdir()
    for name in ("x-ray.png", "more/x-ray.png", "more/X-Ray.bmp", "x-ray-2.png"):
        Image.new("L", (60, 50), 200).save(folder / name)
    (folder / "broken.png").write_bytes(b"nonsense")
    result = _predict(folder, "--explain", tmp_path / "out", "--json", model=model)
    assert result.exit_code == 4
    assert len(json.loads(result.stdout)["images"]) == 6
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len({name.casefold() for name in names}) == len(names) == 5
    assert [name.casefold() for name in names if name.casefold() in ("x-ray.png", "x-ray-2.png")]
    assert sum(_pixels(tmp_path / "out" / name).shape == (50, 60, 3) for name in names) == 4


def test_what_an_interrupted_run_had_drawn_is_not_drawn_again(
    model: Path, x_ray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(4):
        Image.new("L", (60, 50), 50 * index).save(x_ray.parent / f"{index}.png")
    pictures = tmp_path / "pictures"
    options = (x_ray.parent, "--out", tmp_path / "out.csv", "--explain", pictures, "--workers", 1)
    save, drawn = heatmap.save, list[str]()

    def interrupted(picture: Image.Image, path: Path) -> None:
        if path.name == "2.png":
            raise KeyboardInterrupt
        save(picture, path)

    def noted(picture: Image.Image, path: Path) -> None:
        drawn.append(path.name)
        save(picture, path)

    monkeypatch.setattr(heatmap, "save", interrupted)
    assert _predict(*options, model=model).exit_code == 130
    monkeypatch.setattr(heatmap, "save", noted)
    assert _predict(*options, "--resume", model=model).exit_code == 0
    assert drawn == ["2.png", "3.png", "x-ray.png"]
    assert len(list(pictures.iterdir())) == 5


@pytest.mark.parametrize("target", ["out.png", "out"])
def test_a_file_without_a_heatmap_is_named_and_nothing_is_judged(
    without_heatmap: Path, x_ray: Path, tmp_path: Path, target: str
) -> None:
    result = CliRunner().invoke(app, ["predict", str(x_ray), "--model", str(without_heatmap)])
    assert result.exit_code == 0
    result = _predict(x_ray, "--explain", tmp_path / target, model=without_heatmap)
    assert (result.exit_code, result.stdout) == (3, "")
    (line,) = result.stderr.splitlines()
    assert "has no heatmap" in line and "Export the model again" in line
    assert not (tmp_path / target).exists()


def test_one_file_for_several_images_is_wrong_usage(model: Path, x_ray: Path, tmp_path: Path) -> None:
    result = _predict(x_ray, x_ray, "--explain", tmp_path / "out.png", model=model)
    assert result.exit_code == 2
    assert not (tmp_path / "out.png").exists()


def test_no_x_ray_is_written_over(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "x-ray.png"
    Image.new("L", (60, 50), 200).save(path)
    before = path.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path)
    for target in (path, tmp_path, tmp_path / "link", tmp_path / "link" / "x-ray.png"):
        assert _predict(path, "--explain", target, model=model).exit_code == 2
    assert path.read_bytes() == before


def test_a_file_where_a_folder_belongs_is_wrong_usage(model: Path, x_ray: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert _predict(x_ray, "--explain", tmp_path / "file", model=model).exit_code == 2
    assert (tmp_path / "file").read_text() == "text"


def test_a_picture_that_cannot_be_written_ends_with_one_line(run: Run, model: Path, x_ray: Path) -> None:
    done = run("predict", x_ray, "--model", model, "--explain", "/dev/null/out.png")
    assert (done.code, len(done.errors)) == (3, 1)
    assert "/dev/null" in done.err


def test_a_dicom_file_is_explained_and_nothing_of_the_patient_is_written(model: Path, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")
    data = Path(pydicom.data.get_testdata_file("MR_small.dcm", download=False)).read_bytes()
    source, out = tmp_path / "x-ray.dcm", tmp_path / "out.png"
    source.write_bytes(data)
    result = _predict(source, "--explain", out, model=model)
    assert (result.exit_code, result.stderr) == (0, "")
    dataset = pydicom.dcmread(io.BytesIO(data))
    assert _pixels(out).shape == (dataset.Rows, dataset.Columns, 3)
    content = out.read_bytes()
    for words in (str(dataset.PatientName), dataset.PatientID, dataset.SOPInstanceUID):
        assert words
        assert words.encode() not in content


@given(st.lists(st.text(st.sampled_from("aAb-2\u00df\udcff"), max_size=4) | st.just("a" * 255), max_size=12))
def test_names_differ_by_more_than_case_and_fit_a_file_system(stems: list[str]) -> None:
    names = list(_different_names(stems))
    assert len({name.casefold() for name in names}) == len(names) == len(stems)
    assert all(name.endswith(".png") and len(name.encode("utf-8", "surrogateescape")) < 240 for name in names)
