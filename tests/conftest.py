"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE_THE_REPOSITORY = Path(__file__).parents[2] / "shared"


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
