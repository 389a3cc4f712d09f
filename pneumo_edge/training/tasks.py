"""Carries out trainings in processes of their own, as many at a time as there are cores and memory for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pneumo_edge._util import cores, memory, subprocesses
from pneumo_edge._util.subprocesses import Begun
from pneumo_edge.errors import PneumoEdgeError, TrainingError

Argument = TypeVar("Argument")
Answer = TypeVar("Answer")

#: Seconds between two looks at the processes.
_PAUSE = 0.1


@dataclass(frozen=True)
class Task(Generic[Argument, Answer]):
    """A function that is called in a process of its own.

    Attributes:
        name: Its name, for messages.
        function: A function at the top of its module, from one dataclass to another, which JSON can hold.
        argument: What it gets.
        cores: How many cores its libraries use.
        memory_bytes: Memory that is set aside for it; it is not limited to that.
        log: The file that what it says on standard error is added to.
    """

    name: str
    function: Callable[[Argument], Answer]
    argument: Argument
    cores: int
    memory_bytes: int
    log: Path


#: The outcome of a task: its answer, or its error.
Outcome = tuple[Task[Argument, Answer], Answer | PneumoEdgeError]
#: Carries out tasks, here or elsewhere, and gives each outcome as soon as it is known.
Runner = Callable[[Sequence[Task[Argument, Answer]]], Iterator[Outcome[Argument, Answer]]]


def here(tasks: Sequence[Task[Argument, Answer]]) -> Generator[Outcome[Argument, Answer], None, None]:
    """Carry out tasks on this machine, in their order, as many at a time as cores and memory allow; at least one.

    The processes end with this one, and with the iterator.
    """
    free_cores, free_memory = cores.available(), memory.available()
    waiting = list(tasks)
    running: list[tuple[Task[Argument, Answer], Begun[Answer]]] = []
    with contextlib.ExitStack() as processes:
        while waiting or running:
            while waiting and _fits(waiting[0], [task for task, _ in running], free_cores, free_memory):
                task = waiting.pop(0)
                running.append((task, processes.enter_context(start(task))))
            ended = [each for each in running if each[1].has_ended]
            running = [each for each in running if each not in ended]
            for task, begun in ended:
                found = outcome(begun)
                yield task, found
            if not ended:
                time.sleep(_PAUSE)


def start(task: Task[Argument, Answer]) -> Begun[Answer]:
    """Start the process of a task."""

    def crashed(how: str) -> TrainingError:
        return TrainingError(
            f"the process of {task.name} crashed ({how})",
            "one that ends with a finished run",
            f"Read {task.log}, and run the same command again",
        )

    return subprocesses.begin(
        task.function, task.argument, crashed, errors=task.log, environment=cores.variables(task.cores)
    )


def outcome(begun: Begun[Answer]) -> Answer | PneumoEdgeError:
    """Wait for the answer of a task, or for its error."""
    # Its descriptors are closed here: a study may have hundreds of tasks.
    with begun:
        try:
            return begun.answer()
        except PneumoEdgeError as error:
            return error


def _fits(
    task: Task[Argument, Answer], others: Sequence[Task[Argument, Answer]], free_cores: int, free_memory: int | None
) -> bool:
    if not others:
        return True
    together = (task, *others)
    if sum(each.cores for each in together) > free_cores:
        return False
    return free_memory is None or sum(each.memory_bytes for each in together) <= free_memory
