"""The table of further measures, and the function of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np

from pneumo_edge._util import cores
from pneumo_edge._util.progress import bar
from pneumo_edge.benchmarks.instruments import OTHERS, Instrument, onnxruntime_profiler
from pneumo_edge.benchmarks.measures import energy, installation, limit, throughput
from pneumo_edge.benchmarks.protocol import Unit
from pneumo_edge.benchmarks.results import UnitResult
from pneumo_edge.benchmarks.supplement import cross_check
from pneumo_edge.benchmarks.supplement.records import Limit, ModelGraph, Part, Supplement, ThroughputSample
from pneumo_edge.benchmarks.supplement.task import Task, carry_out, plan_calls
from pneumo_edge.errors import MissingExtraError, PneumoEdgeError
from pneumo_edge.runtime.engines import ENGINES, inspection
from pneumo_edge.scoring.models import ModelFile

#: Seconds for one limit, one profile, one energy reading, one throughput combination, one turn of an instrument.
_LIMIT_SECONDS, _PROFILE_SECONDS, _ENERGY_SECONDS, _THROUGHPUT_SECONDS, _TURN_SECONDS = 2.0, 1.0, 5.0, 2.0, 1.0


@dataclass(frozen=True)
class Target:
    """A unit of the results whose file was given, with its input pixels."""

    result: UnitResult
    file: ModelFile
    pixels: Path

    @property
    def unit(self) -> Unit:
        """The unit."""
        return self.result.unit

    def task(self, seconds: float, folder: Path) -> Task:
        """A task whose calls take about a number of seconds, at the speed that the benchmark measured."""
        wall_ns = np.concatenate([process.inference.wall_ns for process in self.result.latency])
        calls, warmups = plan_calls(seconds, float(np.median(wall_ns)) / 1e6)
        return Task(self.unit, str(self.file.path.resolve()), str(self.pixels), calls, warmups, str(folder))


@dataclass(frozen=True)
class Context:
    """The inputs of a measure.

    Attributes:
        targets: The units.
        seed: The seed of the benchmark.
        folder: Folder for files of the processes.
        logs: Folder for the files that LoadGen writes.
        skip: Called with a subject that cannot be measured, and the reason.
    """

    targets: Sequence[Target]
    seed: int
    folder: Path
    logs: Path
    skip: Callable[[str, str], None]

    @contextmanager
    def skipping(self, subject: str) -> Iterator[None]:
        """Skip a subject that cannot be measured, so that the others still are."""
        try:
            yield
        except PneumoEdgeError as error:
            self.skip(subject, str(error))


@dataclass(frozen=True)
class Measure:
    """A row of the table.

    Attributes:
        measure: The function that measures.
        parts: The parts of the supplement that it fills.
    """

    measure: Callable[[Context], Supplement]
    parts: tuple[Part, ...]


def _installation(context: Context) -> Supplement:
    """Disk space of each engine."""
    found = []
    for engine in dict.fromkeys(target.unit.engine for target in context.targets):
        try:
            found.append(installation.measure(ENGINES[engine]))
        except metadata.PackageNotFoundError:
            context.skip(engine, "the installer has no record of its distribution")
    return Supplement(installations=tuple(found))


def _limit(context: Context) -> Supplement:
    """Maximum multiply-adds per second of this machine."""
    functions = (limit.matrix_product, limit.float32_convolution, limit.int8_convolution)
    numbers = sorted({target.unit.threads for target in context.targets})
    found: list[Limit] = []
    with bar("Measuring the machine's limit", len(functions) * len(numbers)) as show:
        for threads in numbers:
            environment = dict.fromkeys(limit.THREAD_VARIABLES, str(threads))
            task = limit.LimitTask(threads, _LIMIT_SECONDS, str(context.folder))
            for function in functions:
                doing = f"measuring the limit by {function.__name__}"
                with context.skipping(f"{function.__name__}, threads: {threads}"):
                    found.append(carry_out(function, task, doing, environment))
                show(1, function.__name__)
    return Supplement(limits=tuple(found))


def _operators(context: Context) -> Supplement:
    """The operators of each file, and the time of each."""
    graphs, profiles = [], []
    files = {target.unit.model: target.file for target in context.targets}
    with bar("Reading the operators", len(files) + len(context.targets)) as show:
        for name, file in files.items():
            inspected = inspection.inspect(file.path)
            delegated = {
                engine: sum(report.delegation.operators.values())
                for engine, report in inspected.engines.items()
                if report.delegation
            }
            if inspected.graph:
                graphs.append(ModelGraph(name, inspected.graph, delegated))
            else:
                context.skip(name, "no engine could read its graph")
            show(1, name)
        for target in context.targets:
            if target.unit.engine == "onnxruntime":
                task, doing = target.task(_PROFILE_SECONDS, context.folder), f"profiling {target.unit.name}"
                with context.skipping(target.unit.name):
                    profiles.append(carry_out(onnxruntime_profiler.operators, task, doing))
            show(1, target.unit.name)
    for engine in dict.fromkeys(target.unit.engine for target in context.targets):
        if engine != "onnxruntime":
            context.skip(engine, "its Python package offers no profile of operators")
    return Supplement(graphs=tuple(graphs), profiles=tuple(profiles))


def _energy(context: Context) -> Supplement:
    """Energy of an inference."""
    try:
        energy.Meter(energy.POWERCAP)
    except energy.EnergyUnavailableError as error:
        context.skip("this machine", str(error))
        return Supplement()
    found = []
    with bar("Measuring energy", len(context.targets)) as show:
        for target in context.targets:
            task = target.task(_ENERGY_SECONDS, context.folder)
            with context.skipping(target.unit.name):
                found.append(carry_out(energy.measure, task, f"inferring with {target.unit.name}"))
            show(1, target.unit.name)
    return Supplement(energy=tuple(found))


def _throughput(context: Context) -> Supplement:
    """Inferences per second over threads and processes."""
    # Threads and processes vary here, so one unit of each file and engine is enough.
    first = {(target.unit.model, target.unit.engine): target for target in reversed(context.targets)}
    combinations = list(throughput.combinations(cores.available()))
    found: list[ThroughputSample] = []
    with bar("Measuring throughput", len(first) * len(combinations)) as show:
        for target in reversed(first.values()):
            for threads, processes in combinations:
                unit = replace(target.unit, threads=threads)
                task = replace(target.task(_THROUGHPUT_SECONDS, context.folder), unit=unit)
                wanted = throughput.ThroughputTask(task, processes, _THROUGHPUT_SECONDS)
                with context.skipping(unit.name):
                    found.append(carry_out(throughput.measure, wanted, f"inferring with {unit.name}"))
                show(1, unit.name)
    return Supplement(throughput=tuple(found))


def _cross_check(context: Context) -> Supplement:
    """Inference timed by other instruments."""
    installed = _installed_instruments(context)
    found = []
    fitting = [[each for each in installed if each.fits(target.unit.engine)] for target in context.targets]
    turns = cross_check.ROUNDS * sum(1 + len(each) for each in fitting)
    with bar("Comparing with other instruments", turns) as show:
        for target, instruments in zip(context.targets, fitting, strict=True):
            if not instruments:
                continue

            def done(note: str = target.unit.name) -> None:
                show(1, note)

            task = target.task(_TURN_SECONDS, context.folder)
            logs = context.logs / f"{target.unit.model}-{target.unit.engine}-{target.unit.threads}".replace("/", "-")
            with context.skipping(target.unit.name):
                found.append(cross_check.measure(task, instruments, context.seed, logs, done))
    return Supplement(cross_checks=tuple(found))


def _installed_instruments(context: Context) -> list[Instrument]:
    """The installed instruments that support the engine of at least one unit."""
    installed: list[Instrument] = []
    for instrument in OTHERS:
        if not any(instrument.fits(target.unit.engine) for target in context.targets):
            continue
        try:
            instrument.check()
            installed.append(instrument)
        except MissingExtraError as error:
            context.skip(instrument.name, str(error))
    return installed


#: All further measures by name.
MEASURES: dict[str, Measure] = {
    "installation": Measure(_installation, ("installations",)),
    "limit": Measure(_limit, ("limits",)),
    "operators": Measure(_operators, ("graphs", "profiles")),
    "energy": Measure(_energy, ("energy",)),
    "throughput": Measure(_throughput, ("throughput",)),
    "cross-check": Measure(_cross_check, ("cross_checks",)),
}
