"""What engines and classifiers need that a forked process inherits.

A fork copies the memory of a process and one of its threads. The threads that an engine computes with are not there, so
it waits for them for ever, even to be destroyed; and a lock that another thread held is held for ever.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Protocol


class Survivor(Protocol):
    """What has something to put right after a fork."""

    def after_fork(self) -> None:
        """Called in the child, before anything else runs there; it must not raise, and not take long."""
        ...


_engines: weakref.WeakSet[Any] = weakref.WeakSet()
_survivors: weakref.WeakSet[Survivor] = weakref.WeakSet()
_skips_destructors = False
#: Held while an engine is loaded: libraries have locks of their own then, which a child could wait for.
loading = threading.RLock()
#: How long a fork waits for that, in seconds.
_PATIENCE = 10.0
_waited: threading.local = threading.local()


def never_destroy(engine: Any) -> None:
    """Have an engine outlive every child process, which cannot destroy it: it would hang or crash."""
    _engines.add(engine)


def tell(survivor: Survivor) -> None:
    """Call ``survivor.after_fork()`` in every child process, as long as it lives."""
    _survivors.add(survivor)


def skip_destructors() -> None:
    """Have child processes end without the destructors of static objects, because one of a library hangs there."""
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
        # Python has done its part by then; what was registered last is called first, with the exit status.
        libc = ctypes.CDLL(None)
        if hasattr(libc, "on_exit"):
            libc.on_exit(libc._exit, None)
    for survivor in list(_survivors):
        survivor.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
