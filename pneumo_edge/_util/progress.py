"""Progress bars on a terminal and in a notebook; and one line for each finished job that took a while.

A bar on a terminal goes when its job is done, so that what a command leaves on the screen is its result.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

Item = TypeVar("Item")
#: Called with the number of steps done since the last call, and a short note such as a loss.
Advance = Callable[[int, str], None]
#: Jobs of fewer seconds are not announced.
_LONG = 90
#: A job of fewer seconds leaves no line behind.
_BRIEF = 2.0
#: Characters of a line in a notebook, and seconds between two updates of it.
_NOTEBOOK_WIDTH, _NOTEBOOK_SECONDS = 100, 0.5
#: With "lines" in this variable, a job also prints a line for each tenth of it: for who reads a log.
_VARIABLE = "PNEUMO_EDGE_PROGRESS"
#: Where :func:`in_lines` sends what is shown.
_TELL: ContextVar[Callable[[str], None] | None] = ContextVar("_TELL", default=None)


@contextlib.contextmanager
def in_lines(tell: Callable[[str], None]) -> Iterator[None]:
    """Within it, this thread tells lines instead of showing bars: of several jobs at the same time, each its own."""
    token = _TELL.set(tell)
    try:
        yield
    finally:
        _TELL.reset(token)


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _tell(line: str) -> None:
    (_TELL.get() or _print)(line)


@contextlib.contextmanager
def bar(description: str, total: int, done: int = 0, *, expected_s: float | None = None) -> Iterator[Advance]:
    """Show the progress of one job.

    Args:
        description: What is being done, for a person.
        total: Number of steps of the whole job.
        done: Steps that an earlier, interrupted run had finished.
        expected_s: About how many seconds the whole job takes, where that is known beforehand.
    """
    from rich.console import Console

    console = Console(stderr=True)
    started = time.monotonic()
    if expected_s is not None and expected_s >= _LONG:
        _tell(f"{description}: about {expected_s / 60:.0f} min in all")
    shown = console.is_jupyter or console.is_terminal
    if _TELL.get() or (os.environ.get(_VARIABLE) == "lines" and not shown):
        yield _in_lines(description, total, done)
    elif console.is_jupyter:
        with _in_notebook(description, total, done) as advance:
            yield advance
        return
    elif console.is_terminal:
        progress, task = _progress(console, description, total, done)
        with progress:
            yield lambda steps, note: progress.update(task, advance=steps, note=note)
    else:
        yield lambda steps, note: None
    _tell_done(description, started)


def _in_lines(description: str, total: int, done: int) -> Advance:
    lock, told, last = threading.Lock(), 10 * done // max(1, total), time.monotonic()
    # Other threads may do the work.
    tell = _TELL.get() or _print

    def advance(steps: int, note: str) -> None:
        nonlocal done, told, last
        with lock:
            done += steps
            tenths = 10 * done // max(1, total)
            if told < tenths < 10 and time.monotonic() - last >= _BRIEF:
                told, last = tenths, time.monotonic()
                remark = f" ({note})" if note else ""
                tell(f"{description}: {10 * told} %{remark}")

    return advance


def _tell_done(description: str, started: float) -> None:
    if (seconds := time.monotonic() - started) >= _BRIEF:
        _tell(f"{description}: done in {seconds:.0f} s")


def _progress(console: Console, description: str, total: int, done: int) -> tuple[Progress, TaskID]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    progress = Progress(*columns, console=console, transient=not console.is_jupyter and console.is_terminal)
    return progress, progress.add_task(description, total=total, completed=done, note="")


@contextlib.contextmanager
def _in_notebook(description: str, total: int, done: int) -> Iterator[Advance]:
    """The same bar as text that replaces itself: rich's own takes ipywidgets, which not every notebook has."""
    from IPython.display import display
    from rich.console import Console

    console = Console(file=io.StringIO(), width=_NOTEBOOK_WIDTH, force_jupyter=False, color_system=None)
    progress, task = _progress(console, description, total, done)

    def rendered() -> dict[str, str]:
        with console.capture() as captured:
            console.print(progress.get_renderable())
        return {"text/plain": captured.get().rstrip()}

    show: Any = display
    shown = show(rendered(), raw=True, display_id=True)
    last = time.monotonic()

    def advance(steps: int, note: str) -> None:
        nonlocal last
        progress.update(task, advance=steps, note=note)
        if time.monotonic() - last >= _NOTEBOOK_SECONDS:
            shown.update(rendered(), raw=True)
            last = time.monotonic()

    try:
        yield advance
    finally:
        shown.update(rendered(), raw=True)


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Iterate with a progress bar.

    Args:
        items: What to iterate over.
        description: What is being done, for a person.
        total: Number of items; by default ``len(items)``.
    """
    if total is None:
        total = len(items) if isinstance(items, Sized) else 0
    with bar(description, total) as advance:
        for item in items:
            yield item
            advance(1, "")
