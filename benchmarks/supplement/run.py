"""Measures what a benchmark's results do not say yet, and adds it to them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import numpy as np

from pneumo_edge._util import cores
from pneumo_edge._util.progress import bar
from pneumo_edge._util.scratch import Scratch, scratch
from pneumo_edge.benchmarks import machine
from pneumo_edge.benchmarks.instruments import OTHERS, onnxruntime_profiler
from pneumo_edge.benchmarks.measures import energy, installation, limit, throughput
from pneumo_edge.benchmarks.protocol import Unit
from pneumo_edge.benchmarks.results import Results, UnitResult
from pneumo_edge.benchmarks.supplement import cross_check
from pneumo_edge.benchmarks.supplement.records import Limit, ModelGraph, Supplement, ThroughputSample, Unavailable
from pneumo_edge.benchmarks.supplement.task import Task, carry_out, plan_calls
from pneumo_edge.data.sources import Sample, Source
from pneumo_edge.errors import MissingExtraError, PneumoEdgeError, ResultsError
from pneumo_edge.runtime.engines import ENGINES, inspection
from pneumo_edge.scoring import decoding
from pneumo_edge.scoring.decoding import InputSize
from pneumo_edge.scoring.models import ModelFile, Skipped, find_models, read_models

#: Test images of each class that calls go through.
_IMAGES_OF_A_CLASS = 32
#: Seconds of one limit, one profile, one reading of energy, one combination of throughput, one turn of an instrument.
_LIMIT_SECONDS, _PROFILE_SECONDS, _ENERGY_SECONDS, _THROUGHPUT_SECONDS, _TURN_SECONDS = 2.0, 1.0, 5.0, 2.0, 1.0

#: Everything that can be measured, and what it tells.
MEASURES: dict[str, str] = {
    "installation": "bytes that each engine takes on disk",
    "limit": "multiply-adds a second that this machine can do",
    "operators": "what each file's graph holds, and where its time goes",
    "energy": "joules of an inference",
    "throughput": "images a second over threads and processes",
    "cross-check": "inference timed by instruments that others wrote",
}

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class _Target:
    """A unit of the results whose file was given, with the pixels that it takes."""

    result: UnitResult
    file: ModelFile
    pixels: Path

    @property
    def unit(self) -> Unit:
        return self.result.unit

    def task(self, seconds: float, folder: Path) -> Task:
        """Calls that fill some seconds, at the speed that the benchmark measured."""
        wall_ns = np.concatenate([process.inference.wall_ns for process in self.result.latency])
        calls, warmups = plan_calls(seconds, float(np.median(wall_ns)) / 1e6)
        return Task(self.unit, str(self.file.path.resolve()), str(self.pixels), calls, warmups, str(folder))


def measure(
    results: Results,
    paths: Sequence[Path],
    source: Source,
    measures: Iterable[str],
    logs: Path,
    *,
    keep: Callable[[Results], None] = lambda results: None,
    tell: Callable[[Unavailable], None] = lambda unavailable: None,
) -> Results:
    """Measure the units of a benchmark further, on the machine and with the files that it was made with.

    What was there of the same files and measures is replaced.

    Args:
        results: Those of the benchmark.
        paths: Its model files, or some of them, and folders that are searched for them.
        source: The data set; its test images are what models are called on.
        measures: Names of :data:`MEASURES`.
        logs: Folder for the files that LoadGen writes.
        keep: Called with the results after each measure.
        tell: Called with everything that cannot be measured, as soon as it is known.

    Raises:
        ResultsError: The results come from another machine, or from other files.
        DataError: The data set has too few test images.
        MissingExtraError: psutil or py-cpuinfo is not installed.
    """
    _check_machine(results)
    files = _match(results, read_models(find_models(paths), lambda skipped: tell(_unreadable(skipped)), source.task))
    with scratch() as place:
        targets = _prepare(results, files, source, place)
        further = _Further(targets, results.settings.seed, place.folder, logs, tell)
        for each in measures:
            found = further.measure(each)
            results = replace(results, supplement=_merge(results.supplement or Supplement(), found, each, set(files)))
            keep(results)
    return results


def _check_machine(results: Results) -> None:
    here = machine.describe()
    if (here.cpu, here.cores) != (results.machine.cpu, results.machine.cores):
        raise ResultsError(
            f"the results come from {results.machine.cpu} with {results.machine.cores} cores, and this is "
            f"{here.cpu} with {here.cores}",
            "the machine that the benchmark ran on",
            "Run it there, or run `pneumo-edge benchmark` here",
        )


def _unreadable(skipped: Skipped) -> Unavailable:
    return Unavailable("all", skipped.model, skipped.reason)


def _match(results: Results, found: Iterable[ModelFile]) -> dict[str, ModelFile]:
    """The files of the results among those that were given, by their names in the results."""
    names = {model.sha256: model.file for model in results.models}
    files = {names[file.model.sha256]: file for file in found if file.model.sha256 in names}
    if not files:
        raise ResultsError(
            "none of the model files is one of those that the results are of, by its SHA-256",
            f"one of {', '.join(sorted(names.values()))}",
            "Give the files that the benchmark measured",
        )
    return files


def _prepare(results: Results, files: dict[str, ModelFile], source: Source, place: Scratch) -> list[_Target]:
    sizes = {name: InputSize.of(file.spec) for name, file in files.items()}
    decoded = decoding.decode(source, _choose(source, results.settings.seed), "test", sizes.values(), place)
    return [
        _Target(result, files[result.unit.model], decoded.pixels[sizes[result.unit.model]])
        for result in results.units
        if result.unit.model in files
    ]


def _choose(source: Source, seed: int) -> list[Sample]:
    """Some test images of each class."""
    chosen: list[Sample] = []
    for label in range(len(source.task.class_names)):
        of_class = [sample for sample in source.samples if (sample.split, sample.label) == ("test", label)]
        chosen += random.Random(seed).sample(of_class, min(len(of_class), _IMAGES_OF_A_CLASS))
    return chosen


class _Further:
    """Carries out one measure after the other on the same units."""

    def __init__(
        self, targets: Sequence[_Target], seed: int, folder: Path, logs: Path, tell: Callable[[Unavailable], None]
    ) -> None:
        self._targets = targets
        self._seed = seed
        self._folder = folder
        self._logs = logs
        self._tell = tell
        self._unavailable: list[Unavailable] = []

    def measure(self, name: str) -> Supplement:
        """What a measure of :data:`MEASURES` finds, and what it cannot."""
        self._unavailable = []
        found: Supplement = getattr(self, f"_{name.replace('-', '_')}")()
        return replace(found, unavailable=tuple(self._unavailable))

    def _installation(self) -> Supplement:
        found = []
        for engine in dict.fromkeys(target.unit.engine for target in self._targets):
            try:
                found.append(installation.measure(ENGINES[engine]))
            except metadata.PackageNotFoundError:
                self._skip("installation", engine, "the installer left no record of its distribution")
        return Supplement(installations=tuple(found))

    def _limit(self) -> Supplement:
        functions = (limit.matrix_product, limit.float32_convolution, limit.int8_convolution)
        numbers = sorted({target.unit.threads for target in self._targets})
        found: list[Limit] = []
        with bar("Measuring the machine's limit", len(functions) * len(numbers)) as show:
            for threads in numbers:
                environment = dict.fromkeys(limit.THREAD_VARIABLES, str(threads))
                task = limit.LimitTask(threads, _LIMIT_SECONDS, str(self._folder))
                for function in functions:
                    doing = f"measuring the limit by {function.__name__}"
                    try:
                        found.append(carry_out(function, task, doing, environment))
                    except PneumoEdgeError as error:
                        self._skip("limit", f"{function.__name__}, threads: {threads}", str(error))
                    show(1, function.__name__)
        return Supplement(limits=tuple(found))

    def _operators(self) -> Supplement:
        graphs, profiles = [], []
        files = {target.unit.model: target.file for target in self._targets}
        with bar("Looking into the files", len(files) + len(self._targets)) as show:
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
                    self._skip("operators", name, "no engine could read its graph")
                show(1, name)
            for target in self._targets:
                if target.unit.engine == "onnxruntime":
                    task, doing = target.task(_PROFILE_SECONDS, self._folder), f"profiling {target.unit.name}"
                    with self._telling("operators", target.unit):
                        profiles.append(carry_out(onnxruntime_profiler.operators, task, doing))
                show(1, target.unit.name)
        for engine in dict.fromkeys(target.unit.engine for target in self._targets):
            if engine != "onnxruntime":
                self._skip("operators", engine, "its Python package offers no profile of operators")
        return Supplement(graphs=tuple(graphs), profiles=tuple(profiles))

    def _energy(self) -> Supplement:
        try:
            energy.Meter(energy.POWERCAP)
        except energy.EnergyUnavailableError as error:
            self._skip("energy", "this machine", str(error))
            return Supplement()
        found = []
        with bar("Measuring energy", len(self._targets)) as show:
            for target in self._targets:
                task = target.task(_ENERGY_SECONDS, self._folder)
                with self._telling("energy", target.unit):
                    found.append(carry_out(energy.measure, task, f"inferring with {target.unit.name}"))
                show(1, target.unit.name)
        return Supplement(energy=tuple(found))

    def _throughput(self) -> Supplement:
        # Threads and processes vary here, whatever numbers of threads the benchmark had.
        first = {(target.unit.model, target.unit.engine): target for target in reversed(self._targets)}
        combinations = list(throughput.combinations(cores.available()))
        found: list[ThroughputSample] = []
        with bar("Measuring throughput", len(first) * len(combinations)) as show:
            for target in reversed(first.values()):
                for threads, processes in combinations:
                    unit = replace(target.unit, threads=threads)
                    task = replace(target.task(_THROUGHPUT_SECONDS, self._folder), unit=unit)
                    wanted = throughput.ThroughputTask(task, processes, _THROUGHPUT_SECONDS)
                    with self._telling("throughput", unit):
                        found.append(carry_out(throughput.measure, wanted, f"inferring with {unit.name}"))
                    show(1, unit.name)
        return Supplement(throughput=tuple(found))

    def _cross_check(self) -> Supplement:
        installed = []
        for instrument in OTHERS:
            if not any(instrument.fits(target.unit.engine) for target in self._targets):
                continue
            try:
                instrument.check()
                installed.append(instrument)
            except MissingExtraError as error:
                self._skip("cross-check", instrument.name, str(error))
        found = []
        fitting = [[each for each in installed if each.fits(target.unit.engine)] for target in self._targets]
        turns = cross_check.ROUNDS * sum(1 + len(each) for each in fitting)
        with bar("Comparing with other instruments", turns) as show:
            for target, instruments in zip(self._targets, fitting, strict=True):
                if not instruments:
                    continue

                def done(note: str = target.unit.name) -> None:
                    show(1, note)

                task = target.task(_TURN_SECONDS, self._folder)
                logs = self._logs / f"{target.unit.model}-{target.unit.engine}-{target.unit.threads}".replace("/", "-")
                with self._telling("cross-check", target.unit):
                    found.append(cross_check.measure(task, instruments, self._seed, logs, done))
        return Supplement(cross_checks=tuple(found))

    def _skip(self, measure: str, subject: str, reason: str) -> None:
        self._unavailable.append(Unavailable(measure, subject, reason))
        self._tell(self._unavailable[-1])

    @contextmanager
    def _telling(self, measure: str, unit: Unit) -> Iterator[None]:
        """What cannot be measured of a unit is told, and the others are measured all the same."""
        try:
            yield
        except PneumoEdgeError as error:
            self._skip(measure, unit.name, str(error))


def _merge(before: Supplement, found: Supplement, measure: str, models: set[str]) -> Supplement:
    """What was found instead of what was there of the same measure and the same files."""

    def others(entries: Iterable[Entry], model_of: Callable[[Entry], str]) -> tuple[Entry, ...]:
        return tuple(entry for entry in entries if model_of(entry) not in models)

    unavailable = (*(each for each in before.unavailable if each.measure != measure), *found.unavailable)
    before = replace(before, unavailable=unavailable)
    if measure == "installation":
        return replace(before, installations=found.installations)
    if measure == "limit":
        return replace(before, limits=found.limits)
    if measure == "operators":
        graphs = (*others(before.graphs, lambda each: each.model), *found.graphs)
        profiles = (*others(before.profiles, lambda each: each.unit.model), *found.profiles)
        return replace(before, graphs=graphs, profiles=profiles)
    if measure == "energy":
        return replace(before, energy=(*others(before.energy, lambda each: each.unit.model), *found.energy))
    if measure == "throughput":
        kept = others(before.throughput, lambda each: each.unit.model)
        return replace(before, throughput=(*kept, *found.throughput))
    kept_checks = others(before.cross_checks, lambda each: each.unit.model)
    return replace(before, cross_checks=(*kept_checks, *found.cross_checks))
