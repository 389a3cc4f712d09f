"""Carries out trainings in processes of their own, as many at a time as there are cores and memory for.

On this machine, or on a Ray cluster that this process is connected to: a node's Ray worker then starts the process, so
that a training is the same everywhere.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pneumo_edge._util import cores, extras, memory, subprocesses
from pneumo_edge._util.subprocesses import Begun
from pneumo_edge.errors import PneumoEdgeError, TrainingError

Argument = TypeVar("Argument")
Answer = TypeVar("Answer")

#: Seconds between two looks at the processes.
_PAUSE = 0.1
#: Times that Ray starts a task again because its node was lost.
_RETRIES = 10


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


def on_ray(tasks: Sequence[Task[Argument, Answer]]) -> Generator[Outcome[Argument, Answer], None, None]:
    """Carry out tasks on the Ray cluster that this process is connected to.

    All nodes have pneumo-edge and the paths of the tasks, and :func:`check_nodes` has passed. A task whose node is lost
    is started again on another one. The processes end with this one, and with the iterator.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    ray = extras.need("ray", "scale")
    carried_out = ray.remote(_carry_out)
    pending: dict[Any, Task[Argument, Answer]] = {}
    try:
        for task in tasks:
            needs = {"num_cpus": task.cores, "memory": task.memory_bytes, "max_retries": _RETRIES, "name": task.name}
            pending[carried_out.options(**needs).remote(task)] = task
        while pending:
            (ended, *_), _ = ray.wait(list(pending))
            task = pending.pop(ended)
            try:
                found = ray.get(ended)
            except ray.exceptions.RayError as error:
                first = str(error).strip().partition("\n")[0] or type(error).__name__
                found = TrainingError(
                    f"{task.name} ended on the cluster ({first})", "nodes that stay", "Run the same command again"
                )
            yield task, found
    finally:
        for each in pending:
            ray.cancel(each, force=True)


def _carry_out(task: Task[Argument, Answer]) -> Answer | PneumoEdgeError:
    """On a node: carry out a task."""
    return outcome(start(task))


def check_nodes(tasks: Sequence[Task[Argument, Answer]]) -> None:
    """Refuse tasks of which no node of the cluster can ever take one: Ray would wait for such a node.

    Raises:
        MissingExtraError: Ray is not installed.
        TrainingError: No node has the cores and the memory of a task.
    """
    ray = extras.need("ray", "scale")
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for task in tasks:
        if not any(node.get("CPU", 0) >= task.cores and node.get("memory", 0) >= task.memory_bytes for node in nodes):
            most = max((node.get("CPU", 0), node.get("memory", 0)) for node in nodes)
            raise TrainingError(
                f"no node of the cluster has {task.cores} cores and {task.memory_bytes / 1e9:.1f} GB of memory",
                f"no more than a node has: the largest has {most[0]:.0f} cores and {most[1] / 1e9:.1f} GB for Ray",
                "Give --cores and --memory",
            )


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
