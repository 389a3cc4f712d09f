"""Progress bars on a terminal, one line for each finished job elsewhere; always on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")
#: Called with the number of steps done since the last call, and a short note such as a loss.
Advance = Callable[[int, str], None]
#: Jobs of fewer seconds are not announced.
_LONG = 90


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
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    started = time.monotonic()
    if expected_s is not None and expected_s >= _LONG:
        print(f"{description}: about {expected_s / 60:.0f} min in all", file=sys.stderr, flush=True)
    if not console.is_terminal:
        yield lambda steps, note: None
        print(f"{description}: done in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=total, completed=done, note="")
        yield lambda steps, note: progress.update(task, advance=steps, note=note)


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
