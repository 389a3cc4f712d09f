"""The benchmark on other machines, which OpenSSH reaches; several at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import TypeVar

from pneumo_edge._util import jobs, outputs
from pneumo_edge.api import arguments, datasets
from pneumo_edge.api.arguments import DataArgument, Models, Tell
from pneumo_edge.api.benchmark import Benchmark, report_on
from pneumo_edge.benchmarks import results
from pneumo_edge.benchmarks.protocol import BenchmarkSettings
from pneumo_edge.benchmarks.remote import phone
from pneumo_edge.benchmarks.remote import run as remote
from pneumo_edge.benchmarks.remote.fleet import Device
from pneumo_edge.benchmarks.remote.run import Order, RemoteBenchmark
from pneumo_edge.errors import ArgumentError, PneumoEdgeError
from pneumo_edge.runtime.engines import ENGINES, USUAL, engines_for
from pneumo_edge.scoring.models import find_models, read_models
from pneumo_edge.scoring.seen import check_unseen

Outcome = TypeVar("Outcome")
#: What to do after an interruption: the benchmark does not end with the connection.
_GOES_ON = "What runs on the device continues. Run the same command again to continue"


def benchmark(
    models: Models,
    data: DataArgument | None,
    devices: Sequence[Device],
    *,
    engines: Sequence[str] | None,
    settings: BenchmarkSettings,
    options: Sequence[str],
    out: Path,
    patience_s: float,
    threads: Sequence[int] = (1,),
    resume: bool = False,
    tell: Tell = arguments.print_line,
) -> dict[str, Benchmark | PneumoEdgeError]:
    """Measure model files on devices, at the same time.

    Args:
        models: As for :func:`pneumo_edge.benchmark`.
        data: As for :func:`pneumo_edge.benchmark`.
        devices: The devices.
        engines: Names of the engines, which are installed where they are not; None for the usual ones that have wheels
            for the device.
        settings: How much is measured.
        options: Further options of the command that runs on the devices; phones take none of them.
        out: Folder for the results, which get a folder for each device.
        patience_s: For how many seconds a lost connection is made again.
        threads: Numbers of threads for one inference on phones.
        resume: Resume the interrupted benchmark of a phone; that of another device resumes in any case.
        tell: Called with lines for the user; each begins with the name of its device.

    Returns:
        By device what was measured there, or why nothing was.

    Raises:
        DataError: As :func:`pneumo_edge.benchmark`.
        ModelFileError: A folder has no model file.
    """
    outputs.check_folder(out)
    files = find_models(arguments.model_paths(models))
    phones = [device for device in devices if device.is_phone]
    for device in phones:
        _check_phone(device, settings)
    if len(phones) == len(devices):
        data = None
    source = None if data is None else datasets.open_data(data, None, files, tell=tell)
    if source:
        tested = [sample for sample in source.samples if sample.split == "test"]
        readable = read_models(files, lambda skipped: None, source.task)
        check_unseen(readable, source, tested, lambda text: tell(f"warning: {text}."))
    usual = [row for row in ENGINES.own.values() if row.name in USUAL] if engines is None else map(ENGINES.get, engines)
    chosen = [row for row in usual if row and any(row in engines_for(path) for path in files)]
    words = [word for name in engines or () for word in ("--engine", name)]
    words += ["--preset", settings.preset, "--processes", str(settings.processes)]
    words += ["--queries", str(settings.queries), "--seconds", str(settings.seconds), "--seed", str(settings.seed)]
    words += settings.sustained.options if settings.sustained else []
    boards = len(phones) < len(devices)
    order = Order.of(files, source, [*words, *options], chosen, may_lack=engines is None) if boards else None

    def measure(device: Device, say: Tell, stop: threading.Event) -> Benchmark:
        target = out / device.file_name / "results.json"
        if device.is_phone:
            with jobs.alone(target, "benchmark", jobs.WITH_RESUME):
                on_phone = phone.PhoneBenchmark(device, Path(device.benchmark_model), say, stop)
                save = partial(results.write, target)
                return report_on(on_phone.measure(files, threads, settings, target, resume, save), target)
        assert order
        with jobs.alone(target, "benchmark", _GOES_ON):
            at_work = RemoteBenchmark(device, order, patience_s, say, stop)
            measured = at_work.measure(target.parent)
            results.write(target, measured)
            at_work.forget()
        return report_on(measured, target)

    return _on_each(devices, measure, tell)


def clean(devices: Sequence[Device], patience_s: float, tell: Tell) -> Mapping[str, PneumoEdgeError | None]:
    """Remove everything that benchmarks put on devices, and tell what.

    Returns:
        By device why it could not be cleaned; None where it was.
    """

    def remove(device: Device, say: Tell, stop: threading.Event) -> None:
        if device.is_phone:
            phone.clean(device, say, stop)
        else:
            remote.clean(device, patience_s, say, stop)

    return _on_each(devices, remove, tell)


def _check_phone(device: Device, settings: BenchmarkSettings) -> None:
    """Refuse what a phone cannot measure before anything is measured."""
    if not device.benchmark_model:
        raise ArgumentError(
            f"there is no benchmark_model for the phone {device.name}",
            "LiteRT's benchmark_model, built for the phone",
            "Give --benchmark-model PATH",
        )
    if not Path(device.benchmark_model).is_file():
        raise ArgumentError(f"{device.benchmark_model} is not a file", "benchmark_model", "Correct --benchmark-model")
    if settings.sustained:
        raise ArgumentError("--sustained with a phone", "a benchmark without it", "Leave it out")


def _on_each(
    devices: Sequence[Device], work: Callable[[Device, Tell, threading.Event], Outcome], tell: Tell
) -> dict[str, Outcome | PneumoEdgeError]:
    """Do something on each device, at the same time; one that fails does not stop the others."""
    stop, lock = threading.Event(), threading.Lock()

    def say(device: Device, line: str) -> None:
        with lock:
            tell(f"{device.name}: {line}")

    def attempt(device: Device) -> Outcome | PneumoEdgeError:
        try:
            return work(device, lambda line: say(device, line), stop)
        except PneumoEdgeError as error:
            return error

    with ThreadPoolExecutor(len(devices)) as pool:
        waiting = {pool.submit(attempt, device): device for device in devices}
        try:
            pending = set(waiting)
            while pending:
                # A wait without end would not be interrupted on every system.
                done, pending = wait(pending, timeout=1, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        except BaseException as error:
            stop.set()
            if isinstance(error, KeyboardInterrupt):
                error.add_note(jobs.WITH_RESUME if all(device.is_phone for device in devices) else _GOES_ON)
            raise
    return {device.name: future.result() for future, device in waiting.items()}
