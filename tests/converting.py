"""One child process of the converters for many tests: it imports TensorFlow once."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pneumo_edge.converters import isolated


@contextlib.contextmanager
def converting_in(child: isolated.Child) -> Iterator[None]:
    """Let every export of this process use a child process that runs, and find it as a new one would be."""

    @contextlib.contextmanager
    def as_new(log: Path) -> Iterator[isolated.Child]:
        child.call(forget)
        yield child

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isolated, "child_process", as_new)
        yield


def forget() -> None:
    """In the child process: forget the networks that were converted before, and start to count layers again."""
    for name, module in list(sys.modules.items()):
        if name.startswith("pneumo_edge.converters."):
            for value in vars(module).values():
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session()
