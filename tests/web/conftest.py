from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pneumo_edge.errors import InstallationError
from pneumo_edge.web import build, runtimes
from tests.web.serving import Server


@pytest.fixture(scope="session")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("Node.js is not installed")
    return found


@pytest.fixture(scope="session")
def modules() -> Path:
    """The WebAssembly runtimes, fetched by npm once for all tests and later runs."""
    try:
        return runtimes.find(None)
    except InstallationError as error:
        pytest.skip(f"the WebAssembly runtimes are not to be had: {error}")


@pytest.fixture(scope="session")
def site(tiny_models: Path, modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with a model for each runtime and type of input."""
    models = [tiny_models / name for name in ("tiny-int8.tflite", "tiny-fp32.tflite", "tiny-fp32.onnx")]
    return build.build(models, tmp_path_factory.mktemp("web") / "site", modules).folder


@pytest.fixture
def server(site: Path) -> Iterator[Server]:
    served = Server(site)
    yield served
    served.stop()
