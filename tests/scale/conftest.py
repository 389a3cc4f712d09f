from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pneumo_edge.api import score as api


class _InThisProcess:
    """A worker of this machine without a process of its own."""

    def __init__(self, function: Callable[[Any], Callable[[Any], Any]], setup: Any) -> None:
        self._make, self._setup = function, setup
        self._function: Callable[[Any], Any] | None = None

    def __call__(self, argument: Any) -> Any:
        if self._function is None:
            self._function = self._make(self._setup)
        return self._function(argument)

    def stop(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """``score`` starts no processes: for what does not concern them."""
    monkeypatch.setattr(api, "LocalWorker", _InThisProcess)
