"""Tries the change points of ``benchmark --sustained``: takes processor time away in steps, and leaves it alone.

``make sustained-trial`` runs this module in the repository root. After each run, a line with its raw times is added to
``results/sustained/runs.jsonl``; runs that are there are not repeated. At the end the table in docs/benchmark-method.md
is computed from all lines. Nothing else may run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pneumo_edge import __version__, bundled
from pneumo_edge._util import cores, extras, progress, records
from pneumo_edge.benchmarks import machine
from pneumo_edge.benchmarks.protocol import BenchmarkSettings, Job, Plan, SustainedSettings, TimedImage, Unit
from pneumo_edge.benchmarks.sustained import changes
from pneumo_edge.benchmarks.sustained.records import SustainedUnit
from pneumo_edge.benchmarks.sustained.summary import summarise
from pneumo_edge.benchmarks.worker import work
from tools import pages

PAGE = Path("docs/benchmark-method.md")
_RUNS = Path("results/sustained/runs.jsonl")
_TARGET = "sustained-trial"
#: The shares of the processor's time that are left after each step.
_SHARES = (0.6, 0.35)
#: A step counts as found within so many seconds, and so large a share of undisturbed runs may show a change.
WITHIN_S, MOST_ALARMS = 10.0, 0.05
#: Seconds of a period of a quota or a duty cycle, and images that are classified.
_PERIOD, _IMAGES = 0.1, 16


@dataclass(frozen=True)
class TrialRun:
    """One run of a trial.

    Attributes:
        kind: Whether processor time was taken away.
        number: Its number, from 0.
        seconds: How long the unit ran.
        by: How processor time was taken away; "" where it was not.
        steps: Second and share of the processor's time that was left from then on.
        at_s: The seconds in which an inference ended.
        mean_ms: Wall time per inference in each of them, in milliseconds.
        load: Load average over the last minute, at the start.
        cpu: The processor.
        version: Version of pneumo-edge.
    """

    kind: Literal["steps", "undisturbed"]
    number: int
    seconds: float
    by: str
    steps: tuple[tuple[float, ...], ...]
    at_s: tuple[float, ...]
    mean_ms: tuple[float, ...]
    load: float
    cpu: str
    version: str

    @property
    def found(self) -> tuple[changes.Change, ...]:
        """The changes that are found in its times."""
        return changes.find(np.array(self.at_s), np.array(self.mean_ms))

    @property
    def errors_s(self) -> tuple[float, ...]:
        """Seconds from each step to the nearest change that was found; infinite where there is none."""
        found = [change.at_s.value for change in self.found]
        return tuple(min((abs(at - step) for at in found), default=float("inf")) for step, _ in self.steps)


@contextlib.contextmanager
def limiter(process: int) -> Iterator[tuple[str, Callable[[float], None]]]:
    """What takes processor time from a process: a quota where control groups are writable, else a duty cycle.

    Args:
        process: The id of the process.

    Yields:
        What it is, in words; and a function that leaves the process a share of one core's time.
    """
    for folder in cores.folders():
        group = folder / f"pneumo-edge-trial-{process}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            version_2 = (group / "cpu.max").exists()
            period = int(1e6 * _PERIOD)

            def leave(share: float, group: Path = group, version_2: bool = version_2, period: int = period) -> None:
                if version_2:
                    (group / "cpu.max").write_text(f"{int(share * period)} {period}")
                else:
                    (group / "cpu.cfs_period_us").write_text(str(period))
                    (group / "cpu.cfs_quota_us").write_text(str(int(share * period)))

            try:
                leave(1.0)
                (group / "cgroup.procs").write_text(str(process))
            except OSError:
                continue
            yield f"a quota of a control group, version {2 if version_2 else 1}", leave
            return
        finally:
            with contextlib.suppress(OSError):
                group.rmdir()
    with _duty_cycle(process) as leave_by_signals:
        yield "a duty cycle of SIGSTOP and SIGCONT", leave_by_signals


@contextlib.contextmanager
def _duty_cycle(process: int) -> Iterator[Callable[[float], None]]:
    left, ended = 1.0, threading.Event()

    def leave(share: float) -> None:
        nonlocal left
        left = share

    def alternate() -> None:
        with contextlib.suppress(ProcessLookupError):
            while not ended.wait(left * _PERIOD):
                if left < 1:
                    os.kill(process, signal.SIGSTOP)
                    time.sleep((1 - left) * _PERIOD)
                    os.kill(process, signal.SIGCONT)

    thread = threading.Thread(target=alternate, daemon=True)
    thread.start()
    try:
        yield leave
    finally:
        ended.set()
        thread.join()


def run(kind: Literal["steps", "undisturbed"], number: int, seconds: float, model: str, cpu: str) -> TrialRun:
    """Run a unit alone, with processor time taken away in steps at drawn times or left alone."""
    chance, load = random.Random(f"{kind} {number}"), os.getloadavg()[0]
    wanted = [int(seconds * (place + chance.uniform(-0.2, 0.2)) / (len(_SHARES) + 1)) for place in (1, 2)]
    settings = BenchmarkSettings(sustained=SustainedSettings(seconds, rest_s=0))
    path = bundled.find(model)
    unit = Unit(path.name, "litert", 1)
    steps: list[tuple[float, ...]] = []
    by, passed = "", 0
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as limits:
        pixels = Path(place, "pixels.npy")
        np.save(pixels, np.random.default_rng(0).integers(0, 256, (_IMAGES, 224, 224), np.uint8))
        plan = Plan(
            "sustained",
            (Job(unit, str(path), str(pixels)),),
            tuple(TimedImage(i, "") for i in range(_IMAGES)),
            settings,
        )
        leave: Callable[[float], None] | None = None

        def done(more: int) -> None:
            nonlocal passed, leave, by
            passed += more
            while kind == "steps" and len(steps) < len(wanted) and passed >= wanted[len(steps)]:
                if leave is None:
                    (child,) = extras.need("psutil", "bench").Process().children()
                    by, leave = limits.enter_context(limiter(child.pid))
                share = _SHARES[len(steps)]
                leave(share)
                steps.append((float(passed), share))

        samples = work(plan, done).sustained
    assert samples
    measured = summarise([SustainedUnit(unit, samples)], {})
    assert measured
    (course,) = measured.courses
    times = tuple(round(float(each), 6) for each in course.mean_ms)
    return TrialRun(kind, number, seconds, by, tuple(steps), tuple(course.at_s.tolist()), times, load, cpu, __version__)


def read(path: Path) -> list[TrialRun]:
    """The runs that a file has; a line that was cut short is left out."""
    found = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(records.RecordError):
            found.append(records.loads(TrialRun, line))
    return found


def table(runs: Sequence[TrialRun]) -> str:
    """What the runs show, in Markdown."""
    stepped, alone = ([each for each in runs if each.kind == kind] for kind in ("steps", "undisturbed"))
    lines = [["trial", "runs", "must hold", "result"], [":--", "--:", ":--", ":--"]]
    if stepped:
        errors = [error for each in stepped for error in each.errors_s]
        hit = sum(max(each.errors_s) <= WITHIN_S for each in stepped)
        shares = " and ".join(f"{share:.0%}" for share in _SHARES)
        lines.append(
            [
                f"processor time taken away in two steps, to {shares}, by {stepped[0].by}, {stepped[0].seconds:g} s",
                str(len(stepped)),
                f"each step is found within {WITHIN_S:g} s",
                f"in {hit} of {len(stepped)}; median error {np.median(errors):.1f} s, largest {max(errors):.1f} s",
            ]
        )
    if alone:
        lines.append(
            [
                f"undisturbed, {alone[0].seconds:g} s",
                str(len(alone)),
                f"a change is found in at most {int(MOST_ALARMS * len(alone))}",
                f"in {sum(bool(each.found) for each in alone)} of {len(alone)}",
            ]
        )
    return pages.rows(lines)


def main() -> None:
    """Make the runs that are missing, and put the table into its page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10, help="runs in which processor time is taken away")
    parser.add_argument("--undisturbed", type=int, default=40, help="runs that are left alone")
    parser.add_argument("--step-seconds", type=float, default=60, help="length of the first kind")
    parser.add_argument("--seconds", type=float, default=30, help="length of the second kind")
    parser.add_argument("--model", default="mobilenetv2")
    parser.add_argument("--runs", type=Path, default=_RUNS, help="the file of the runs")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page of the table")
    given = parser.parse_args()
    known, cpu = read(given.runs), machine.describe().cpu
    lengths = {"steps": given.step_seconds, "undisturbed": given.seconds}
    if any(each.seconds != lengths[each.kind] or each.cpu != cpu for each in known):
        sys.exit(f"{given.runs} has runs of another length or machine; remove it, or give --runs another file")
    done = {(each.kind, each.number) for each in known}
    kinds: tuple[tuple[Literal["steps", "undisturbed"], int], ...] = (
        ("steps", given.steps),
        ("undisturbed", given.undisturbed),
    )
    missing = [(kind, number) for kind, count in kinds for number in range(count) if (kind, number) not in done]
    given.runs.parent.mkdir(parents=True, exist_ok=True)
    for kind, number in progress.track(missing, "Runs"):
        found = run(kind, number, lengths[kind], given.model, cpu)
        with given.runs.open("a") as stream:
            # A line that was cut short stays alone on its line.
            stream.write(("\n" if _is_cut_short(given.runs) else "") + json.dumps(asdict(found)) + "\n")
        told = ", ".join(f"{each.at_s.value:.0f} s: {each.factor.value:.2f}" for each in found.found) or "none"
        steps = ", ".join(f"{at:.0f} s" for at, _ in found.steps) or "none"
        print(f"{kind} {number}: steps {steps}; found {told}; load {found.load:.1f}", flush=True)
    text = table(read(given.runs))
    pages.put_table(given.page, _TARGET, text)
    print(text)


def _is_cut_short(path: Path) -> bool:
    content = path.read_bytes()
    return bool(content) and not content.endswith(b"\n")


if __name__ == "__main__":
    main()
