"""Watches a folder: classifies each file when it is whole, oldest first, writes the verdict, and moves the file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pneumo_edge._util import jobs, locks, memory
from pneumo_edge._util.records import encodable
from pneumo_edge.errors import BusyError, CrashError, ImageError, ImageTooLargeError, printable
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.runtime.identity import PredictorIdentity
from pneumo_edge.service.limits import Limits
from pneumo_edge.service.watch import moving
from pneumo_edge.service.watch.heartbeat import SECONDS, Heartbeat, notify
from pneumo_edge.service.watch.inbox import Inbox, Waiting
from pneumo_edge.service.watch.ledger import Entry, File, Ledger, State
from pneumo_edge.service.watch.results import Results

#: How long the watch waits for an event before it looks at everything else, in seconds.
_TURN_SECONDS = 0.5
#: How often the folder is listed beside the events, in seconds: events are lost where too many come at once.
_LIST_SECONDS = 30.0
#: How long it pauses where something keeps it from its work, such as a full disk, in seconds.
_PAUSE_SECONDS = 5.0
#: How often reading a file may end the process before it counts as failed.
_MOST_TRIES = 5
#: Seconds until a file is looked at again that is being written, that cannot be read, or that could not be moved.
_WRITING, _DAMAGED, _STUCK = (0.05, 1.0), (0.2, 5.0), 30.0
#: Seconds that a command may take, and until one that failed is tried again.
_COMMAND_SECONDS, _COMMAND_PAUSE = 60.0, (1.0, 60.0)
#: Files that are moved, or told to the command, between two looks at the folder.
_AT_ONCE = 100
#: What may be hindered, each by itself.
_PAUSED, _COMMAND, _MOVING = "watch", "command", "moving"

#: Called with each line for a person.
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Setup:
    """What is watched, and what is done with each file.

    Attributes:
        inbox: The folder that is watched, with the folders in it.
        ledger: The record of what was done, see :mod:`pneumo_edge.service.watch.ledger`.
        keep_out: What else is not looked at, such as the results, where they are in the folder.
        done: Where classified files are moved to; None to leave them.
        failed: Where files are moved to that cannot be classified; None to leave them.
        command: A program with its arguments that gets each verdict as a line of JSON; empty for none.
        poll: List the folder this often, in seconds, instead of using events; None for events.
        settle: Where the system does not tell whether a file is being written, it is whole after this many seconds
            without a change; they begin when the watch first sees it.
        patience: A file that cannot be read has failed after this many seconds without a change.
        limits: Limits on the bytes and pixels of an image.
    """

    inbox: Path
    ledger: Path
    keep_out: frozenset[Path] = frozenset()
    done: Path | None = None
    failed: Path | None = None
    command: tuple[str, ...] = ()
    poll: float | None = None
    settle: float = 2.0
    patience: float = 30.0
    limits: Limits = field(default_factory=Limits)


def run(
    setup: Setup, classifier: Classifier, results: Results, heartbeat: Heartbeat, tell: Tell, stop: threading.Event
) -> None:
    """Watch until ``stop`` is set; then complete what has begun.

    Where a disk is full or a folder has gone, the watch pauses, says so, and tries again.

    Args:
        setup: What is watched, and what is done with each file.
        classifier: The classifier.
        results: Where verdicts are written.
        heartbeat: What tells that the watch is alive.
        tell: Called with each line for a person.
        stop: Set to end it.

    Raises:
        BusyError: Another process writes the same results, or moves files out of the same folder.
        ResultsError: The ledger is of another version.
        ModelFileError: The engine cannot run the model.
    """
    memory.return_freed()
    if hasattr(signal, "SIGIO"):
        # The system sends it to those who look whether a file is being written.
        signal.signal(signal.SIGIO, signal.SIG_IGN)
    with jobs.alone(setup.ledger, "watch", jobs.SAME_COMMAND):
        while not stop.is_set():
            try:
                watch = _Watch(setup, classifier, results, heartbeat, tell, stop)
                with contextlib.closing(watch):
                    watch.work()
            except OSError as error:
                what = f" ({os.fsdecode(error.filename)})" if error.filename else ""
                problem = f"{error.strerror or error}{what}"
                if heartbeat.hinder(_PAUSED, problem):
                    tell(f"error: {problem}; nothing is lost, and the watch tries again every {_PAUSE_SECONDS:g} s")
                heartbeat.tell(now=True)
                stop.wait(_PAUSE_SECONDS)
    notify("STOPPING=1")


class _Watch:
    """The watch between two pauses."""

    def __init__(
        self,
        setup: Setup,
        classifier: Classifier,
        results: Results,
        heartbeat: Heartbeat,
        tell: Tell,
        stop: threading.Event,
    ) -> None:
        self._setup, self._classifier, self._results, self._tell = setup, classifier, results, tell
        self._heartbeat, self._stop = heartbeat, stop
        self._predictor = PredictorIdentity.of(classifier)
        folders = [each for each in (setup.done, setup.failed) if each]
        with contextlib.ExitStack() as stack:
            if folders:
                stack.enter_context(_alone_in(setup.inbox))
            self._ledger = stack.enter_context(contextlib.closing(Ledger(setup.ledger)))
            self._inbox = Inbox(setup.inbox, setup.keep_out | {*folders}, setup.poll, self._is_known, tell)
            stack.callback(self._inbox.stop)
            self._opened = stack.pop_all()
        self._stuck_until = self._mute_until = 0.0
        self._deaf = self._moved_to = 0
        self._stuck = ""

    def close(self) -> None:
        """Stop listening, and close the ledger."""
        self._opened.close()

    def work(self) -> None:
        """Watch until it is told to stop."""
        self._complete(at_end=True)
        if reason := self._inbox.start():
            self._tell(f"note: the system gives no events ({reason}); the folder is listed every second")
        if self._heartbeat.hinder(_PAUSED, ""):
            self._tell("note: the watch resumes")
        notify("READY=1")
        while not self._stop.is_set():
            self._heartbeat.waiting = self._inbox.number
            self._heartbeat.tell()
            waiting = self._inbox.next(_TURN_SECONDS, _LIST_SECONDS)
            if waiting:
                self._look(waiting)
            self._complete()
        self._complete(at_end=True)
        self._heartbeat.tell(now=True)

    def _is_known(self, path: Path, status: os.stat_result) -> bool:
        return self._ledger.state(File.of(path, status)) not in (None, State.BEGUN)

    def _look(self, waiting: Waiting) -> None:
        """Read a file, and classify it if it is whole."""
        try:
            descriptor = os.open(
                waiting.path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
            )
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EIO):
                raise
            self._refuse_unreadable(waiting, error)
            return
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            status = os.fstat(descriptor)
            file = File.of(waiting.path, status)
            if not stat.S_ISREG(status.st_mode) or self._is_known(waiting.path, status):
                return
            if not self._is_whole(waiting, descriptor, status):
                self._inbox.retry(waiting, _grow(_WRITING, waiting.tries))
                return
            data = _read(stream, self._setup.limits.body)
            if File.of(waiting.path, os.fstat(descriptor)) != file:
                self._inbox.retry(waiting, _grow(_WRITING, waiting.tries))
                return
        self._classify(waiting, file, data, waiting.unchanged(status))

    def _classify(self, waiting: Waiting, file: File, data: bytes | ImageError, age: float) -> None:
        tries = self._ledger.begin(file)
        try:
            if tries >= _MOST_TRIES:
                raise CrashError(
                    f"reading it ended the process {tries} times",
                    "an image that does no harm",
                    "Copy it again from its source",
                )
            if isinstance(data, ImageError):
                raise data
            told: Mapping[str, Any] = self._classifier.predict(data).to_dict()
        except ImageError as error:
            if age < self._setup.patience and not isinstance(error, CrashError):
                # The rest of it may still come.
                self._ledger.give_back(file)
                self._inbox.retry(waiting, _grow(_DAMAGED, waiting.tries))
                return
            told = {"error": str(error)}
            self._tell(f"error: {printable(file.path)}: {error}")
        self._record(file, told, data if isinstance(data, bytes) else b"")

    def _record(self, file: File, told: Mapping[str, Any], data: bytes) -> None:
        verdict = {
            "id": self._ledger.number(file),
            **told,
            "source": encodable(str(file.path)),
            "sha256": hashlib.sha256(data).hexdigest() if data else None,
            "classified_at": _moment(time.time()),
            "modified_at": _moment(file.modified_ns / 1e9),
            "model": self._predictor.model,
            "model_sha256": self._predictor.sha256,
            "engine": self._predictor.engine,
        }
        self._ledger.record(file, json.dumps(verdict), "error" in told, self._results.place())
        self._heartbeat.count(verdict)

    def _refuse_unreadable(self, waiting: Waiting, error: OSError) -> None:
        """Wait for a file that cannot be opened; one that stays so has failed."""
        try:
            status = waiting.path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISREG(status.st_mode):
            return
        reason = ImageError(
            f"the file cannot be read ({error.strerror})", "a file that this user may read", "Check its permissions"
        )
        self._classify(waiting, File.of(waiting.path, status), reason, waiting.unchanged(status))

    def _is_whole(self, waiting: Waiting, descriptor: int, status: os.stat_result) -> bool:
        written = _is_being_written(descriptor)
        if written is None:
            return waiting.closed or waiting.unchanged(status) >= self._setup.settle
        return not written

    def _complete(self, at_end: bool = False) -> None:
        """Take every file as far as it goes."""
        while entries := self._ledger.entries(State.CLASSIFIED, self._results.most):
            if not self._results.is_due(entries, at_end):
                break
            for entry in entries[: self._results.write(entries)]:
                self._ledger.advance(entry, State.WRITTEN)
        now = time.monotonic()
        if now >= self._mute_until:
            for entry in self._ledger.entries(State.WRITTEN, _AT_ONCE):
                if self._setup.command and not self._tell_command(entry):
                    break
                self._ledger.advance(entry, State.TOLD)
        if now >= self._stuck_until:
            self._put_all_away()

    def _tell_command(self, entry: Entry) -> bool:
        """Give a verdict to the command; if it fails, it gets the verdict again later."""
        reason = _run(self._setup.command, entry.line.encode() + b"\n", self._goes_on)
        problem = f"the command did not take the verdict {entry.number} ({reason})" if reason else ""
        is_new = self._heartbeat.hinder(_COMMAND, problem)
        if not problem:
            self._deaf = 0
            if is_new:
                self._tell("note: the command takes verdicts again")
            return True
        pause = _grow(_COMMAND_PAUSE, self._deaf)
        self._deaf += 1
        self._mute_until = time.monotonic() + pause
        if is_new:
            self._tell(f"error: {problem}; it gets it again until it ends with 0")
        return False

    def _goes_on(self) -> bool:
        self._heartbeat.tell()
        return not self._stop.is_set()

    def _put_all_away(self) -> None:
        """Move the files whose verdicts were written; those that cannot be moved keep no others waiting."""
        entries = self._ledger.entries(State.TOLD, _AT_ONCE, self._moved_to)
        problems = [problem for entry in entries if (problem := self._put_away(entry))]
        self._stuck = self._stuck or next(iter(problems), "")
        if self._stuck and len(entries) == _AT_ONCE:
            self._moved_to = entries[-1].number
            return
        problem, self._stuck, self._moved_to = self._stuck, "", 0
        is_new = self._heartbeat.hinder(_MOVING, problem)
        if problem:
            self._stuck_until = time.monotonic() + _STUCK
        if is_new:
            self._tell(
                f"error: {problem}; tried again every {_STUCK:g} s" if problem else "note: files are moved again"
            )

    def _put_away(self, entry: Entry) -> str:
        """Move a file whose verdict was written.

        Returns:
            Why it cannot be moved; "" where it was.
        """
        folder = self._setup.failed if entry.failed else self._setup.done
        if not folder:
            self._ledger.finish(entry, forget=False)
            return ""
        path, target = entry.file.path, entry.target
        if target is None:
            # An earlier watch may have been of another folder.
            is_inside = path.is_relative_to(self._setup.inbox)
            target = moving.free_name(folder / (path.relative_to(self._setup.inbox) if is_inside else path.name))
            self._ledger.aim(entry, target)
        try:
            moving.move(entry.file, target)
        except OSError as error:
            return f"{printable(path)} cannot be moved to {printable(target)} ({error.strerror})"
        self._ledger.finish(entry, forget=True)
        return ""


@contextlib.contextmanager
def _alone_in(inbox: Path) -> Iterator[None]:
    """Keep other watches from moving files out of the folder while the block runs, where the file system has locks."""
    descriptor = os.open(inbox, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        if locks.take(descriptor) is False:
            raise BusyError(
                f"another watch moves files out of {inbox}", "a folder of which one watch moves files",
                "Stop the other one, or leave out --move and --failed",
            )  # fmt: skip
        yield
    finally:
        os.close(descriptor)


def _run(command: Sequence[str], line: bytes, goes_on: Callable[[], bool]) -> str:
    """Run a command, and end it and the programs that it started where it takes too long.

    Args:
        command: The program and its arguments.
        line: What it reads from its standard input.
        goes_on: Called every few seconds meanwhile; whether it may take longer.

    Returns:
        Why it did not take the line; "" where it did.
    """
    until = time.monotonic() + _COMMAND_SECONDS
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)
    except OSError as error:
        return error.strerror or str(error)
    data: bytes | None = line
    try:
        while True:
            try:
                process.communicate(data, timeout=SECONDS)
            except subprocess.TimeoutExpired:
                if not goes_on():
                    return f"it did not end within {SECONDS:g} s, and the watch stops"
                if time.monotonic() >= until:
                    return f"it did not end within {_COMMAND_SECONDS:g} s"
                data = None
            else:
                return f"it ended with {process.returncode}" if process.returncode else ""
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _is_being_written(descriptor: int) -> bool | None:
    """Whether another process has a file open for writing, or has locked it; None where the system does not tell."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        pass
    if not hasattr(fcntl, "F_SETLEASE"):  # not on Linux
        return None
    try:
        # The system gives this lease only where nobody has the file open for writing.
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:  # of another user, or on a network
        return None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _read(stream: Any, most: int) -> bytes | ImageError:
    """The bytes of an open file, or the error that it is too large."""
    pieces: list[bytes] = []
    size = 0
    while piece := stream.read(2**20):
        size += len(piece)
        if size > most:
            return ImageTooLargeError(
                f"the file has more than {most:,} bytes", f"at most {most:,}", "Save it at a lower resolution"
            )
        pieces.append(piece)
    return b"".join(pieces)


def _grow(bounds: Sequence[float], tries: int) -> float:
    """A pause that grows from its least to its most with the number of tries."""
    least, most = bounds
    return float(min(most, least * 2.0 ** min(tries, 20)))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
