"""Locks the output of a long job against other processes, and says how to resume the job."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pneumo_edge._util import files, locks, outputs, processes
from pneumo_edge.errors import BusyError

#: How most jobs are resumed.
SAME_COMMAND = "Run the same command again to continue"
WITH_RESUME = "Run the same command with --resume to continue"


@dataclass(frozen=True)
class _Owner:
    """Who holds a lock file: for people, and by ``name`` for file systems that have no locks of their own."""

    job: str
    process: int
    host: str
    name: str


@contextlib.contextmanager
def alone(target: Path, job: str, resume: str, option: str = "--out") -> Iterator[None]:
    """Keep other processes from writing the same while the block runs.

    The lock is ``FILE.lock`` beside the target. It holds the process id, and is gone when the block ends. So are new
    folders that the block leaves empty.

    Args:
        target: The file, or the most important of the files, that the job writes.
        job: What it is, for messages: "benchmark".
        resume: What to do where it is interrupted, a sentence without its full stop; it becomes a note of the
            KeyboardInterrupt.
        option: The option that gives another target.

    Raises:
        BusyError: Another process holds the lock.
        OSError: The folder cannot be written; the error names the target.
    """
    path = target.with_name(f"{target.name}.lock")
    new = outputs.absent(path.parent)
    with files.naming(target, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        owner = _Owner(job, os.getpid(), platform.node(), processes.name(os.getpid()))
        descriptor = _acquire(path, target, owner, option)
    try:
        with resumable(resume):
            yield
    finally:
        # Removed while still locked, so that a process that opened it meanwhile sees that it is gone.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)
        outputs.remove_empty(new)


@contextlib.contextmanager
def resumable(resume: str) -> Iterator[None]:
    """Say how a job is resumed where it is interrupted.

    Args:
        resume: As for :func:`alone`.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(resume)
        raise


def is_running(target: Path) -> bool:
    """Whether a job that writes a file seems to run: its lock file names a process that is not known to have ended."""
    try:
        descriptor = os.open(target.with_name(f"{target.name}.lock"), os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return False
    try:
        return not _is_dead(_read(descriptor))
    finally:
        os.close(descriptor)


def _acquire(path: Path, target: Path, owner: _Owner, option: str) -> int:
    while True:
        descriptor, is_new = _open(path)
        try:
            taken = locks.take(descriptor)
            if taken is False or (taken is None and not is_new and not _is_dead(_read(descriptor))):
                raise _busy(path, target, _read(descriptor), option, certain=taken is False)
            if locks.is_at(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                try:
                    os.write(descriptor, json.dumps(asdict(owner)).encode() + b"\n")
                except OSError:  # such as a full disk
                    path.unlink(missing_ok=True)
                    raise
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open(path: Path) -> tuple[int, bool]:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(path, flags | os.O_EXCL, 0o644), True
    except FileExistsError:
        return os.open(path, flags, 0o644), False


def _read(descriptor: int) -> _Owner | None:
    """What a lock file says; None where it says nothing, as in the moment after it was made."""
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        return _Owner(**json.loads(os.read(descriptor, 4096)))
    except (ValueError, TypeError, OSError):
        return None


def _busy(path: Path, target: Path, owner: _Owner | None, option: str, *, certain: bool) -> BusyError:
    who, job = "unknown process", "process"
    if owner is not None:
        who, job = f"process {owner.process}", owner.job
        who += f" on {owner.host}" if owner.host != platform.node() else ""
    return BusyError(
        f"another {job} is writing {target} ({who})",
        "a file or folder that no other process writes",
        f"Wait until it has ended, or give another {option}"
        + ("" if certain else f"; if it no longer runs, delete {path}"),
    )


def _is_dead(owner: _Owner | None) -> bool:
    return owner is not None and isinstance(owner.name, str) and processes.is_dead(owner.name)
