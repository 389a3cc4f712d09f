"""Bad input from a user's side: one clear line each, the documented exit code, and everything else is done."""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from pneumo_edge._util.document import Cell, Table
from pneumo_edge.cli import app, options, screen
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.errors import ExitCode, PneumoEdgeError, printable
from pneumo_edge.runtime.classifier import read_spec

Run = Callable[..., Any]


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _png(side: int, bit_depth: int, colour_type: int, bits_per_pixel: int) -> bytes:
    """A black PNG by hand; what compresses to kilobytes may be hundreds of megabytes unpacked."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    compressor = zlib.compressobj(9)
    row = bytes(1 + side * bits_per_pixel // 8)
    data = b"".join(compressor.compress(row) for _ in range(side)) + compressor.flush()
    header = struct.pack(">IIBBBBB", side, side, bit_depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _gif() -> bytes:
    frames = [Image.new("L", (64, 64), shade) for shade in (0, 99)]
    return _encode(frames[0], "GIF", save_all=True, append_images=frames[1:])


_X_RAY = Image.effect_noise((300, 300), 60)

#: Name, content, and what its line says was given, was expected, and is to be done.
_BAD_IMAGES: list[tuple[str, bytes, str, str, str]] = [
    ("empty.jpeg", b"", "the file is empty", "an image", "Copy the file again"),
    ("cut.jpeg", _encode(_X_RAY, "JPEG")[:-5000], "the JPEG data is truncated", "a complete image", "Copy the file"),
    ("text.jpeg", b"Dear colleague,", "not an image", "a JPEG, PNG, BMP, TIFF, WEBP, GIF or DICOM file", "convert it"),
    ("one.png", _encode(Image.new("L", (1, 1)), "PNG"), "1x1 pixels", "at least 28 pixels a side", "original"),
    ("cmyk.jpeg", _encode(Image.new("CMYK", (64, 64)), "JPEG"), "colour space CMYK", "greyscale or RGB", "Convert it"),
    ("grey16.png", _encode(Image.new("I;16", (64, 64)), "PNG"), "more than 8 bits", "8 bits", "Export it"),
    ("rgb16.png", _png(64, 16, 2, 48), "more than 8 bits", "8 bits", "Export it"),
    ("film.gif", _gif(), "several frames", "a single image", "Save the one frame"),
    ("mega100.png", _png(10_000, 1, 0, 1), "100,000,000 pixels", "at most 50,000,000", "lower resolution"),
    ("mega60.png", _png(7_800, 1, 0, 1), "60,840,000 pixels", "at most 50,000,000", "lower resolution"),
]  # fmt: skip


@pytest.fixture
def bad_images(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "bad"
    folder.mkdir()
    for name, content, *_ in _BAD_IMAGES:
        (folder / name).write_bytes(content)
    return [folder / name for name, *_ in _BAD_IMAGES]


@pytest.mark.parametrize("file", ["tiny-int8.tflite", "tiny-fp32.onnx"])
def test_each_bad_image_gets_one_line_and_the_good_ones_are_judged(
    run: Run, tiny_models: Path, tmp_path: Path, x_rays: Path, bad_images: list[Path], file: str
) -> None:
    missing, no_images = tmp_path / "missing.jpeg", tmp_path / "empty-folder"
    no_images.mkdir()
    (no_images / "notes.txt").touch()
    dark, bright = x_rays / "dark.png", x_rays / "more" / "bright.JPG"
    done = run("predict", dark, *bad_images, missing, no_images, bright, "--model", tiny_models / file)
    assert done.code == ExitCode.SOME_UNJUDGED
    assert [line.split()[0] for line in done.out.splitlines()] == ["label", "NORMAL", "PNEUMONIA"]
    expectations = [
        *((path, *said) for path, (_, _, *said) in zip(bad_images, _BAD_IMAGES, strict=True)),
        (missing, "there is no such file", "the path of an image file", "Check the path"),
        (no_images, "the folder contains no images", "files such as .jpeg or .png", "Give another folder"),
    ]
    *errors, note = done.errors
    assert note == f"note: {no_images}: 1 file is not an image: notes.txt"
    for line, (path, given, expected, remedy) in zip(errors, expectations, strict=True):
        assert line.startswith(f"error: {path}: ")
        assert given in line
        assert f"; expected {expected}" in line
        assert remedy in line.partition("; expected ")[2]
        assert line.endswith(".")


def test_a_folder_of_bad_images_alone_is_judged_as_far_as_can_be(
    run: Run, tiny_models: Path, bad_images: list[Path]
) -> None:
    done = run("predict", bad_images[0].parent, "--model", tiny_models / "tiny-fp32.tflite", "--json")
    assert done.code == ExitCode.SOME_UNJUDGED
    assert len(done.errors) == len(bad_images)
    assert all("error" in image for image in json.loads(done.out)["images"])


def test_400_megapixels_in_a_small_file_are_refused_in_little_memory(
    run: Run, tiny_models: Path, tmp_path: Path, x_rays: Path
) -> None:
    path = tmp_path / "mega400.png"
    path.write_bytes(_png(20_000, 1, 0, 1))
    assert path.stat().st_size < 60_000
    model = tiny_models / "tiny-fp32.tflite"
    usual = run("predict", x_rays / "dark.png", "--model", model)
    done = run("predict", path, x_rays / "dark.png", "--model", model)
    assert done.code == ExitCode.SOME_UNJUDGED
    (line,) = done.errors
    assert "more than 89,478,485 pixels; expected at most 50,000,000" in line
    assert "NORMAL" in done.out
    # Decoded, it would be 400 MB.
    assert done.peak < usual.peak + 25


# Model files


def _cut(path: Path, folder: Path) -> Path:
    content = path.read_bytes()
    (folder / path.name).write_bytes(content[: len(content) // 2])
    return folder / path.name


def _text(path: Path) -> Path:
    path.write_text("This is a letter, and not a short one, to be sure of it.")
    return path


_MODELS: dict[str, tuple[Callable[[Path, Path], Path], str, str, str]] = {
    "tflite cut in half": (
        lambda tiny, folder: _cut(tiny / "tiny-fp32.tflite", folder),
        "has no ModelSpec: it was made by another tool or is truncated", "pneumo-edge export", "Copy it again",
    ),
    "onnx cut in half": (
        lambda tiny, folder: _cut(tiny / "tiny-fp32.onnx", folder),
        "has no ModelSpec: it was made by another tool or is truncated", "pneumo-edge export", "Copy it again",
    ),
    "tflite from elsewhere": (
        lambda tiny, folder: tiny / "bare" / "tiny-fp32.tflite",
        "has no ModelSpec", "pneumo-edge export", "export the model with pneumo-edge",
    ),
    "onnx from elsewhere": (
        lambda tiny, folder: tiny / "bare" / "tiny-fp32.onnx",
        "has no ModelSpec", "pneumo-edge export", "export the model with pneumo-edge",
    ),
    "text named tflite": (
        lambda tiny, folder: _text(folder / "letter.tflite"), "does not contain a tflite", "complete", "Copy it again",
    ),
    "text named onnx": (
        lambda tiny, folder: _text(folder / "letter.onnx"), "has no ModelSpec", "pneumo-edge export", "Copy",
    ),
    "keras": (lambda tiny, folder: tiny / "tiny.keras", "is not a model file", ".tflite or .onnx", "an exported model"),
    "missing": (lambda tiny, folder: folder / "no.tflite", "there is no file", "a model file", "pneumo-edge export"),
    "folder": (lambda tiny, folder: folder, "is not a model file", ".tflite or .onnx", "Give the path"),
}  # fmt: skip


@pytest.mark.parametrize("name", _MODELS)
@pytest.mark.parametrize("verb", ["predict", "info"])
def test_a_bad_model_file_gets_one_line(
    run: Run, tiny_models: Path, tmp_path: Path, x_rays: Path, verb: str, name: str
) -> None:
    make, given, expected, remedy = _MODELS[name]
    model = make(tiny_models, tmp_path)
    if verb == "info" and name.endswith("from elsewhere"):
        pytest.skip("info reads any whole file")
    done = run(*(["predict", x_rays, "--model", model] if verb == "predict" else ["info", model]))
    assert done.code == ExitCode.FAILED
    assert done.out == ""
    (line,) = done.errors
    assert line.startswith("error: ")
    assert str(model) in line
    assert given in line.partition("; expected ")[0]
    assert expected in line.partition("; expected ")[2]
    assert remedy in line.partition("; expected ")[2]


@pytest.mark.parametrize("verb", ["predict", "info"])
@pytest.mark.parametrize("file", ["tiny-int8.tflite", "tiny-fp32.onnx"])
def test_one_flipped_bit_in_the_weights_gets_one_line(
    run: Run, tiny_models: Path, tmp_path: Path, x_rays: Path, file: str, verb: str
) -> None:
    model = tmp_path / file
    content = bytearray((tiny_models / file).read_bytes())
    content[len(content) // 3] ^= 1
    model.write_bytes(content)
    done = run(*(["predict", x_rays, "--model", model] if verb == "predict" else ["info", model]))
    assert done.code == ExitCode.FAILED
    assert done.out == ""
    (line,) = done.errors
    assert line.startswith(f"error: the model inside {model} has the SHA-256 ")
    assert "the file is damaged, or the spec is another file's" in line


def test_a_model_whose_graph_no_engine_takes_gets_one_line(
    run: Run, tiny_models: Path, inert_tflite: Path, tmp_path: Path, x_rays: Path
) -> None:
    model = tmp_path / "inert.tflite"
    write_spec(inert_tflite, model, read_spec(tiny_models / "tiny-fp32.tflite"))
    done = run("predict", x_rays, "--model", model)
    assert done.code == ExitCode.FAILED
    (line,) = done.errors
    assert line.startswith(f"error: litert cannot load {model} (")


@pytest.mark.parametrize("engine", ["tensorrt", "onnxruntime"])
def test_a_wrong_engine_gets_one_line(run: Run, tiny_models: Path, x_rays: Path, engine: str) -> None:
    done = run("predict", x_rays, "--model", tiny_models / "tiny-fp32.tflite", "--engine", engine)
    assert done.code == ExitCode.FAILED
    assert done.errors == [
        f"error: the engine '{engine}' does not run tiny-fp32.tflite; expected litert or tflite-runtime or openvino. "
        "Give an engine that runs this kind of file."
    ]


@pytest.mark.parametrize(
    ("file", "extra"), [("tiny-fp32.tflite", "litert"), ("tiny-fp32.onnx", "onnx")], ids=["tflite", "onnx"]
)
def test_a_missing_engine_gets_one_line_with_the_extra(
    run: Run, command: list[str], tiny_models: Path, x_rays: Path, tmp_path: Path, file: str, extra: str
) -> None:
    # Modules that cannot be found, for a process that is otherwise the real one.
    program = (
        "import sys\n"
        "hidden = ('ai_edge_litert', 'tflite_runtime', 'onnxruntime', 'openvino')\n"
        "path_finder = sys.meta_path[-1]\n"
        "class Hiding:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        return None if name.split('.')[0] in hidden else path_finder.find_spec(name, path, target)\n"
        "sys.meta_path[-1] = Hiding()\n"
        "from pneumo_edge.cli import app\n"
        "app(prog_name='pneumo-edge')\n"
    )
    command[1:] = ["-c", program]
    done = run("predict", x_rays, "--model", tiny_models / file)
    assert done.code == ExitCode.FAILED
    (line,) = done.errors
    assert f'Run: pip install "pneumo-edge[{extra}]"' in line


# What becomes of errors in general


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (PneumoEdgeError("a", "b", "Do c"), 3, "error: a; expected b. Do c."),
        (PermissionError(13, "Permission denied", "/x\n/y"), 3, "error: cannot use /x\\n/y: Permission denied. Check "),
        (KeyboardInterrupt(), 130, "error: interrupted"),
    ],
)
def test_what_a_user_can_act_on_is_one_line_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException, code: int, line: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("pneumo_edge.spec.reading.find", fail)
    result = CliRunner().invoke(app, ["info", str(tmp_path / "x.tflite")])
    assert result.exit_code == code
    assert result.stdout == ""
    (found,) = result.stderr.splitlines()
    assert found.startswith(line)


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("pneumo_edge.spec.reading.find", fail)
    result = CliRunner().invoke(app, ["info", str(tmp_path / "x.tflite")])
    assert result.exit_code == ExitCode.BUG
    assert isinstance(result.exception, ZeroDivisionError)


def test_an_error_is_one_line_whatever_it_quotes() -> None:
    error = PneumoEdgeError("the library said:\n  no\r\n\x1b[31mway", "b  c\u2028d", "Do e")
    assert str(error) == "the library said: no \\x1b[31mway; expected b  c d. Do e."


def test_printable_text_is_left_alone_and_the_rest_is_escaped() -> None:
    assert printable("grüße 日本 “x”") == "grüße 日本 “x”"
    assert printable("a\nb\t\x1b\x00\udcff\x85") == r"a\nb\t\x1b\x00\udcff\x85"
    assert printable(Path("x y")) == "x y"


def test_a_name_cannot_draw_on_the_terminal(
    run: Run, tiny_models: Path, x_rays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, name = tmp_path / "odd.onnx", "[red]\x1b[2Jill\nhealthy"
    spec = read_spec(tiny_models / "tiny-fp32.onnx")
    odd = replace(spec, class_names=(f"not {name}", name), decision=replace(spec.decision, positive_class=name))
    write_spec(tiny_models / "bare" / "tiny-fp32.onnx", model, odd)
    for words in ((), ("--out", tmp_path / "out.csv")):
        done = run("predict", x_rays, "--model", model, *words)
        assert r"[red]\x1b[2Jill\nhealthy" in done.out and "\x1b" not in done.out

    screen.show_table(Table(("File", name), 1, ((Cell(name), Cell("1", value=1.0)),)))
    screen.show(f"{name}: adopted")
    options.tell(f"note: {name}")
    told = capsys.readouterr()
    assert told.out.count(r"[red]\x1b[2Jill\nhealthy") == 3
    assert told.err == "note: [red]\\x1b[2Jill\\nhealthy\n"
    assert "\x1b" not in told.out


def test_every_exit_code_is_in_the_help() -> None:
    text = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    for code in ExitCode:
        assert re.search(rf"\b{code.value} [a-z]", text)
