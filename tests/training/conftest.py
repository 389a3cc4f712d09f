from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def keras() -> Any:
    """Keras, imported when the first test asks for it; see the order of tests in the outer conftest."""
    return pytest.importorskip("keras", reason="the extra 'train' is not installed")
