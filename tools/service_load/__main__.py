"""``make serve-load``: attacks a service of its own, and says whether an honest client noticed."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pneumo_edge.service.limits import Limits
from tools.service_load import honest
from tools.service_load.attacks import ATTACKS, Counts

#: The bounds that the service must keep beside each attack.
_SHARE, MORE_SECONDS, _LOG_PER_MINUTE, _GROWTH = 0.99, 1.0, 1_000_000, 64_000_000
_FILES = 1024
_LIMITS = Limits()
#: What the kernel may hold of a connection beyond what the service has read.
_KERNEL = 32_000_000


@dataclass(frozen=True)
class Service:
    """A running service: its process, its port, and the file of its log."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    def memory(self) -> int:
        """Resident memory in bytes."""
        psutil = importlib.import_module("psutil")
        return int(psutil.Process(self.process.pid).memory_info().rss)


@dataclass(frozen=True)
class Row:
    """What one attack did, and what an honest client saw beside it."""

    attack: str
    answers: list[honest.Answer]
    allowed: float
    log_per_minute: float
    before: int
    peak: int
    after: int
    counts: Counts

    @property
    def share(self) -> float:
        """Share of the honest client's requests that were answered in time."""
        return sum(each.status == 200 and each.seconds <= self.allowed for each in self.answers) / len(self.answers)

    def faults(self) -> Iterator[str]:
        """The bounds that it fails."""
        if self.share < _SHARE:
            yield f"{self.share:.1%} of the honest requests were answered in time; expected {_SHARE:.0%}"
        if self.log_per_minute >= _LOG_PER_MINUTE:
            yield f"the log grew by {self.log_per_minute:,.0f} bytes a minute; expected under {_LOG_PER_MINUTE:,}"
        if self.after - self.before > _GROWTH:
            yield f"{(self.after - self.before) / 1e6:.0f} MB of memory stayed; expected at most {_GROWTH / 1e6:.0f}"
        if self.peak - self.before > _LIMITS.arriving + _GROWTH:
            yield f"memory rose by {(self.peak - self.before) / 1e6:.0f} MB; expected at most what bodies may take"
        if self.counts["answer lost"]:
            yield f"{self.counts['answer lost']} refusals did not arrive"
        most = _LIMITS.body + _LIMITS.discarded + _KERNEL
        if self.counts["most bytes on a connection"] > most:
            sent = self.counts["most bytes on a connection"]
            yield f"{sent:,} bytes were read of one body; expected at most {most:,}"
        if self.attack == "hostile" and set(statuses(self.counts)) != {"403"}:
            yield f"hostile requests got {statuses(self.counts)}; expected 403 alone"


def statuses(counts: Counts) -> dict[str, int]:
    """How often an attacker met each status."""
    return {name.removeprefix("status "): count for name, count in counts.items() if name.startswith("status ")}


@contextmanager
def serve(folder: Path, *options: str) -> Iterator[Service]:
    """Run a service with a limit of 1,024 open files, regardless of this process's own."""
    log = folder / "service.log"
    limited = (
        f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, ({_FILES}, {_FILES})); "
        "from pneumo_edge.cli import app; app(prog_name='pneumo-edge')"
    )
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", limited, "serve", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout
            line = process.stdout.readline()
            found = re.search(r":(\d+)/", line)
            if not found:
                raise SystemExit(f"the service did not start: {log.read_text()}")
            yield Service(process, int(found[1]), log)
        finally:
            process.terminate()
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()


def meet(service: Service, attack: str, seconds: float, allowed: float) -> Row:
    """Carry out an attack, with an honest client beside it."""
    before, logged, begun = service.memory(), service.log.stat().st_size, time.monotonic()
    command = [sys.executable, "-m", "tools.service_load.attacks", attack, str(service.port), str(seconds)]
    with subprocess.Popen(_with_files(command), stdout=subprocess.PIPE, text=True) as attacker, _watch(service) as peak:
        try:
            # The attacker has begun by then.
            time.sleep(min(2.0, seconds / 4))
            answers = honest.ask_for(service.port, seconds - min(2.0, seconds / 4))
            output, _ = attacker.communicate(timeout=seconds + 60)
        finally:
            attacker.kill()
    per_minute = (service.log.stat().st_size - logged) / (time.monotonic() - begun) * 60
    time.sleep(min(3.0, seconds / 4))
    return Row(
        attack, answers, allowed, per_minute, before, peak[0], service.memory(), Counter(json.loads(output or "{}"))
    )


def _with_files(command: list[str]) -> list[str]:
    """A command with room for the attacker's own connections."""
    return ["bash", "-c", 'ulimit -n 4096 2>/dev/null || ulimit -n "$(ulimit -Hn)"; exec "$@"', "bash", *command]


@contextmanager
def _watch(service: Service) -> Iterator[list[int]]:
    """The most memory that the service takes meanwhile, in a list of one."""
    most, done = [service.memory()], threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            most[0] = max(most[0], service.memory())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; 1 where a bound was missed."""
    parser = argparse.ArgumentParser(prog="python -m tools.service_load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each attack, 2 to 300")
    parser.add_argument("attacks", nargs="*", choices=[[], *ATTACKS], help="by default all five")
    options = parser.parse_args(arguments)
    seconds = min(300.0, max(2.0, options.seconds))
    faults = []
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder)) as service:
        # The first answers allocate memory that stays.
        honest.ask_for(service.port, 2)
        alone = honest.ask_for(service.port, seconds / 2)
        usual = statistics.median(each.seconds for each in alone)
        print(f"alone: {len(alone)} requests, half of them within {1000 * usual:.0f} ms\n", flush=True)
        print(_LINE.format("attack", "requests", "in time", "median", "slowest", "log/min", "memory", "peak", "what"))
        for attack in options.attacks or ATTACKS:
            row = meet(service, attack, seconds, usual + MORE_SECONDS)
            _print(row)
            faults += [f"{attack}: {fault}" for fault in row.faults()]
    print("\n" + "\n".join(faults or ["Every bound was kept."]))
    return 1 if faults else 0


_LINE = "{:10} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}  {}"


def _print(row: Row) -> None:
    times = [1000 * each.seconds for each in row.answers]
    did = ", ".join(f"{name} {count:,}" for name, count in sorted(row.counts.items()))
    print(
        _LINE.format(
            row.attack, len(row.answers), f"{row.share:.1%}", f"{statistics.median(times):.0f} ms",
            f"{max(times):.0f} ms", f"{row.log_per_minute / 1000:.0f} kB", f"{(row.after - row.before) / 1e6:+.0f} MB",
            f"{(row.peak - row.before) / 1e6:+.0f} MB", did,
        ),
        flush=True,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
