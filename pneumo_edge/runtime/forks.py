"""Makes engines and classifiers work in a forked process.

A fork copies the memory of a process, but only one of its threads. The threads of an engine do not exist in the child,
so the engine hangs, even when it is destroyed. A lock that another thread held is never released.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Protocol


class Survivor(Protocol):
    """An object that must be repaired after a fork."""

    def after_fork(self) -> None:
        """Called in the child before anything else; it must not raise and must be fast."""
        ...


_engines: weakref.WeakSet[Any] = weakref.WeakSet()
_survivors: weakref.WeakSet[Survivor] = weakref.WeakSet()
_skips_destructors = False
#: Held while an engine is loaded, because libraries then hold locks that a child would wait for.
loading = threading.RLock()
#: How long a fork waits for this lock, in seconds.
_PATIENCE = 10.0
_waited: threading.local = threading.local()


def never_destroy(engine: Any) -> None:
    """Keep an engine alive in every child process, where destroying it would hang or crash."""
    _engines.add(engine)


def tell(survivor: Survivor) -> None:
    """Call ``survivor.after_fork()`` in every child process, as long as it lives."""
    _survivors.add(survivor)


def skip_destructors() -> None:
    """Make child processes end without the destructors of static objects, because a library's destructor hangs."""
    global _skips_destructors
    _skips_destructors = True


def _before() -> None:
    _waited.has_lock = loading.acquire(timeout=_PATIENCE)


def _in_parent() -> None:
    if _waited.has_lock:
        loading.release()


def _in_child() -> None:
    global loading
    loading = threading.RLock()
    import ctypes

    for engine in list(_engines):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
    if _skips_destructors:
        # Python's own cleanup is done by then. The handler registered last is called first, with the exit status.
        libc = ctypes.CDLL(None)
        if hasattr(libc, "on_exit"):
            libc.on_exit(libc._exit, None)
    for survivor in list(_survivors):
        survivor.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
