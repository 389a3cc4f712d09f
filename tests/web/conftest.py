from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pneumo_edge.errors import InstallationError
from pneumo_edge.web import build, runtimes
from tests.web.serving import Server

_NO_NETWORK = re.compile("EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|network")


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
        if _NO_NETWORK.search(str(error)):
            pytest.skip(f"the npm registry cannot be reached: {error}")
        raise
    return runtimes.find(None)


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
