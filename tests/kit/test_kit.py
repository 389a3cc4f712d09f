"""A kit has all that a port needs: ports that are written from it pass, and one with a mistake is told the step."""

from __future__ import annotations

import base64
import compileall
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from markdown_it import MarkdownIt
from PIL import Image
from typer.testing import CliRunner, Result

import pneumo_edge
from pneumo_edge import Classifier, bundled
from pneumo_edge._util import records
from pneumo_edge.cli import app
from pneumo_edge.errors import ExitCode
from pneumo_edge.kit import readme, vectors, write
from pneumo_edge.kit.documents import KitVectors
from tests.benchmarks.mutations import mutated, several
from tests.kit import networks

_HEADERS = Path(__file__).with_name("include")
#: The kinds of model files, and how a test gets one.
_KINDS = ("bundled", "tiny-fp32.tflite", "tiny-fp32.onnx", "other", "three", "integers")
_MADE: Mapping[str, Callable[[Path], Path]] = {
    "other": networks.of_another_tool,
    "three": networks.of_three_classes,
    "integers": networks.of_integers,
}


@pytest.fixture(scope="module")
def make_kit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the kit of a kind of model file, once."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp("kit")
            if kind == "bundled":
                pytest.importorskip("ai_edge_litert")
                model = bundled.DEFAULT
            elif kind in _MADE:
                model = str(_MADE[kind](folder))
            else:
                model = str(request.getfixturevalue("tiny_models") / kind)
            result = CliRunner().invoke(app, ["kit", model, "--out", str(folder / "kit")])
            assert result.exit_code == 0, result.stderr
            made[kind] = folder / "kit"
        return made[kind]

    return make


def _check(kit: Path, results: Path) -> Result:
    return CliRunner().invoke(app, ["kit", "check", str(kit), str(results)])


def _port(kit: Path) -> Any:
    """The port in Python, as a module of its own."""
    described = importlib.util.spec_from_file_location("port", kit / "ports" / "python" / "port.py")
    assert described and described.loader
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", _KINDS)
def test_the_port_in_python_passes(make_kit: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    kit = make_kit(kind)
    _port(kit).main(kit, tmp_path / "results.json")
    result = _check(kit, tmp_path / "results.json")
    assert result.exit_code == 0, result.stdout
    assert result.stdout.splitlines()[-1] == "Python passes every step"
    assert "resize: 16 pass; largest difference 0," in result.stdout


def test_the_port_in_python_needs_no_pneumo_edge(make_kit: Callable[[str], Path], tmp_path: Path) -> None:
    kit = make_kit("bundled")
    program = (
        "import runpy, sys; sys.modules['pneumo_edge'] = None; "
        f"sys.argv[1:] = ['{kit}', '{tmp_path / 'results.json'}']; "
        f"runpy.run_path('{kit / 'ports/python/port.py'}', run_name='__main__')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    # The file of the vectors does as well as the folder of the kit.
    assert _check(kit / "vectors" / "vectors.json", tmp_path / "results.json").exit_code == 0


@pytest.mark.parametrize("kind", ["bundled", "tiny-fp32.tflite", "tiny-fp32.onnx", "other", "three", "integers"])
def test_the_port_in_c_passes(make_kit: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    result = _check(make_kit(kind), _run_c(make_kit(kind), tmp_path))
    assert result.exit_code == 0, result.stdout
    assert result.stdout.splitlines()[-1] == "C passes every step but decode, not reported"
    assert re.search(f"resize: 16 pass; largest difference {_most_of_resize(kind)},", result.stdout)


class _Library(NamedTuple):
    name: str
    path: Path


def _library(engine: str) -> _Library:
    """The shared library that an engine of the port in C calls."""
    if engine == "engine_onnxruntime":
        folder = Path(pytest.importorskip("onnxruntime").__file__).parent
        return _Library("libonnxruntime.so.1", next((folder / "capi").glob("libonnxruntime.so.*")))
    litert = pytest.importorskip("ai_edge_litert")
    if not litert.__version__.startswith("2.3."):
        pytest.skip(f"the declarations in {_HEADERS} are those of LiteRT 2.3, not {litert.__version__}")
    return _Library("libLiteRt.so", Path(litert.__file__).parent / "libLiteRt.so")


def _run_c(kit: Path, tmp_path: Path) -> Path:
    """Compile and run the port in C with the library of an engine's wheel; returns its results."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("there is no C compiler")
    folder = kit / "ports" / "c"
    command = [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-O2", "-o", str(tmp_path / "port")]
    command += [str(folder / "port.c"), str(folder / "pneumo_edge.c")]
    (engine,) = folder.glob("engine_*.c")
    library = _library(engine.stem)
    # By the name that the library has in a release.
    (tmp_path / library.name).symlink_to(library.path)
    command += ["-DPE_ENGINE", f"-I{_HEADERS}", str(engine), str(library.path), f"-Wl,-rpath,{tmp_path}"]
    subprocess.run([*command, "-lm"], check=True)
    with (tmp_path / "results.json").open("wb") as results:
        subprocess.run([tmp_path / "port", kit], stdout=results, check=True)
    return tmp_path / "results.json"


def _run_javascript(node: str, kit: Path, tmp_path: Path, modules: Path | None = None) -> Path:
    """Run the port in JavaScript; an ONNX file needs the npm packages. Returns its results."""
    # Node.js looks for packages in the folders above a program.
    folder = tmp_path / "javascript"
    shutil.copytree(kit / "ports" / "javascript", folder)
    if modules:
        (folder / "node_modules").symlink_to(modules)
    results = tmp_path / "javascript.json"
    done = subprocess.run([node, folder / "port.mjs", kit, results], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return results


def test_the_port_in_javascript_passes_without_an_engine(
    make_kit: Callable[[str], Path], tmp_path: Path, node: str
) -> None:
    kit = make_kit("bundled")
    result = _check(kit, _run_javascript(node, kit, tmp_path))
    assert result.exit_code == 0, result.stdout
    assert result.stdout.splitlines()[-1] == "JavaScript passes every step but decode, outputs, not reported"


@pytest.mark.parametrize("kind", ["tiny-fp32.onnx", "other", "three", "integers"])
def test_the_port_in_javascript_passes(
    make_kit: Callable[[str], Path], tmp_path: Path, node: str, modules: Path, kind: str
) -> None:
    kit = make_kit(kind)
    result = _check(kit, _run_javascript(node, kit, tmp_path, modules))
    assert result.exit_code == 0, result.stdout
    assert result.stdout.splitlines()[-1] == "JavaScript passes every step but decode, not reported"
    assert re.search(f"resize: 16 pass; largest difference {_most_of_resize(kind)},", result.stdout)


def test_the_port_in_javascript_names_the_version_that_is_tested() -> None:
    packages = [
        _read(Path(pneumo_edge.__path__[0]) / path)["dependencies"]
        for path in ("kit/ports/javascript/package.json", "web/package.json")
    ]
    assert packages[0].items() <= packages[1].items()


@pytest.mark.slow
def test_the_ports_pass_on_every_exported_file(trained: Path, tmp_path: Path, node: str, modules: Path) -> None:
    models = [path for path in sorted((trained / "models").iterdir()) if path.suffix in (".tflite", ".onnx")]
    assert len(models) == 4
    for model in models:
        folder = tmp_path / model.name
        kit = folder / "kit"
        made = CliRunner().invoke(app, ["kit", str(model), "--out", str(kit)])
        assert made.exit_code == 0, made.stderr
        _port(kit).main(kit, folder / "python.json")
        for results in (folder / "python.json", _run_c(kit, folder), _run_javascript(node, kit, folder, modules)):
            result = _check(kit, results)
            assert result.exit_code == 0, result.stdout


def _most_of_resize(kind: str) -> str:
    """The difference of a port that resizes along the rows first; an image of this kind Pillow 13 does otherwise."""
    return "[01]" if kind == "integers" else "0"


def test_vectors_are_what_pneumo_edge_answers(make_kit: Callable[[str], Path]) -> None:
    kit = make_kit("bundled")
    folder, described = vectors_of(kit)
    classifier = Classifier(kit / described["model"])
    assert described["model_sha256"] in (kit / "README.md").read_text(encoding="utf-8")
    classified = [each for each in described["vectors"] if not each["refused"]]
    assert {each["answer"]["label"] for each in classified} >= {"NORMAL"}
    for each in classified:
        found = classifier.predict(folder / each["file"])
        assert each["answer"] == {
            "probabilities": found.probabilities,
            "label": found.label,
            "prediction_set": list(found.prediction_set or ()),
            "uncertain": found.uncertain,
            "distance": found.distance,
            "out_of_distribution": found.out_of_distribution,
        }
        # The files of the pixels are what other programs read.
        grey = Image.open(folder / each["grey"]["file"])
        assert (grey.width, grey.height, grey.mode) == (each["grey"]["width"], each["grey"]["height"], "L")
        resized = np.asarray(Image.open(folder / each["resized"]["file"]))
        np.testing.assert_array_equal(resized, np.asarray(grey.resize((224, 224), Image.Resampling.BILINEAR)))
    cases = described["decisions"]
    for field in ("label", "uncertain", "out_of_distribution"):
        assert len({each["answer"][field] for each in cases}) == 2, field


def vectors_of(kit: Path) -> tuple[Path, Any]:
    return kit / "vectors", _read(kit / "vectors" / "vectors.json")


@pytest.mark.parametrize("kind", ["bundled", "three", "integers"])
def test_every_document_fits_its_schema(make_kit: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    kit = make_kit(kind)
    _port(kit).main(kit, tmp_path / "results.json")
    for document, schema in (
        (kit / "spec.json", "model-spec.schema.json"),
        (kit / "vectors" / "vectors.json", "vectors/vectors.schema.json"),
        (tmp_path / "results.json", "vectors/results.schema.json"),
    ):
        jsonschema.validate(_read(document), _read(kit / schema), cls=jsonschema.Draft202012Validator)


# Mistakes that are planted in the port in Python: of the kit of a kind, what is put in the place of a function.


def _in_wrong_order(port: Any) -> None:
    right = port.to_grey
    port.to_grey = lambda pixels: right(pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def _averaged(port: Any) -> None:
    port.to_grey = lambda pixels: pixels if pixels.ndim == 2 else pixels.mean(axis=-1).round().astype(np.uint8)


def _decoded_in_wrong_order(port: Any) -> None:
    right = port.decode
    port.decode = lambda path: np.ascontiguousarray(right(path)[..., ::-1]) if right(path).ndim == 3 else right(path)


def _without_orientation(port: Any) -> None:
    port.ImageOps.exif_transpose, right = (lambda image: image), port.ImageOps.exif_transpose
    port.undo = lambda: setattr(port.ImageOps, "exif_transpose", right)


def _taking_16_bits(port: Any) -> None:
    right = port.decode
    port.decode = lambda path: np.full((40, 40), 9, np.uint8) if "16-bit" in str(path) else right(path)


def _sampled(grey: Any, rows: Any, columns: Any) -> Any:
    """Bilinear interpolation between four neighbours, at places where 0 is the centre of the first pixel."""
    rows, columns = np.clip(rows, 0, grey.shape[0] - 1), np.clip(columns, 0, grey.shape[1] - 1)
    top, left = np.minimum(rows.astype(int), grey.shape[0] - 2), np.minimum(columns.astype(int), grey.shape[1] - 2)
    down, right = (rows - top)[:, None], (columns - left)[None]
    values = grey.astype(float)
    upper = values[top][:, left] * (1 - right) + values[top][:, left + 1] * right
    lower = values[top + 1][:, left] * (1 - right) + values[top + 1][:, left + 1] * right
    return np.round(upper * (1 - down) + lower * down).astype(np.uint8)


def _not_antialiased(port: Any) -> None:
    port.resize = lambda grey, height, width: _sampled(
        grey,
        (np.arange(height) + 0.5) * grey.shape[0] / height - 0.5,
        (np.arange(width) + 0.5) * grey.shape[1] / width - 0.5,
    )


def _weights(size: int, new: int) -> Any:
    """As the README of a kit has them, but that the centre of a pixel is taken for its beginning."""
    scale = size / new
    distance = np.abs(np.arange(size) + 0.5 - np.arange(new)[:, None] * scale) / max(scale, 1)
    weights = np.clip(1 - distance, 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


def _half_a_pixel_off(port: Any) -> None:
    port.resize = lambda grey, height, width: (
        (_weights(grey.shape[0], height) @ grey.astype(float) @ _weights(grey.shape[1], width).T)
        .round()
        .astype(np.uint8)
    )


def _keeping_the_aspect_ratio(port: Any) -> None:
    port.resize = lambda grey, height, width: np.asarray(
        port.ImageOps.pad(Image.fromarray(grey), (width, height), Image.Resampling.BILINEAR)
    )


def _scaled(port: Any) -> None:
    right = port.to_tensor

    def to_tensor(spec: Any, grey: Any) -> Any:
        tensor = right(spec, grey)
        plain = {**spec, "input": {**spec["input"], "scaling": None, "dtype": "float32"}}
        return (right(plain, grey) / 127.5 - 1).astype(tensor.dtype)

    port.to_tensor = to_tensor


def _not_scaled(port: Any) -> None:
    right = port.to_tensor
    port.to_tensor = lambda spec, grey: right({**spec, "input": {**spec["input"], "scaling": None}}, grey)


def _channels_last(port: Any) -> None:
    right = port.to_tensor

    def to_tensor(spec: Any, grey: Any) -> Any:
        tensor = right({**spec, "input": {**spec["input"], "layout": "nhwc"}}, grey)
        return tensor.reshape(1, spec["input"]["channels"], *grey.shape)

    port.to_tensor = to_tensor


def _softmax_again(port: Any) -> None:
    right = port.OnnxEngine.run

    def run(self: Any, tensor: Any) -> Any:
        values, *others = right(self, tensor)
        return [np.exp(values) / np.exp(values).sum(), *others]

    port.OnnxEngine.run = run


def _threshold_of_one_half(port: Any) -> None:
    right = port.answer
    port.answer = lambda spec, outputs: right({**spec, "decision": {**spec["decision"], "threshold": 0.5}}, outputs)


def _one_part(port: Any) -> None:
    right = port.answer

    def answer(spec: Any, outputs: Any) -> Any:
        check = spec["input_check"]
        return right({**spec, "input_check": {**check, "parts": [len(check["mean"])]}}, outputs)

    port.answer = answer


@pytest.mark.parametrize(
    ("kind", "plant", "step", "mistake"),
    [
        ("three", _without_orientation, "decode", "the EXIF orientation is ignored"),
        ("three", _decoded_in_wrong_order, "decode", "the channels are in the order blue, green, red"),
        ("three", _taking_16_bits, "decode", None),
        ("three", _in_wrong_order, "grey", "the channels are in the order blue, green, red"),
        ("three", _averaged, "grey", "the channels are averaged, all with the same weight"),
        ("three", _not_antialiased, "resize", "without antialiasing"),
        ("other", _not_antialiased, "resize", "without antialiasing"),
        ("other", _half_a_pixel_off, "resize", "half a pixel off"),
        ("three", _half_a_pixel_off, "resize", "half a pixel off"),
        ("other", _keeping_the_aspect_ratio, "resize", "the aspect ratio is kept, with a border"),
        ("three", _scaled, "tensor", "the pixels are taken as -1 to 1"),
        ("other", _scaled, "tensor", "the pixels are taken as -1 to 1"),
        ("other", _not_scaled, "tensor", "the pixels are not scaled"),
        ("other", _channels_last, "tensor", "height, width and channels are in another order"),
        ("three", _softmax_again, "outputs", "softmax is applied to probabilities"),
        ("bundled", _threshold_of_one_half, "decision", "the threshold seems to be 0.5, not 0.8932"),
        ("three", _one_part, "decision", None),
    ],
)
def test_a_port_with_a_mistake_is_told_the_step(
    make_kit: Callable[[str], Path],
    tmp_path: Path,
    kind: str,
    plant: Callable[[Any], None],
    step: str,
    mistake: str | None,
) -> None:
    kit = make_kit(kind)
    port = _port(kit)
    plant(port)
    try:
        port.main(kit, tmp_path / "results.json")
    finally:
        getattr(port, "undo", lambda: None)()
    result = _check(kit, tmp_path / "results.json")
    assert result.exit_code == ExitCode.GATE_MISSED
    expected = f"Python departs first at the step {step}" + (f": {mistake}" if mistake else "")
    assert result.stderr.strip() == expected, result.stdout


def test_a_port_that_rounds_differently_passes(make_kit: Callable[[str], Path], tmp_path: Path) -> None:
    """Its decoder is off by one on JPEG files, and it resizes in floating point."""
    kit = make_kit("bundled")
    port = _port(kit)
    decode, resize = port.decode, port.resize

    def other_decoder(path: Path) -> Any:
        pixels = decode(path)
        noise = np.random.default_rng(0).integers(0, 9, pixels.shape) == 0
        return np.clip(pixels.astype(int) + noise, 0, 255).astype(np.uint8) if path.suffix == ".jpeg" else pixels

    def in_floats(grey: Any, height: int, width: int) -> Any:
        picture = Image.fromarray(grey.astype(np.float32))
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)).round().astype(np.uint8)

    port.decode, port.resize = other_decoder, in_floats
    port.main(kit, tmp_path / "results.json")
    result = _check(kit, tmp_path / "results.json")
    assert result.exit_code == 0, result.stdout
    assert not np.array_equal(
        in_floats(decode(kit / "vectors/images/noise.png"), 224, 224),
        resize(decode(kit / "vectors/images/noise.png"), 224, 224),
    )


def test_the_same_model_has_the_same_kit(make_kit: Callable[[str], Path], tmp_path: Path) -> None:
    kit = make_kit("three")
    model = kit / _read(kit / "vectors" / "vectors.json")["model"]
    # As pip compiles what it installs.
    assert compileall.compile_file(Path(write.__file__).parent / "ports" / "python" / "port.py", quiet=1)
    for _ in range(2):  # the second replaces the first
        result = CliRunner().invoke(app, ["kit", "make", str(model), "--out", str(tmp_path / "kit")])
        assert result.exit_code == 0, result.stderr
    names = sorted(path.relative_to(kit) for path in kit.rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert names == sorted(path.relative_to(tmp_path / "kit") for path in (tmp_path / "kit").rglob("*.*"))
    for name in names:
        assert (kit / name).read_bytes() == (tmp_path / "kit" / name).read_bytes(), name


def test_a_model_file_as_a_c_array(make_kit: Callable[[str], Path], tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("there is no C compiler")
    model = make_kit("three") / "three.onnx"
    kit = tmp_path / "kit"
    assert CliRunner().invoke(app, ["kit", str(model), "--out", str(kit), "--c-array"]).exit_code == 0
    main = tmp_path / "main.c"
    main.write_text(
        '#include <stdint.h>\n#include <stdio.h>\n#include "model_data.h"\nint main(void) {\n'
        "  fwrite(pe_model_data, 1, pe_model_size, stdout);\n  return (uintptr_t)pe_model_data % 16 != 0;\n}\n"
    )
    folder = kit / "ports" / "c"
    for standard in ("c99", "c11"):
        command = [compiler, f"-std={standard}", "-Wall", "-Werror", str(main), str(folder / "model_data.c")]
        subprocess.run([*command, f"-I{folder}", "-o", tmp_path / "main"], check=True)
        done = subprocess.run([tmp_path / "main"], stdout=subprocess.PIPE, check=True)
        assert done.stdout == model.read_bytes()


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    result = CliRunner().invoke(app, ["kit", bundled.DEFAULT, "--out", str(tmp_path)], env={"COLUMNS": "300"})
    assert result.exit_code == ExitCode.USAGE
    assert "is a folder with other files in it" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def _cut(document: Any) -> None:
    del document["vectors"][3]


def _not_base64(document: Any) -> None:
    document["vectors"][0]["grey"]["pixels"] = "?"


def _too_few_pixels(document: Any) -> None:
    document["vectors"][0]["grey"]["pixels"] = base64.b64encode(b"123").decode()


def _too_few_decisions(document: Any) -> None:
    del document["decisions"][0]


def _nothing(document: Any) -> None:
    document["decisions"] = []
    document["vectors"] = [{"file": each["file"]} for each in document["vectors"]]


def _some(document: Any) -> None:
    del document["vectors"][0]["grey"]


def _twice(document: Any) -> None:
    document["vectors"].append(document["vectors"][0])


def _of_another_kit(document: Any) -> None:
    document["vectors"].append({"file": "images/other.png"})


def _newer(document: Any) -> None:
    document["schema_version"] = 2


def _text_as_a_number(document: Any) -> None:
    document["vectors"][0]["outputs"]["probability"] = ["a half"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_cut, "has no entry for images/colour.jpeg; expected one for each of 21 vectors"),
        (_not_base64, "grey.pixels of images/grey.jpeg is not base64"),
        (_too_few_pixels, "grey.pixels of images/grey.jpeg is of 3 bytes, not"),
        (_too_few_decisions, "decisions; expected one for each of"),
        (_nothing, "reports no step"),
        (_some, "reports grey for 15 of 16 images; expected all of them, or none"),
        (_of_another_kit, "has an entry for images/other.png; expected the images of this kit alone"),
        (_twice, "has several entries for images/grey.jpeg"),
        (_newer, "schema_version is 2, newer than 1"),
        (_text_as_a_number, "vectors[0].outputs.probability[0] is"),
    ],
)
def test_results_that_are_not_whole_are_refused(
    make_kit: Callable[[str], Path], tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    kit = make_kit("three")
    path = tmp_path / "results.json"
    _port(kit).main(kit, path)
    document = _read(path)
    change(document)
    path.write_text(json.dumps(document))
    result = _check(kit, path)
    assert result.exit_code == ExitCode.FAILED, result.stdout
    assert message in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_step_of_which_only_refusals_are_reported_does_not_pass(
    make_kit: Callable[[str], Path], tmp_path: Path
) -> None:
    kit, path = make_kit("three"), tmp_path / "results.json"
    _port(kit).main(kit, path)
    document = _read(path)
    for each in document["vectors"]:
        each.pop("decoded", None)
    # All three classes, in an order that is not simply the reverse.
    for each in document["decisions"]:
        names, shares = zip(*each["probabilities"].items(), strict=True)
        each["probabilities"] = dict(zip(names, (*shares[1:], shares[0]), strict=True))
    path.write_text(json.dumps(document))
    result = _check(kit, path)
    assert "decode: 5 pass; only refusals are reported" in result.stdout
    assert "it looks as if the classes are in another order" in result.stdout
    document["decisions"] = []
    path.write_text(json.dumps(document))
    assert "passes every step but decode, not reported" in _check(kit, path).stdout


def test_a_kit_that_is_not_whole_is_refused(make_kit: Callable[[str], Path], tmp_path: Path) -> None:
    _port(make_kit("three")).main(make_kit("three"), tmp_path / "results.json")
    kit = tmp_path / "kit"
    shutil.copytree(make_kit("three"), kit)
    (kit / "three.onnx").write_bytes(b"another")
    assert "is not the file that the test vectors are of" in _check(kit, tmp_path / "results.json").stderr
    (kit / "three.onnx").unlink()
    assert "is not there" in _check(kit, tmp_path / "results.json").stderr
    (kit / "vectors" / "vectors.json").write_text("{}")
    assert "cannot be read (the field" in _check(kit, tmp_path / "results.json").stderr
    assert "there are no test vectors at" in _check(tmp_path, tmp_path / "results.json").stderr
    assert "there is no file" in _check(make_kit("three"), tmp_path / "nothing.json").stderr


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["results.json", "vectors.json"])
def test_a_document_of_any_content_is_graded_or_refused_in_one_line(
    make_kit: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    kit = tmp_path / "kit"
    shutil.copytree(make_kit("three"), kit)
    _port(kit).main(kit, tmp_path / "results.json")
    path = tmp_path / name if name == "results.json" else kit / "vectors" / name
    document = _read(path)
    if name == "results.json":
        for each in document["vectors"]:  # most of the document, and all alike
            for step in ("decoded", "grey", "tensor"):
                each.pop(step, None)

    @several(10)
    @given(mutated(document))
    def grade(text: bytes) -> None:
        path.write_bytes(text)
        result = _check(kit, tmp_path / "results.json")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        assert result.exit_code in (0, ExitCode.FAILED, ExitCode.GATE_MISSED)
        assert len(result.stderr.splitlines()) == (result.exit_code != 0)

    grade()


def test_pixels_survive_their_file(tmp_path: Path) -> None:
    for shape in ((3, 5), (3, 5, 3)):
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        (tmp_path / "pixels").write_bytes(vectors.netpbm(pixels))
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "pixels")), pixels)


def test_names_of_classes_are_no_markdown_of_the_readme(make_kit: Callable[[str], Path]) -> None:
    odd = "a`|*<b>\n# c"
    classifier = Classifier(bundled.DEFAULT)
    spec = replace(
        classifier.spec,
        name=odd,
        class_names=("NORMAL", odd),
        decision=replace(classifier.spec.decision, positive_class=odd),
        data=replace(classifier.spec.data, name=odd),
        conformal=None,
        validation_distribution=None,
    )
    made = records.loads(KitVectors, (make_kit("bundled") / "vectors" / "vectors.json").read_bytes())
    text = readme.render(SimpleNamespace(spec=spec), made)  # type: ignore[arg-type]
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    inside = [token for token in parser.parse(text) if token.type == "inline"]
    shown = [child for token in inside for child in token.children or ()]
    assert [token.content for token in shown if token.type == "code_inline"].count("a`|*<b>\\n# c") == 2
    assert not [token for token in shown if token.type == "html_inline"]
    (title,) = [token for token in parser.parse(text)[:3] if token.type == "inline"]
    assert "".join(child.content for child in title.children or ()) == "Kit of a`|*<b>\\n# c"
