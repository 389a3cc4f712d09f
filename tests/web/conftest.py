from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pneumo_edge.web import build
from tests.web.serving import Server


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
