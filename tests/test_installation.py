"""The wheel in fresh environments that have one engine and nothing else: what a device gets."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen
from zipfile import ZipFile

import pytest
from PIL import Image

from pneumo_edge import bundled
from pneumo_edge.data import sample
from tests import pages

pytestmark = pytest.mark.slow

_REPOSITORY = Path(__file__).parents[1]
_RASPBERRY_PI = [
    block
    for block in pages.blocks(_REPOSITORY / "docs" / "how-to" / "install.md")
    if block.reason == f"tests/{Path(__file__).name}"
]
#: What a device downloads, with both trained models in it.
_MOST_BYTES = 12_000_000
#: What the sample pack may add to the source distribution.
_SAMPLE_BYTES = 4_000_000
#: Extra, engine, files that it runs, files that it does not and the extra that those need.
_DEVICES = [
    ("litert", "litert", ["tiny-fp32.tflite", "tiny-int8.tflite"], "tiny-fp32.onnx", "onnx"),
    ("tflite", "tflite-runtime", ["tiny-fp32.tflite", "tiny-int8.tflite"], "tiny-fp32.onnx", "onnx"),
    ("onnx", "onnxruntime", ["tiny-fp32.onnx"], "tiny-fp32.tflite", "litert"),
]


@pytest.fixture
def x_ray(tmp_path: Path) -> Path:
    path = tmp_path / "x-ray.png"
    Image.new("L", (300, 250), 40).save(path)
    return path


@pytest.fixture(scope="module")
def hatchling(tmp_path_factory: pytest.TempPathFactory, fresh_environment: Callable[[Path, str], Path]) -> Path:
    """The Python of an environment with the build backend."""
    return fresh_environment(tmp_path_factory.mktemp("hatchling") / "venv", "hatchling")


def test_the_wheel_brings_the_trained_models_and_their_cards(wheel: Path) -> None:
    assert wheel.stat().st_size < _MOST_BYTES
    with ZipFile(wheel) as archive:
        for path in _bundled_files():
            assert archive.read(path.relative_to(_REPOSITORY).as_posix()) == path.read_bytes()
        assert not [name for name in archive.namelist() if sample.NAME in name or name.endswith(".jpeg")]
        (notice,) = (name for name in archive.namelist() if name.endswith("/licenses/NOTICE"))
        # The licence of the X-rays in the reference sets.
        assert "reference.npz" in archive.read(notice).decode() and b"CC BY 4.0" in archive.read(notice)


def test_the_wheel_installs_one_name(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"pneumo_edge"}
    assert {"pneumo_edge/benchmarks/run.py", "pneumo_edge/converters/export.py"} <= set(names)
    assert not [name for name in names if "device_speed" in name or "benchmark_pages" in name]


def test_it_works_beside_another_benchmarks_package_and_in_a_folder_with_one(
    wheel: Path, tmp_path: Path, pip: Callable[..., None], fresh_environment: Callable[[Path, str], Path]
) -> None:
    foreign = tmp_path / "foreign"
    (foreign / "benchmarks").mkdir(parents=True)
    (foreign / "benchmarks" / "__init__.py").write_text("")
    (foreign / "benchmarks" / "run.py").write_text("raise SystemExit('the run.py of another')\n")
    (foreign / "setup.py").write_text(
        "from setuptools import setup\nsetup(name='foreign', version='1', packages=['benchmarks'])\n"
    )
    python = fresh_environment(tmp_path / "venv", f"{wheel}[litert,bench]")
    pip(python, "install", str(foreign))
    phantom = _run(python, "data", "phantom", tmp_path / "phantom", "--train-per-class", "10", "--test-per-class", "4")
    assert phantom.returncode == 0, phantom.stderr
    done = _run(
        python, "benchmark", "mobilenetv2", "--data", tmp_path / "phantom", "--preset", "rapid",
        "--processes", "2", "--queries", "5", "--seconds", "0", "--engine", "litert",
        "--out", tmp_path / "out", cwd=foreign,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pip(python, "uninstall", "--yes", "foreign")
    with ZipFile(wheel) as archive:
        ours = archive.read("pneumo_edge/benchmarks/run.py")
    (installed,) = (tmp_path / "venv").rglob("pneumo_edge/benchmarks/run.py")
    assert installed.read_bytes() == ours


def test_a_checkout_without_links_says_what_to_do(tmp_path: Path) -> None:
    package = tmp_path / "pneumo_edge"
    shutil.copytree(_REPOSITORY / "pneumo_edge", package, ignore=lambda *_: ["benchmarks", "converters"])
    for name in ("benchmarks", "converters"):
        (package / name).write_text(f"../{name}")
    done = subprocess.run(
        [sys.executable, "-m", "pneumo_edge", "verify", "mobilenetv2"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "core.symlinks" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("target", ["wheel", "sdist"])
def test_a_checkout_without_links_is_not_built(target: str, tmp_path: Path, hatchling: Path) -> None:
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(_REPOSITORY / name, tmp_path)
    (tmp_path / "pneumo_edge").mkdir()
    shutil.copy(_REPOSITORY / "pneumo_edge" / "__init__.py", tmp_path / "pneumo_edge")
    for name in ("benchmarks", "converters"):
        (tmp_path / "pneumo_edge" / name).write_text(f"../{name}")
    command = [str(hatchling), "-m", "hatchling", "build", "--target", target, "--directory", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "pneumo_edge/benchmarks is not a package in this checkout" in done.stderr + done.stdout
    assert "core.symlinks" in done.stderr + done.stdout and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("dist/*"))


def test_the_source_distribution_brings_them_too_and_the_sample_pack(
    tmp_path: Path, sample_pack: Path, hatchling: Path
) -> None:
    # pip builds none, so the build backend itself is asked.
    command = [str(hatchling), "-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=_REPOSITORY, capture_output=True, check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    assert archive.stat().st_size < _MOST_BYTES + _SAMPLE_BYTES
    with tarfile.open(archive) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    brought = [*_bundled_files(), *(path for path in sample_pack.rglob("*") if path.is_file())]
    assert names >= {path.relative_to(_REPOSITORY).as_posix() for path in brought}


def _bundled_files() -> list[Path]:
    folder = _REPOSITORY / "pneumo_edge" / "bundled"
    models = [folder / bundled.path(name).name for name in bundled.NAMES]
    references = [folder / f"{name}-reference.npz" for name in bundled.NAMES]
    return [
        *models,
        *references,
        *(path.with_suffix(".md") for path in models),
        *(path.with_name(f"{path.name}.proof.json") for path in models),
    ]


@pytest.mark.parametrize(("extra", "engine", "runs", "refused", "needed"), _DEVICES)
def test_a_device_with_one_engine_predicts(
    extra: str, engine: str, runs: list[str], refused: str, needed: str,
    wheel: Path, tiny_models: Path, x_ray: Path, tmp_path: Path, fresh_environment: Callable[[Path, str], Path],
) -> None:  # fmt: skip
    if extra == "tflite" and (sys.version_info >= (3, 12) or sys.platform != "linux"):
        pytest.skip("tflite-runtime has wheels for Linux and Python up to 3.11 only")
    python = fresh_environment(tmp_path / "venv", f"{wheel}[{extra}]")

    for name in runs:
        predicted = _run(python, "predict", x_ray, "--model", tiny_models / name, "--json")
        assert predicted.returncode == 0, predicted.stderr
        document = json.loads(predicted.stdout)
        assert document["engine"] == engine
        assert document["images"][0]["label"] in ("NORMAL", "PNEUMONIA")
        shown = _run(python, "info", tiny_models / name)
        assert shown.returncode == 0, shown.stderr
        assert "NORMAL, PNEUMONIA" in shown.stdout

    by_default = _run(python, "predict", x_ray, "--json")
    if any(name.endswith(".tflite") for name in runs):
        assert by_default.returncode == 0, by_default.stderr
        assert json.loads(by_default.stdout)["model"] == f"{bundled.DEFAULT}-int8"
        for name in bundled.NAMES:
            named = _run(python, "predict", x_ray, "--model", name, "--json")
            assert json.loads(named.stdout)["model"] == f"{name}-int8", named.stderr
        # The other one, on each engine: tests/converters/test_bundled_references.py.
        verified = _run(python, "verify", bundled.DEFAULT)
        assert verified.returncode == 0, verified.stderr
        assert f"{bundled.DEFAULT}-int8.tflite: verified on 58 images" in verified.stdout
        assert f"  {engine}, 2 threads: 58 images" in verified.stdout
    else:
        assert by_default.returncode == 3
        assert 'Run: pip install "pneumo-edge[litert]"' in by_default.stderr
        assert len(by_default.stderr.splitlines()) == 1
        assert _run(python, "verify", bundled.DEFAULT).returncode == 3

    missing = _run(python, "predict", x_ray, "--model", tiny_models / refused)
    assert missing.returncode == 3
    assert f'pip install "pneumo-edge[{needed}]"' in missing.stderr
    assert len(missing.stderr.splitlines()) == 1

    untrained = _run(python, "train", "--data", tmp_path, "--backbone", "mobilenetv2")
    assert untrained.returncode == 3
    assert 'pip install "pneumo-edge[train]"' in untrained.stderr

    heavy = "import importlib.util as u; print([m for m in ('tensorflow', 'keras', 'onnx') if u.find_spec(m)])"
    found = subprocess.run([python, "-c", heavy], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_device_with_the_extra_dicom_reads_dicom(
    wheel: Path, tmp_path: Path, fresh_environment: Callable[[Path, str], Path]
) -> None:
    python = fresh_environment(tmp_path / "venv", f"{wheel}[litert,dicom]")
    where = "import pydicom; print(pydicom.data.get_testdata_file('MR_small_RLE.dcm', download=False))"
    file = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    predicted = _run(python, "predict", file, "--json")
    assert predicted.returncode == 0, predicted.stderr
    assert json.loads(predicted.stdout)["images"][0]["label"] in ("NORMAL", "PNEUMONIA")


def test_a_device_with_the_extra_serve_answers_over_http(
    wheel: Path, x_ray: Path, tmp_path: Path, fresh_environment: Callable[[Path, str], Path]
) -> None:
    python = fresh_environment(tmp_path / "venv", f"{wheel}[litert,serve]")
    command = [str(python), "-m", "pneumo_edge", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().split()[2]
            request = Request(f"{url}predict", x_ray.read_bytes(), {"Content-Type": "image/png"})
            with urlopen(request, timeout=60) as answer:
                assert json.load(answer)["label"] in ("NORMAL", "PNEUMONIA")
            with urlopen(url, timeout=60) as answer:
                assert b"Choose an X-ray" in answer.read()
        finally:
            process.terminate()
        assert process.wait(60) == 0
    absent = "import importlib.util as u; print([m for m in ('tensorflow', 'keras', 'jinja2') if u.find_spec(m)])"
    found = subprocess.run([python, "-c", absent], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_raspberry_pi_needs_what_the_page_says(tmp_path: Path, pip: Callable[..., None]) -> None:
    copy = tmp_path / "copy"
    for name in ("pneumo_edge", "converters", "benchmarks"):
        shutil.copytree(_REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "constraints.txt", "hatch_build.py"):
        shutil.copy(_REPOSITORY / name, copy)
    Image.effect_noise((400, 300), 60).save(copy / "x-ray.jpeg")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    said = []
    for command in (shlex.split(command.line) for block in _RASPBERRY_PI for command in block.commands):
        if command[0].endswith("/pip"):
            # Through the fixture, which skips the test where there is no package index.
            requirements = [word.replace(".", str(copy), 1) if word.startswith(".") else word for word in command[2:]]
            pip(copy / ".venv/bin/python", command[1], "--constraint", str(copy / "constraints.txt"), *requirements)
            continue
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        said.append(done.stdout)
    assert re.search(r"^(NORMAL|PNEUMONIA) .* x-ray.jpeg$", "".join(said), re.MULTILINE)
    assert "efficientnetb0-int8" in said[-1]


def _run(python: Path, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-m", "pneumo_edge", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=600)
