"""Measures on an Android phone through the user's ``adb``, with the user's ``benchmark_model`` of LiteRT. Experimental.

``benchmark_model`` loads a file, runs it on random values, and prints statistics of its calls. Of two calls it prints
both (least and most), so it is started again and again for two calls each. The order of the starts is that of the
protocol: in each round every unit has a turn, the A/A unit included. There is no CPU time, no end-to-end time and no
accuracy.
"""

from __future__ import annotations

import random
import re
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pneumo_edge._util import files, progress
from pneumo_edge.benchmarks import run
from pneumo_edge.benchmarks.machine import library_versions
from pneumo_edge.benchmarks.measures.accuracy import ANY_CALLS
from pneumo_edge.benchmarks.measures.latency import STEPS
from pneumo_edge.benchmarks.protocol import WARMUP_SECONDS, BenchmarkSettings, Job, Plan, Unit, plan_turns, schedule
from pneumo_edge.benchmarks.remote.connection import StoppedError
from pneumo_edge.benchmarks.remote.fleet import FOLDER, Device
from pneumo_edge.benchmarks.results import (
    AccuracySamples,
    Calls,
    Conditions,
    LatencySamples,
    Machine,
    MemorySample,
    Results,
)
from pneumo_edge.benchmarks.resume import Identity, Measurements
from pneumo_edge.benchmarks.worker import Message
from pneumo_edge.errors import DeviceError, ResultsError, printable
from pneumo_edge.runtime.engines.tensors import Given
from pneumo_edge.scoring.models import Skipped, find_models, read_any

Tell = Callable[[str], None]
#: What results call the engine: its kernels are those of the user's binary, not those of an engine here.
ENGINE = "benchmark_model"
#: Where everything lies on a phone; programs may be started only below /data/local/tmp.
PHONE_FOLDER = "/data/local/tmp/pneumo-edge"
#: Timed calls of one start of benchmark_model: as many as its statistics tell apart.
_CALLS = 2
#: A unit is started at most so often in one process of the protocol.
_MOST_STARTS = 500
#: Exit code of a shell where a file is not a program for this processor.
_NOT_EXECUTABLE = 126
#: What we put into the folder, by name.
_OURS = re.compile(r"[0-9a-f]{64}(\.tflite)?")
_NUMBER = r"([\d.]+(?:e[+-]?\d+)?)"
_TIMINGS = re.compile(rf"Init: {_NUMBER}, First inference: {_NUMBER},")
_MEMORY = re.compile(rf"\(MB\): init={_NUMBER} overall={_NUMBER}")
_DELEGATED = re.compile(
    r"Replacing (\d+) (?:out of (\d+) )?node\(s\) with delegate \((\S+)\) node, yielding (\d+) part"
)
#: What adb says, what that means, and what to do. The first that is found counts.
_SAYS = (
    (r"unauthorized|still authorizing", "does not allow this computer", "Unlock it and accept its question"),
    (r"more than one device", "is one of several", "Name one: --device adb:SERIAL; `adb devices` lists them"),
    (r"no devices/emulators|not found", "is not connected", "Connect it, turn on USB debugging, and try `adb devices`"),
    (r"offline|still connecting", "is offline", "Unplug it and connect it again, or run `adb reconnect`"),
    (r"no permissions", "may not be opened by this user", "Set up udev rules for it, and try `adb devices`"),
    (r"No space left", "has no room left", "Free some room there, or give another --device-folder"),
    (r"closed|Broken pipe|protocol fault|failed to get feature set", "is gone", "Connect it again"),
)  # fmt: skip


@dataclass(frozen=True)
class Start:
    """What one start of ``benchmark_model`` printed.

    ``calls_us`` has the time of each timed call. ``operators`` is None where it did not print how many there are.
    """

    calls_us: tuple[float, ...]
    init_us: float
    first_us: float
    memory_mb: float
    delegate: str
    partitions: int
    delegated: int | None
    operators: int | None


def parse(text: str) -> Start:
    """Read what ``benchmark_model`` prints, of any version since TensorFlow 2.3.

    Raises:
        ValueError: A line is missing.
    """
    counts = re.findall(r"\bcount=\d.*", text)
    timings, memory = _TIMINGS.search(text), _MEMORY.search(text)
    if not counts or not timings or not memory:
        raise ValueError("no statistics of calls, no timings or no memory")
    told = dict(re.findall(rf"(\w+)={_NUMBER}", counts[-1]))
    names = ("min", "max") if "min" in told else ("curr", "curr")
    calls = tuple(float(told[name]) for name in names)[: int(told["count"])]
    if not calls:
        raise ValueError("no timed call")
    found = _DELEGATED.search(text)
    return Start(
        calls,
        float(timings[1]),
        float(timings[2]),
        float(memory[2]),
        "XNNPACK" if "XNNPACK delegate" in text or (found and "XNNPack" in found[3]) else found[3] if found else "none",
        int(found[4]) if found else 0,
        int(found[1]) if found and found[2] else None,
        int(found[2]) if found and found[2] else None,
    )


class Adb:
    """Commands to one phone.

    Args:
        device: The phone.
        stop: Ends a command as soon as it is set.
    """

    def __init__(self, device: Device, stop: threading.Event) -> None:
        self.device, self._stop = device, stop
        self.folder = PHONE_FOLDER if device.folder == FOLDER else device.folder

    def run(self, *words: str) -> tuple[int, str]:
        """The exit code of an ``adb`` command, and what it printed.

        Raises:
            DeviceError: There is no adb here, or it does not reach the phone.
            StoppedError: The user interrupted the command.
        """
        adb = shutil.which("adb")
        if adb is None:
            raise DeviceError(
                "there is no adb here", "adb of the Android SDK Platform-Tools", "Install it (Debian: apt install adb)"
            )
        serial = ["-s", self.device.serial] if self.device.serial else []
        process = subprocess.Popen(
            [adb, *serial, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for this process, which ends the command.
            start_new_session=True,
        )
        try:
            while True:
                try:
                    said, _ = process.communicate(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    if self._stop.is_set():
                        raise StoppedError from None
        finally:
            process.kill()
            process.wait()
        text = said.decode(errors="replace").replace("\r\n", "\n")
        if process.returncode:
            self._check(text)
        return process.returncode, text

    def shell(self, command: str) -> str:
        """What a command of the phone's shell prints.

        Raises:
            DeviceError: As :meth:`run`; or the command fails.
        """
        code, text = self.run("shell", command)
        if code:
            raise self._failed(command, text, code)
        return text.strip()

    def push(self, path: Path, digest: str, name: str) -> None:
        """Copy a file to the phone, unless it is there, and check its hash there.

        Raises:
            DeviceError: It cannot be copied, or arrives damaged.
        """
        there = f"{self.folder}/{name}"
        if self._hash(there) == digest:
            return
        code, text = self.run("push", str(path), there)
        if code:
            raise self._failed(f"push {path.name}", text, code)
        if self._hash(there) != digest:
            raise DeviceError(
                f"{path.name} arrived damaged on {self.device.name}", f"SHA-256 {digest}", "Run the command again"
            )

    def _hash(self, there: str) -> str:
        _, text = self.run("shell", f"sha256sum {there}")
        return text.split()[0] if text.strip() else ""

    def _failed(self, what: str, text: str, code: int) -> DeviceError:
        return DeviceError(
            f"{self.device.name} refuses {printable(what)} ({_last(text) or f'exit code {code}'})",
            "an Android phone whose shell runs commands",
            "Try it with adb shell",
        )

    def _check(self, text: str) -> None:
        """Raise what adb itself says; what a program on the phone says begins in another way."""
        said = [line for line in text.splitlines() if line.startswith(("adb: ", "error: ", "- waiting"))]
        for pattern, what, remedy in _SAYS:
            if said and re.search(pattern, " ".join(said)):
                remedy = f"{remedy}; --resume continues an interrupted benchmark"
                raise DeviceError(f"{self.device.name} {what} ({_last(said[0])})", "a phone that adb reaches", remedy)


def _last(text: str) -> str:
    lines = [printable(line.strip()) for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""


class PhoneBenchmark:
    """One benchmark on one phone.

    Args:
        device: The phone.
        binary: ``benchmark_model`` for it.
        tell: Called with lines for the user.
        stop: Ends it as soon as it is set.
    """

    def __init__(self, device: Device, binary: Path, tell: Tell, stop: threading.Event) -> None:
        self._adb, self._binary, self._tell = Adb(device, stop), binary, tell
        self._digest = files.sha256(binary)

    def measure(
        self,
        paths: Sequence[Path],
        threads: Sequence[int],
        settings: BenchmarkSettings,
        target: Path,
        resume: bool,
        save: Callable[[Results], None],
    ) -> Results:
        """Measure model files.

        Args:
            paths: Model files, and folders that are searched for them.
            threads: Numbers of threads for one inference.
            settings: How much is measured.
            target: The file for the results; beside it is what an interrupted benchmark had measured.
            resume: Resume an interrupted benchmark.
            save: Called with the results, before that is deleted.

        Raises:
            DeviceError: The phone cannot be reached or used.
            ResultsError: Nothing can be measured, or ``benchmark_model`` fails while timing.
        """
        skipped: list[Skipped] = []

        def skip(one: Skipped) -> None:
            skipped.append(one)
            self._tell(f"skipped: {one.model}: {one.reason}")

        found = []
        for file in read_any(find_models(paths), skip, None):
            if file.path.suffix == ".tflite":
                found.append(file)
            else:
                skip(Skipped(file.model.file, ENGINE, "benchmark_model runs .tflite files alone", failed=False))
        if not found:
            raise ResultsError("there is no .tflite file among the models", "at least one", "Give another file")
        machine = self._describe()
        jobs = self._send([(file.model.file, file.path, file.model.sha256) for file in found], sorted({*threads}))
        measurements = Measurements(target, resume, self.work)
        versions = library_versions() | {ENGINE: self._digest}
        models, units = tuple(file.model for file in found), tuple(job.unit for job in jobs)
        measurements.begin(Identity(settings, Given(), machine, versions, models, units, ""))
        with progress.in_lines(self._tell):
            measured = run.measure_unseen(jobs, settings, measurements, skip)
        self._tell(f"temperature at the end: {self._temperature()}")
        of_units = {each.unit.model for each in measured.units}
        found_here = Results(
            started=measurements.started,
            duration_s=measurements.elapsed_s,
            machine=machine,
            versions=library_versions(),
            settings=settings,
            test_set=None,
            models=tuple(model for model in models if model.file in of_units),
            units=measured.units,
            twins=measured.twins,
            conditions=measured.conditions,
            skipped=tuple(skipped),
        )
        save(found_here)
        measurements.forget()
        return found_here

    def _describe(self) -> Machine:
        """What the phone is; one line of it for the user."""
        names = "ro.product.manufacturer ro.product.model ro.soc.model ro.board.platform ro.product.cpu.abi"
        command = f"for each in {names} ro.build.version.release; do getprop $each; done"
        told = self._adb.shell(command).split("\n")
        told += [""] * (6 - len(told))
        maker, model, soc, board, abi, android = map(str.strip, told[:6])
        text = self._adb.shell(
            "nproc; grep MemTotal /proc/meminfo; grep -m 1 -E '^(Features|flags)' /proc/cpuinfo; true"
        )
        cores, memory = re.search(r"^\d+", text), re.search(r"MemTotal:\s*(\d+) kB", text)
        flags = re.search(r"^(?:Features|flags)\s*:(.*)", text, re.M)
        machine = Machine(
            cpu=printable(f"{maker} {model}, {soc or board or 'unknown SoC'}"),
            architecture=printable(abi),
            cores=int(cores[0]) if cores else 1,
            memory_bytes=1024 * int(memory[1]) if memory else 0,
            system=printable(f"Android {android}"),
            python="not used",
            flags=tuple(sorted(flags[1].split())) if flags else (),
            device=self._adb.device.name,
        )
        governor = self._read("cpu/cpu0/cpufreq/scaling_governor") or "not known"
        self._tell(
            f"{machine.cpu}, {machine.architecture}, {machine.system}, {machine.cores} cores, "
            f"frequency governor {governor}, temperature {self._temperature()}"
        )
        return machine

    def _read(self, path: str) -> str:
        """A file of the kernel; "" where it is not there or may not be read."""
        return self._adb.shell(f"cat /sys/devices/system/{path} 2>/dev/null; true")

    def _temperature(self) -> str:
        text = self._adb.shell("cat /sys/class/thermal/thermal_zone*/temp 2>/dev/null; true")
        # Sensors that are off report 0 or absurd values.
        degrees = [int(each) / 1000 for each in text.split() if re.fullmatch(r"\d{4,6}", each) and int(each) < 150_000]
        return f"{max(degrees):.0f} C" if degrees else "not known"

    def _send(self, models: Sequence[tuple[str, Path, str]], threads: Sequence[int]) -> list[Job]:
        """Copy the binary and the models, and make a job for each model and number of threads."""
        self._adb.shell(f"mkdir -p {self._adb.folder}")
        self._adb.push(self._binary, self._digest, self._digest)
        self._adb.shell(f"chmod 755 {self._adb.folder}/{self._digest}")
        jobs = []
        for name, path, digest in models:
            self._adb.push(path, digest, f"{digest}.tflite")
            there = f"{self._adb.folder}/{digest}.tflite"
            jobs += [Job(Unit(name, ENGINE, number), there, "", Given()) for number in threads]
        self._tell(f"{len(models)} model files are in {self._adb.folder}")
        return jobs

    def work(self, plan: Plan, done: Callable[[int], None], stop: threading.Event | None = None) -> Message:
        """Carry out a plan on the phone, as :func:`pneumo_edge.benchmarks.worker.work` does here."""
        if plan.measure == "latency":
            return self._time(plan, done)
        found = self._start(plan.jobs[0], plan.settings.warmups)
        if plan.measure == "memory":
            return Message(memory=MemorySample(None, round(found.memory_mb * 2**20)))
        done(ANY_CALLS)
        return Message(
            accuracy=AccuracySamples(
                f"SHA-256 {self._digest[:12]}",
                found.delegate,
                found.partitions,
                (),
                statistics.median(found.calls_us) / 1e3,
                found.operators,
                found.delegated,
            )
        )

    def _time(self, plan: Plan, done: Callable[[int], None]) -> Message:
        """Time units in rounds; each turn is a start with two timed calls."""
        settings, began = plan.settings, time.monotonic()
        first = [self._start(job, settings.warmups) for job in plan.jobs]
        calls_ns = [1e3 * statistics.median(each.calls_us) for each in first]
        turns = [min(_MOST_STARTS, -(-plan_turns(settings, "inference", each) // _CALLS)) for each in calls_ns]
        warmups = [max(2, min(settings.warmups, int(1e9 * WARMUP_SECONDS / max(each, 1)))) for each in calls_ns]
        order = random.Random(f"{settings.seed} {plan.process}")
        rounds = schedule(turns, order)
        found: list[list[tuple[int, Start]]] = [[] for _ in plan.jobs]
        for number, drawn in enumerate(rounds):
            for index in drawn:
                found[index].append((number, self._start(plan.jobs[index], warmups[index])))
            done((number + 1) * STEPS // len(rounds) - number * STEPS // len(rounds))
        # Timed calls may be faster than those that the rounds were planned from.
        number = len(rounds)
        while short := [each for each in range(len(found)) if _falls_short(found[each], settings)]:
            order.shuffle(short)
            for index in short:
                found[index].append((number, self._start(plan.jobs[index], warmups[index])))
            number += 1
        unit = plan.jobs[0].unit
        load = self._adb.shell("cat /proc/loadavg 2>/dev/null; true").split()
        conditions = Conditions(
            process=plan.process,
            engine=unit.engine,
            threads=unit.threads,
            seconds=time.monotonic() - began,
            steal_share=None,
            involuntary_switches=None,
            load_average=float(load[0]) if load else None,
            governor=self._read("cpu/cpu0/cpufreq/scaling_governor"),
        )
        return Message(latency=tuple(map(_samples, found)), conditions=conditions)

    def _start(self, job: Job, warmups: int) -> Start:
        """Start ``benchmark_model`` once.

        Raises:
            DeviceError: The phone is gone, or the binary is not for it.
            ResultsError: ``benchmark_model`` refuses the file.
        """
        code, text = self._adb.run(
            "shell",
            f"{self._adb.folder}/{self._digest} --graph={job.path} --num_threads={job.unit.threads} "
            f"--num_runs={_CALLS} --min_secs=0 --warmup_runs={warmups} --warmup_min_secs=0",
        )
        name = self._adb.device.name
        if code == _NOT_EXECUTABLE or re.search(r"not executable|[Ee]xec format error|CANNOT LINK EXECUTABLE", text):
            raise DeviceError(
                f"{name} cannot run {self._binary} ({_last(text)})",
                "benchmark_model for the phone's architecture",
                "Give another --benchmark-model",
            )
        try:
            if not code:
                return parse(text)
            why = f"exit code {code}"
        except ValueError as error:
            why = str(error)
        self._adb.run("get-state")
        errors = [line for line in text.splitlines() if "ERROR" in line or "error" in line]
        last = _last("\n".join(errors) or text) or "it printed nothing"
        raise ResultsError(
            f"benchmark_model refuses {job.unit.model} on {name} ({last}; {why})",
            "a .tflite file that it runs, and its usual output",
            "Leave out the file, or give another --benchmark-model",
        )


def _falls_short(found: Sequence[tuple[int, Start]], settings: BenchmarkSettings) -> bool:
    spent_ns = sum(1e3 * us for _, start in found for us in start.calls_us)
    return spent_ns < settings.least_ns and len(found) < _MOST_STARTS


def _samples(found: Sequence[tuple[int, Start]]) -> LatencySamples:
    return LatencySamples(
        round(1e3 * statistics.median(start.init_us for _, start in found)),
        round(1e3 * statistics.median(start.first_us for _, start in found)),
        Calls(
            tuple(number for number, start in found for _ in start.calls_us),
            # It counts in microseconds, and a call may take none.
            tuple(max(1, round(1e3 * us)) for _, start in found for us in start.calls_us),
            None,
        ),
    )


def clean(device: Device, tell: Tell, stop: threading.Event) -> None:
    """Remove the folder on a phone, and say so.

    Raises:
        DeviceError: The phone cannot be reached, or the folder has other files.
    """
    adb = Adb(device, stop)
    names = adb.shell(f"ls -A {adb.folder} 2>/dev/null; true").split("\n")
    if other := [name for name in names if name and not _OURS.fullmatch(name)]:
        raise DeviceError(
            f"{adb.folder} on {device.name} has {printable(other[0])}, which is not of a benchmark",
            "a folder with what benchmarks put there alone",
            "Remove it yourself",
        )
    adb.shell(f"rm -rf {adb.folder}")
    tell(f"removed {adb.folder}" if any(names) else f"nothing to remove in {adb.folder}")
