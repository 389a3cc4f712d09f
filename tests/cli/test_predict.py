from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from pneumo_edge import Classifier
from pneumo_edge._util import extras
from pneumo_edge._util.records import encodable
from pneumo_edge.cli import app
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.runtime.engines import ENGINES

Run = Callable[..., Any]

_ENGINES = [("tiny-fp32.tflite", "litert"), ("tiny-fp32.tflite", "tflite-runtime"), ("tiny-fp32.onnx", "onnxruntime")]


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    label: str
    probability: float
    threshold: float
    image: str


def _predict(*arguments: object, model: Path) -> Result:
    return CliRunner().invoke(app, ["predict", "--model", str(model), *map(str, arguments)])


def _read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def _read_table(text: str) -> list[Row]:
    header, *lines = text.splitlines()
    assert header.split() == ["label", "p(PNEUMONIA)", "threshold", "ms", "image"]
    cells = [line.split(maxsplit=4) for line in lines]
    return [Row(cell[0], float(cell[1]), float(cell[2]), cell[4]) for cell in cells]


@pytest.fixture
def model(tiny_models: Path) -> Path:
    return tiny_models / "tiny-fp32.tflite"


# The three outputs


def test_table_json_and_csv_agree(model: Path, x_rays: Path) -> None:
    table, as_json, as_csv = (_predict(x_rays, *option, model=model) for option in ([], ["--json"], ["--csv"]))
    for result in (table, as_json, as_csv):
        assert result.exit_code == 0
        assert result.stderr == ""
    document = json.loads(as_json.stdout)
    assert document["model"] == "tiny-fp32"
    assert document["engine"] == "litert"
    sources = [str(x_rays / "dark.png"), str(x_rays / "more" / "bright.JPG")]
    for image, row, line, source, label in zip(
        document["images"],
        _read_csv(as_csv.stdout),
        _read_table(table.stdout),
        sources,
        ["NORMAL", "PNEUMONIA"],
        strict=True,
    ):
        assert image["source"] == row["image"] == line.image == source
        assert image["label"] == row["label"] == line.label == label
        for name in ("NORMAL", "PNEUMONIA"):
            assert image["probabilities"][name] == float(row[name])
        assert line.probability == pytest.approx(float(row["PNEUMONIA"]), abs=5e-5)
        assert image["threshold"] == float(row["threshold"]) == line.threshold
        assert row["error"] == ""
        assert "error" not in image


def test_an_unjudged_image_carries_its_error_in_json_and_csv(model: Path, x_rays: Path) -> None:
    (x_rays / "broken.png").write_bytes(b"nonsense")
    table, as_json, as_csv = (_predict(x_rays, *option, model=model) for option in ([], ["--json"], ["--csv"]))
    for result in (table, as_json, as_csv):
        assert result.exit_code == 4
    (line,) = table.stderr.splitlines()
    assert as_json.stderr == as_csv.stderr == table.stderr
    bad, dark, bright = json.loads(as_json.stdout)["images"]
    bad_row, dark_row, bright_row = _read_csv(as_csv.stdout)
    assert line == f"error: {x_rays / 'broken.png'}: {bad['error']}"
    assert bad == {"source": str(x_rays / "broken.png"), "error": bad["error"]}
    assert bad_row["error"] == bad["error"]
    assert bad_row["label"] == bad_row["PNEUMONIA"] == ""
    assert [dark["label"], bright["label"]] == [dark_row["label"], bright_row["label"]] == ["NORMAL", "PNEUMONIA"]
    assert len(_read_table(table.stdout)) == 2


def test_folders_are_searched_through_in_order(model: Path, tmp_path: Path) -> None:
    names = ["b/2.png", "b/10.png", "a/z/1.JPEG", "a/y.webp", "c.tiff", "B.bmp", "d.gif"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (64, 64)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "b" / "notes.txt").touch()
    images = json.loads(_predict(tmp_path / "in", "--json", model=model).stdout)["images"]
    found = [Path(image["source"]).relative_to(tmp_path / "in") for image in images]
    assert found == sorted(map(Path, names))


def test_inputs_are_judged_in_the_order_given(model: Path, x_rays: Path) -> None:
    bright, dark = x_rays / "more" / "bright.JPG", x_rays / "dark.png"
    result = _predict(bright, dark, x_rays / "more", bright, model=model)
    assert [row.image for row in _read_table(result.stdout)] == list(map(str, [bright, dark, bright, bright]))


def test_json_and_csv_together_are_a_usage_error(model: Path, x_rays: Path) -> None:
    result = _predict(x_rays, "--json", "--csv", model=model)
    assert result.exit_code == 2
    assert "give only one of" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("threads", ["0", "-1", "two"])
def test_a_wrong_number_of_threads_is_a_usage_error(model: Path, x_rays: Path, threads: str) -> None:
    assert _predict(x_rays, "--threads", threads, model=model).exit_code == 2


def test_images_from_nowhere_are_a_usage_error(model: Path) -> None:
    assert _predict(model=model).exit_code == 2


@pytest.mark.parametrize("option", [[], ["--json"], ["--csv"]])
def test_a_model_of_phantoms_says_so(tiny_models: Path, tmp_path: Path, x_rays: Path, option: list[str]) -> None:
    spec = read_spec(tiny_models / "tiny-fp32.tflite")
    phantom = tmp_path / "phantom.tflite"
    bare = tiny_models / "bare" / "tiny-fp32.tflite"
    write_spec(bare, phantom, replace(spec, data=replace(spec.data, real=False)))
    result = _predict(x_rays, *option, model=phantom)
    assert "PHANTOM" in result.stderr
    assert result.exit_code == 0


# The same verdict from Python and from the command line


@pytest.mark.parametrize(("file", "engine"), _ENGINES)
def test_python_and_command_line_agree_to_the_bit(
    tiny_models: Path, tmp_path: Path, run: Run, file: str, engine: str
) -> None:
    if not extras.is_installed(ENGINES[engine].library):
        pytest.skip(f"{engine} is not installed")
    image = tmp_path / "x-ray.jpeg"
    Image.effect_noise((400, 300), 60).save(image)
    expected = Classifier(tiny_models / file, engine=engine).predict(image)
    words = ["predict", image, "--model", tiny_models / file, "--engine", engine]
    (in_json,) = json.loads(run(*words, "--json").out)["images"]
    (in_csv,) = _read_csv(run(*words, "--csv").out)
    assert in_json["probabilities"] == expected.probabilities
    assert {name: float(in_csv[name]) for name in expected.probabilities} == expected.probabilities
    assert in_json["label"] == in_csv["label"] == expected.label


def test_real_x_rays_come_through(run: Run, sample_pack: Path, model: Path) -> None:
    one = next((sample_pack / "train" / "PNEUMONIA").iterdir())
    done = run("predict", one, sample_pack / "test" / "NORMAL", "--model", model, "--csv")
    assert done.code == 0
    assert done.err == ""
    assert len(_read_csv(done.out)) == 1 + 60


# Names


_NAMES = [b"a b  c.png", b"a\nb.png", b"a\tb\x1b[31m.png", b"\xff\xfe.png", "\u00fc\u65e5\u672c.png".encode()]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("option", ["--json", "--csv", ""])
def test_any_file_name_is_judged_and_any_bad_one_named_on_one_line(
    model: Path, tmp_path: Path, run: Run, encoding: str, option: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    good = [folder / os.fsdecode(name) for name in _NAMES]
    bad = [folder / os.fsdecode(b"not-" + name) for name in _NAMES]
    for path in good:
        Image.new("L", (64, 64), 255).save(path, "PNG")
    for path in bad:
        path.write_bytes(b"text")
    words = ["predict", folder, *good, *bad, "--model", model, *filter(None, [option])]
    done = run(*words, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.code == 4
    assert len(done.errors) == 2 * len(bad)
    assert all(line.startswith("error: ") and "this is not an image" in line for line in done.errors)
    assert r"not-a\nb.png: " in done.err
    assert r"not-a\tb\x1b[31m.png: " in done.err
    if option == "--json":
        sources = [image["source"] for image in json.loads(done.out)["images"]]
        assert sorted(sources) == sorted(2 * [encodable(str(path)) for path in good + bad])
    elif option == "--csv":
        labels = [row["label"] for row in _read_csv(done.out)]
        assert sorted(labels) == 2 * len(bad) * [""] + 2 * len(good) * ["PNEUMONIA"]
    else:
        assert len(_read_table(done.out)) == 2 * len(good)
        assert "\x1b" not in done.out + done.err


# Ends that come from outside


@pytest.fixture
def long_folder(tmp_path: Path) -> Path:
    """A folder that takes long enough to judge to be interrupted in."""
    folder = tmp_path / "long"
    folder.mkdir()
    Image.effect_noise((1500, 1500), 60).save(folder / "0000.png")
    for index in range(1, 300):
        os.link(folder / "0000.png", folder / f"{index:04}.png")
    return folder


def _start(command: list[str], *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("option", [[], ["--csv"]])
def test_ctrl_c_ends_with_one_line_and_keeps_what_was_said(
    command: list[str], model: Path, long_folder: Path, option: list[str]
) -> None:
    process = _start(command, "predict", long_folder, "--model", model, *option)
    assert process.stdout
    first = [process.stdout.readline(), process.stdout.readline()]
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines() == ["error: interrupted; finished work is saved"]
    assert "0000.png" in first[1]
    assert 0 < len(rest.splitlines()) + 2 < 301
    assert (first[1] + rest).endswith("\n")


@pytest.mark.parametrize("option", [[], ["--csv"], ["--json"]])
def test_a_pipe_that_is_closed_leaves_no_trace(
    command: list[str], model: Path, x_rays: Path, option: list[str]
) -> None:
    with _start(command, "predict", *[x_rays] * 50, "--model", model, *option) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    # As every other program ends whose reader has gone, unless all had been written by then.
    assert process.returncode in (0, -signal.SIGPIPE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("option", [[], ["--csv"], ["--json"]])
def test_a_full_disk_under_the_output_is_one_line(
    command: list[str], model: Path, x_rays: Path, option: list[str]
) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, "predict", str(x_rays), "--model", str(model), *option],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: cannot write to standard output: No space left on device.")


@pytest.mark.parametrize("closed", [1, 2])
def test_a_service_without_output_or_errors_can_judge(run: Run, model: Path, x_rays: Path, closed: int) -> None:
    done = run("predict", x_rays, "--model", model, preexec_fn=lambda: os.close(closed))
    assert done.code == 0
    assert done.err == ""
    assert len(done.out.splitlines()) == (3 if closed == 2 else 0)


def test_folders_that_may_not_be_read_are_named_and_the_rest_is_judged(
    run: Run, model: Path, x_rays: Path, obey_permissions: Callable[[], None]
) -> None:
    closed, unreadable = x_rays / "closed", x_rays / "unreadable.png"
    closed.mkdir(mode=0)
    shutil.copy(x_rays / "dark.png", unreadable)
    unreadable.chmod(0)
    try:
        done = run("predict", x_rays, closed, closed / "x.png", "--model", model, preexec_fn=obey_permissions)
    finally:
        closed.chmod(0o700)
    assert done.code == 4
    assert [row.label for row in _read_table(done.out)] == ["NORMAL", "PNEUMONIA"]
    denied = "(Permission denied)"
    assert [line.split(";")[0] for line in done.errors] == [
        f"error: {closed}: the folder cannot be read {denied}",
        f"error: {unreadable}: the file cannot be read {denied}",
        f"error: {closed}: the folder cannot be read {denied}",
        f"error: {closed / 'x.png'}: the file cannot be read {denied}",
    ]
