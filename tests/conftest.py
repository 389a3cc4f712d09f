"""Fixtures that every room's tests share."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from pneumo_edge import extras

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("pneumo-edge", deadline=None)
settings.load_profile("pneumo-edge")

#: The only tests that import TensorFlow into this process: after that, tflite-runtime 2.14 loads no model.
_LAST = Path(__file__).with_name("training")
_BESIDE_THE_REPOSITORY = Path(__file__).parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that import TensorFlow last."""
    items.sort(key=lambda item: _LAST in item.path.parents)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the real X-rays and the ImageNet weights, which are not in the repository."""
    folder = Path(os.environ.get("PNEUMO_EDGE_SHARED", _BESIDE_THE_REPOSITORY))
    if not (folder / "data").is_dir():
        pytest.skip(f"the real X-rays and weights are not at {folder}; set PNEUMO_EDGE_SHARED to their folder")
    return folder


@pytest.fixture(scope="session")
def shared_data(shared: Path) -> Path:
    return shared / "data"


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
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``tiny-fp32.tflite``, ``tiny-int8.tflite`` and ``tiny-fp32.onnx``, made by the converters.

    They take images of 224x224 and call bright ones PNEUMONIA: black gets a probability of 0.0025, white
    of 0.9975. Each holds a whole ModelSpec; the same files without one are in ``bare``.
    """
    if not extras.is_installed("tensorflow"):
        pytest.skip("the tiny models are made with TensorFlow, of the extra 'convert'")
    folder = tmp_path_factory.mktemp("tiny")
    command = [sys.executable, str(Path(__file__).with_name("tiny_model.py")), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder
