"""Fixtures that every room's tests share."""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from pneumo_edge import Classifier
from pneumo_edge._util import extras
from pneumo_edge.backbones import SIDE
from pneumo_edge.converters import isolated
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.data import sample
from pneumo_edge.data.sources import PHANTOM_MARKER, open_source
from pneumo_edge.data.tensors import prepare
from pneumo_edge.errors import InstallationError
from pneumo_edge.formats import ADOPTED
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import InputSpec, ScalingSpec
from pneumo_edge.spec.attaching import attach
from pneumo_edge.web import runtimes
from tests import pages, specs

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# pytest-xdist tells its workers a width; the commands under test print to a pipe, which has none.
os.environ.pop("COLUMNS", None)

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("pneumo-edge", deadline=None, max_examples=50)
settings.load_profile("pneumo-edge")

#: The only tests that import TensorFlow into the process: after that, tflite-runtime 2.14 loads no model.
_LAST = Path(__file__).with_name("training")
#: Where several test processes share what a fixture makes; by default those of one pytest share it.
_MADE_VARIABLE = "PNEUMO_EDGE_TESTS_MADE"
_DISTRIBUTION = "pneumo-edge"
_REPOSITORY = Path(__file__).parents[1]
_BESIDE_THE_REPOSITORY = _REPOSITORY.parent / "shared"
_NO_NETWORK = re.compile("NewConnectionError|Temporary failure in name resolution|Network is unreachable|No route")
_NO_REGISTRY = re.compile("EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|network")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that import TensorFlow last.

    ``make test`` hands files to the test processes in this order, so that holds in each of them.
    """
    items.sort(key=lambda item: _LAST in item.path.parents)


MakeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """Makes a folder, by its name, for all test processes: the first that asks fills it, and the others wait."""
    base = tmp_path_factory.getbasetemp()
    # A process of pytest-xdist has a folder in that of all.
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    base = Path(os.environ.get(_MADE_VARIABLE, base)).resolve()

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = base / name, base / f"{name}.done"
        base.mkdir(parents=True, exist_ok=True)
        with (base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the whole data set of X-rays and the ImageNet weights, which are not in the repository."""
    folder = Path(os.environ.get("PNEUMO_EDGE_SHARED", _BESIDE_THE_REPOSITORY))
    if not (folder / "data").is_dir():
        pytest.skip(f"the real X-rays and weights are not at {folder}; set PNEUMO_EDGE_SHARED to their folder")
    return folder


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """That of the bundled model."""
    pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")
    return Classifier()


@pytest.fixture(scope="session")
def sample_pack() -> Path:
    """Folder with real X-rays at 224 pixels, in ``train`` and ``test``; of the repository, so that all have it."""
    folder = sample.find()
    if folder is None:
        pytest.skip("the sample pack is in the repository, and this pneumo-edge is installed from a wheel")
    return folder


@pytest.fixture(scope="session")
def shared_data(shared: Path) -> Path:
    return shared / "data"


@pytest.fixture(scope="session")
def decoded(make_once: MakeOnce, shared_data: Path) -> Path:
    """A cache folder with the whole data set at 224 pixels."""
    source = shared_data / "chest_xray_224"
    return make_once("decoded", lambda cache: prepare(open_source(source), cache, SIDE, SIDE))


@pytest.fixture
def offline(tmp_path: Path) -> Mapping[str, str]:
    """The environment of a command that reaches no address, and has fetched nothing before."""
    return _offline(tmp_path)


@pytest.fixture(scope="session")
def trained(make_once: MakeOnce, sample_pack: Path) -> Path:
    """A folder with ``runs`` and ``models``, in which the first commands of docs/how-to/train.md were run.

    They audit, train ``mobilenetv2-quick`` on the sample pack and export it. A test that trains and exports the same
    begins with a copy of these: the commands take what is finished as it is.
    """
    if not extras.is_installed("tensorflow"):
        pytest.skip("the extras 'train' and 'convert' are not installed")

    def fill(folder: Path) -> None:
        (folder / "chest_xray").symlink_to(sample_pack)
        for block in pages.blocks(_REPOSITORY / "docs" / "how-to" / "train.md"):
            if block.reason == "tests/conftest.py":
                pages.run(block, folder, _offline(folder))

    return make_once("trained", fill)


def _offline(folder: Path) -> Mapping[str, str]:
    nobody = "http://127.0.0.1:9"
    proxies = {
        name: nobody for scheme in ("http", "https", "all") for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper())
    }
    folders = {"KERAS_HOME": str(folder / "keras"), "PNEUMO_EDGE_CACHE": str(folder / "cache")}
    given = {
        name: value for name, value in os.environ.items() if name not in ("PNEUMO_EDGE_DATA", "PNEUMO_EDGE_WEIGHTS")
    }
    return {**given, **proxies, **folders, "no_proxy": "", "NO_PROXY": ""}


@pytest.fixture(scope="session")
def obey_permissions() -> Callable[[], None]:
    """For ``preexec_fn`` of a subprocess: it is bound by the permissions of files even where it is root."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    libc = ctypes.CDLL(None)
    pr_capbset_drop, cap_dac_override, cap_dac_read_search = 24, 1, 2

    def drop() -> None:
        for capability in (cap_dac_override, cap_dac_read_search):
            libc.prctl(pr_capbset_drop, capability, 0, 0, 0)

    return drop


@pytest.fixture(scope="session")
def tiny_models(make_once: MakeOnce) -> Path:
    """Folder with ``tiny-fp32.tflite``, ``tiny-int8.tflite`` and ``tiny-fp32.onnx``, made by the converters.

    They take images of 224x224 and call bright ones PNEUMONIA: black gets a probability of 0.0025, white
    of 0.9975. Each holds a whole ModelSpec; the same files without one are in ``bare``. A machine without
    TensorFlow may have them from elsewhere, in ``$PNEUMO_EDGE_TINY_MODELS``.
    """
    if made := os.environ.get("PNEUMO_EDGE_TINY_MODELS"):
        return Path(made)
    if not extras.is_installed("tensorflow"):
        pytest.skip("the tiny models are made with TensorFlow, of the extra 'convert'")

    def fill(folder: Path) -> None:
        command = [sys.executable, str(Path(__file__).with_name("tiny_model.py")), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return make_once("tiny", fill)


@pytest.fixture(scope="session")
def converter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[isolated.Child]:
    """A child process of the converters for all tests; see :mod:`tests.converting`."""
    with isolated.child_process(tmp_path_factory.mktemp("converter") / "log.txt") as child:
        yield child


@pytest.fixture(scope="session")
def without_heatmap(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiny-fp32.tflite`` as it was before there were heatmaps: the same graph with the one output."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    whole = tiny_models / "tiny-fp32.tflite"
    model = schema.ModelT.InitFromPackedBuf((tiny_models / "bare" / whole.name).read_bytes())
    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    graph.outputs, signature.outputs = graph.outputs[:1], signature.outputs[:1]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    folder = tmp_path_factory.mktemp("old")
    (folder / "bare.tflite").write_bytes(builder.Output())
    write_spec(folder / "bare.tflite", folder / whole.name, replace(read_spec(whole), outputs=()))
    return folder / whole.name


@pytest.fixture(scope="session")
def inert_tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFLite file, whole and without a ModelSpec, whose one operator no engine knows."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    model = schema.ModelT(
        version=3,
        operatorCodes=[schema.OperatorCodeT(builtinCode=schema.BuiltinOperator.CUSTOM, customCode="NoSuchOperator")],
        subgraphs=[
            schema.SubGraphT(
                tensors=[schema.TensorT(shape=[1, 2], name=name) for name in ("in", "out")],
                inputs=[0],
                outputs=[1],
                operators=[schema.OperatorT(inputs=[0], outputs=[1])],
            )
        ],
        buffers=[schema.BufferT()],
    )
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path_factory.mktemp("inert") / "inert.tflite"
    path.write_bytes(builder.Output())
    return path


@pytest.fixture(scope="session")
def nan_on_black(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file of another tool with a ModelSpec: bright images are PNEUMONIA, and black ones give NaN."""
    onnx = pytest.importorskip("onnx")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    side, initial = 32, {"weights": np.array([[0, 0.1]]), "bias": np.array([0, -10.0]), "zero": np.zeros(1)}
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["vector"]),
            helper.make_node("Gemm", ["vector", "weights", "bias"], ["dense"]),
            # 0 times the logarithm of 0 is NaN.
            helper.make_node("Log", ["vector"], ["logarithm"]),
            helper.make_node("Mul", ["logarithm", "zero"], ["nothing"]),
            helper.make_node("Add", ["dense", "nothing"], ["scores"]),
        ],
        "graph",
        [helper.make_tensor_value_info("image", number, [1, 1, side, side])],
        [helper.make_tensor_value_info("scores", number, [1, 2])],
        [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in initial.items()],
    )
    folder = tmp_path_factory.mktemp("nan")
    bare, path = folder / "bare.onnx", folder / "nan.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(bare))
    taken = InputSpec(side, side, 1, "float32", "bilinear", layout="nchw", scaling=ScalingSpec((1.0,), (0.0,)))
    attach(bare, path, replace(specs.make_spec("nan", ADOPTED), input=taken, scores="logits"))
    return path


@pytest.fixture
def phantom_folder(tmp_path: Path) -> Path:
    """Class folders of noise, PNEUMONIA brighter, and one test image that is not whole."""
    root = tmp_path / "phantom"
    for split, count in (("train", 2), ("test", 6)):
        for label, class_name in enumerate(("NORMAL", "PNEUMONIA")):
            for index in range(count):
                _make_image(root / split / class_name / f"{index}.png", 40 + 100 * label, seed=index)
    whole = (root / "test" / "NORMAL" / "0.png").read_bytes()
    (root / "test" / "NORMAL" / "broken.png").write_bytes(whole[: len(whole) // 2])
    (root / PHANTOM_MARKER).write_text("not real\n")
    return root


@pytest.fixture
def fake_model(inert_tflite: Path, tmp_path: Path) -> Path:
    """A TFLite file that carries a spec, but that no engine runs."""
    model = tmp_path / "fake.tflite"
    write_spec(inert_tflite, model, specs.make_spec("mobilenetv2", "fp32"))
    return model


@pytest.fixture(scope="session")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("Node.js is not installed")
    return found


@pytest.fixture(scope="session")
def modules(make_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The WebAssembly runtimes, which npm fetches into the cache of this user."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    try:
        # Several test processes must not fetch them at the same time.
        make_once("web-runtimes", lambda folder: runtimes.find(None))
    except InstallationError as error:
        if _NO_REGISTRY.search(str(error)):
            pytest.skip(f"the npm registry cannot be reached: {error}")
        raise
    return runtimes.find(None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium, as the machine has it."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("pages are looked at in Chromium, and there is none: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api").sync_playwright().start()
    try:
        yield playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    finally:
        playwright.stop()


@pytest.fixture(scope="session")
def pip() -> Callable[..., None]:
    """Runs pip in the environment of a Python; where no package index can be reached, the test is skipped."""
    return _pip


@pytest.fixture(scope="session")
def fresh_environment() -> Callable[[Path, str], Path]:
    """Makes a virtual environment in a folder, with a requirement installed, and gives its Python.

    Of what a wheel of this checkout requires, the distributions that are installed here are linked.
    """
    return _fresh_environment


def _make_image(path: Path, brightness: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 60, (specs.SIDE + 8, specs.SIDE + 8)) + brightness
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def wheel(make_once: MakeOnce, pip: Callable[..., None]) -> Path:
    """The wheel of this checkout."""

    def fill(folder: Path) -> None:
        pip(Path(sys.executable), "wheel", "--no-deps", "--wheel-dir", str(folder), str(_REPOSITORY))

    (path,) = make_once("wheel", fill).glob("*.whl")
    return path


def _pip(python: Path, *arguments: str) -> None:
    # The pip of this environment: to install one in each takes longer than most of what is installed.
    command = [sys.executable, "-m", "pip", "--python", str(python), "--quiet", "--disable-pip-version-check"]
    command += arguments
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode and _NO_NETWORK.search(result.stderr):
        pytest.skip("a fresh environment takes a package index, and none can be reached")
    assert result.returncode == 0, result.stderr


def _fresh_environment(folder: Path, requirement: str) -> Path:
    venv.create(folder)
    python = folder / "bin" / "python"
    if wheel := re.fullmatch(r".*\.whl(\[.*\])", requirement):
        (site_packages,) = folder.glob("lib/python*/site-packages")
        for distribution in _required(Requirement(f"{_DISTRIBUTION}{wheel[1]}")):
            _link(distribution, site_packages)
    # Modules are compiled when they are imported; most never are.
    _pip(python, "install", "--no-compile", "--constraint", str(_REPOSITORY / "constraints.txt"), requirement)
    return python


def _required(requirement: Requirement) -> Iterator[metadata.Distribution]:
    """The installed distributions that one requires, directly or indirectly."""
    pending, seen = [requirement], set()
    while pending:
        wanted = pending.pop()
        for extra in ("", *sorted(wanted.extras)):
            if (canonicalize_name(wanted.name), extra) in seen:
                continue
            seen.add((canonicalize_name(wanted.name), extra))
            try:
                found = metadata.distribution(wanted.name)
            except metadata.PackageNotFoundError:
                continue  # pip installs it
            every = map(Requirement, found.requires or ())
            pending += [each for each in every if not each.marker or each.marker.evaluate({"extra": extra})]
            if not extra and canonicalize_name(wanted.name) != _DISTRIBUTION:
                yield found


def _link(distribution: metadata.Distribution, site_packages: Path) -> None:
    """Put links to its files into an environment: folders of its own, so that pip could remove it there."""
    for file in distribution.files or ():
        if ".." in file.parts:
            continue  # a command, which names the Python of this environment
        source = Path(str(distribution.locate_file(file)))
        compiled = Path(importlib.util.cache_from_source(str(source))) if source.suffix == ".py" else source
        for each in {source, compiled}:
            link = site_packages / each.relative_to(Path(str(distribution.locate_file(""))))
            if each.is_file() and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(each)
