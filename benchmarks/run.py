"""Runs the benchmark: prepares the test set, measures accuracy and memory of each unit, then times all units."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pneumo_edge._util.progress import bar
from pneumo_edge._util.scratch import Scratch, scratch
from pneumo_edge.benchmarks import machine, testset
from pneumo_edge.benchmarks.measures.accuracy import ANY_CALLS
from pneumo_edge.benchmarks.measures.conditions import together
from pneumo_edge.benchmarks.measures.latency import STEPS, expected_seconds
from pneumo_edge.benchmarks.protocol import REST_SECONDS, BenchmarkSettings, Job, Measure, Plan, TimedImage, Unit
from pneumo_edge.benchmarks.results import (
    AAUnit,
    AccuracySamples,
    Conditions,
    LatencySamples,
    Machine,
    MemorySample,
    Results,
    Retrained,
    TestSet,
    UnitResult,
)
from pneumo_edge.benchmarks.resume import Identity, Measurements
from pneumo_edge.benchmarks.sustained.cooling import Cooling
from pneumo_edge.benchmarks.sustained.records import SustainedUnit
from pneumo_edge.benchmarks.sustained.sensors import Sensors
from pneumo_edge.benchmarks.testset import PreparedTestSet
from pneumo_edge.benchmarks.worker import Message
from pneumo_edge.data.sources import Source
from pneumo_edge.errors import MissingExtraError, ResultsError
from pneumo_edge.runtime.engines import ENGINES, USUAL, engines_for, import_engine
from pneumo_edge.runtime.engines.tensors import Given
from pneumo_edge.scoring.decoding import InputSize
from pneumo_edge.scoring.models import BareFile, Model, ModelFile, Skipped, find_models, read_any
from pneumo_edge.scoring.seen import check_unseen

#: Images that a unit classifies while its memory is measured, and number of processes that measure it.
_MEMORY_IMAGES, _MEMORY_PROCESSES = 5, 3
#: Approximate time until a process begins its warm-up, in seconds.
_START_SECONDS = 0.7


@dataclass(frozen=True)
class _Benchmark:
    """The data that all steps of a benchmark share."""

    settings: BenchmarkSettings
    prepared: PreparedTestSet
    measurements: Measurements


@dataclass(frozen=True)
class _Classified:
    """A job whose accuracy and memory were measured."""

    job: Job
    accuracy: AccuracySamples
    memory: tuple[MemorySample, ...]


#: The units of one engine and number of threads, timed together; the last is the A/A unit.
_Group = tuple[_Classified, ...]


@dataclass(frozen=True)
class _Timed:
    """A group with the latency of each of its units, by process."""

    units: _Group
    latency: tuple[tuple[LatencySamples, ...], ...]


def run(
    paths: Sequence[Path],
    source: Source | None,
    settings: BenchmarkSettings,
    measurements: Measurements,
    *,
    given: Given | None = None,
    engines: Iterable[str] = USUAL,
    threads: Sequence[int] = (1,),
    time_all: bool = False,
    tell: Callable[[Skipped], None] = lambda skipped: None,
    warn: Callable[[str], None] = lambda text: None,
    note: Callable[[str], None] = lambda text: None,
) -> Results:
    """Measure model files on the test split of a data set.

    Files and engines that cannot be measured are listed in ``skipped``; all others are measured. Of several trainings
    of a network in a format the first is measured, and of the others the accuracy alone.

    Args:
        paths: Model files, and folders that are searched for them.
        source: The data set. Without one, units are only timed, on phantom images.
        settings: The number of processes, calls and seconds.
        measurements: Runs the plans, and keeps what an interrupted benchmark had measured.
        given: Shapes and values that inputs of files without a ModelSpec need. Such files are only timed.
        engines: Names of the engines to measure on, where they are installed.
        threads: Numbers of threads for one inference; each file is measured with every number.
        time_all: Measure every training of a network, as ``make training-latency`` does to compare their times.
        tell: Called for everything that is skipped, as soon as it is known.
        warn: Called with warnings about the test split, and about a machine that does not cool down.
        note: Called with what else a user should know meanwhile.

    Raises:
        ResultsError: Nothing can be measured, a temperature is to be waited for where none is told, a process crashed
            while timing, or the kept measurements belong to another benchmark.
        DataError: The data set has too few test images, or a model was trained on some of them.
        MissingExtraError: psutil or py-cpuinfo is not installed.
    """
    here = machine.describe()
    sensors = Sensors() if settings.sustained else None
    start_c = sensors.temperature() if sensors else None
    if settings.sustained and settings.sustained.cool_c is not None and start_c is None:
        raise ResultsError(
            f"a processor that cools to {settings.sustained.cool_c:g} °C is asked for, and this machine tells no "
            "temperature",
            f"seconds of rest; without any, units rest for {REST_SECONDS:g} s",
            f"Give --cool {REST_SECONDS:g} (rest_s in Python), or omit it",
        )
    skipped: list[Skipped] = []

    def skip(one: Skipped) -> None:
        skipped.append(one)
        tell(one)

    models = read_any(find_models(paths), skip, source.task if source else None)
    measured, further = (models, []) if time_all else _one_training_each(models)
    units = _make_units(measured, set(engines), sorted(set(threads)), skip)
    if not units:
        raise _nothing_measured()
    if source:
        tested = [sample for sample in source.samples if sample.split == "test"]
        check_unseen([file for file in models if isinstance(file, ModelFile)], source, tested, warn)
    # Answers do not depend on the number of threads.
    again = _make_units(further, set(engines), [min(threads)], skip) if source else []
    with scratch() as place:
        given = given or Given()
        benchmark, jobs = _prepare([*units, *again], source, given, settings, measurements, place)
        measurements.begin(_identity(benchmark, given, here, models, jobs))
        at_once = max(1, here.cores // min(threads))
        classified = _classify(jobs[: len(units)], benchmark, at_once, skip)
        if not classified:
            measurements.forget_if_empty()
            raise _nothing_measured()
        retrained = _score(jobs[len(units) :], further, benchmark, at_once, skip)
        timed, conditions = _time(_group(classified), benchmark)
        sustained = _sustain(classified, benchmark, sensors, start_c, warn, note) if sensors else ()
    return Results(
        started=measurements.started,
        duration_s=measurements.elapsed_s,
        machine=here,
        versions=machine.library_versions(),
        settings=settings,
        test_set=benchmark.prepared.test_set,
        models=_measured_models(measured, classified),
        units=tuple(_unit_results(timed, benchmark.prepared.test_set)),
        twins=_twins(timed),
        conditions=conditions,
        skipped=tuple(skipped),
        retrained=retrained,
        sustained=sustained,
    )


@dataclass(frozen=True)
class Unseen:
    """What was measured of units that saw no image."""

    units: tuple[UnitResult, ...]
    twins: tuple[AAUnit, ...]
    conditions: tuple[Conditions, ...]


def measure_unseen(
    jobs: Sequence[Job], settings: BenchmarkSettings, measurements: Measurements, skip: Callable[[Skipped], None]
) -> Unseen:
    """Measure jobs without images, one after the other: memory, then time, with the A/A units.

    Args:
        jobs: The jobs, all of them without pixels.
        settings: The number of processes, calls and seconds.
        measurements: Runs the plans; it has begun.
        skip: Called for every file that cannot be measured.

    Raises:
        ResultsError: Nothing can be measured, or a plan fails while timing.
    """
    benchmark = _Benchmark(settings, PreparedTestSet(None, {}, (), "", 0), measurements)
    classified = _classify(jobs, benchmark, 1, skip)
    if not classified:
        measurements.forget_if_empty()
        raise _nothing_measured()
    timed, conditions = _time(_group(classified), benchmark)
    return Unseen(tuple(_unit_results(timed, None)), _twins(timed), conditions)


def _twins(timed: Iterable[_Timed]) -> tuple[AAUnit, ...]:
    return tuple(AAUnit(group.units[-1].job.unit, group.latency[-1]) for group in timed)


def _nothing_measured() -> ResultsError:
    return ResultsError(
        "none of the model files can be measured here", "at least one that can", "See the reason given for each"
    )


def _one_training_each(
    models: Sequence[ModelFile | BareFile],
) -> tuple[list[ModelFile | BareFile], list[ModelFile | BareFile]]:
    """The files to measure, and those that differ from one of them in the seed of their training alone."""
    first: dict[tuple[str, str, str, str], ModelFile | BareFile] = {}
    further: list[ModelFile | BareFile] = []
    measured: list[ModelFile | BareFile] = []
    for file in models:
        model = file.model
        known = first.setdefault((model.backbone, model.recipe, model.format, file.path.suffix), file)
        is_other = model.seed is not None and model.seed != known.model.seed
        (further if is_other else measured).append(file)
    return measured, further


def _make_units(
    models: list[ModelFile | BareFile], engines: set[str], threads: Iterable[int], skip: Callable[[Skipped], None]
) -> list[tuple[Unit, ModelFile | BareFile]]:
    units = []
    for file in models:
        rows = [row for row in engines_for(file.path) if row.name in engines]
        if not rows:
            reason = f"none of the chosen engines runs {file.path.suffix} files"
            skip(Skipped(file.model.file, "", reason, failed=False))
        for row in rows:
            try:
                import_engine(row)
                units += [(Unit(file.model.file, row.name, number), file) for number in dict.fromkeys(threads)]
            except MissingExtraError as error:
                skip(Skipped(file.model.file, row.name, str(error), failed=False))
    return units


def _prepare(
    units: Sequence[tuple[Unit, ModelFile | BareFile]],
    source: Source | None,
    given: Given,
    settings: BenchmarkSettings,
    measurements: Measurements,
    place: Scratch,
) -> tuple[_Benchmark, list[Job]]:
    """Decode the test set once for all units, and make a job for each unit."""
    sizes = [InputSize.of(file.spec) for _, file in units if isinstance(file, ModelFile)]
    if source:
        prepared = testset.prepare(source, sizes, place, settings)
    else:
        prepared = testset.prepare_phantoms(sizes, place, settings)
    jobs = [_job(unit, file, prepared, given) for unit, file in units]
    return _Benchmark(settings, prepared, measurements), jobs


def _job(unit: Unit, file: ModelFile | BareFile, prepared: PreparedTestSet, given: Given) -> Job:
    path = str(file.path.resolve())
    if isinstance(file, BareFile):
        return Job(unit, path, "", given)
    return Job(unit, path, str(prepared.pixels[InputSize.of(file.spec)]))


def _identity(
    benchmark: _Benchmark,
    given: Given,
    here: Machine,
    models: Sequence[ModelFile | BareFile],
    jobs: Sequence[Job],
) -> Identity:
    """What must be equal for the measurements of an interrupted benchmark to be used."""
    rows = [ENGINES[name] for name in dict.fromkeys([*USUAL, *(job.unit.engine for job in jobs)])]
    engines = {row.name: row.version for row in rows if row.is_installed}
    return Identity(
        benchmark.settings,
        given,
        here,
        machine.library_versions() | engines,
        tuple(file.model for file in models),
        tuple(job.unit for job in jobs),
        benchmark.prepared.fingerprint,
    )


def _classify(
    jobs: Iterable[Job], benchmark: _Benchmark, at_once: int, skip: Callable[[Skipped], None]
) -> list[_Classified]:
    """Measure accuracy and memory of each unit; several at once, because neither depends on time."""
    by_file: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        by_file.setdefault((job.path, job.unit.engine), []).append(job)
    stop = threading.Event()
    steps = sum(benchmark.prepared.count if job.given is None else ANY_CALLS for job, *_ in by_file.values())
    with (
        bar("Classifying the test images" if benchmark.prepared.test_set else "Running each file", steps) as show,
        ThreadPoolExecutor(at_once) as pool,
    ):
        try:
            answers = list(pool.map(lambda same: _classify_file(same, benchmark, show, stop), by_file.values()))
        finally:
            # The pool waits for its threads in any case, so they must stop.
            stop.set()
    for same, answer in zip(by_file.values(), answers, strict=True):
        if isinstance(answer, ResultsError):
            unit = same[0].unit
            skip(Skipped(unit.model, unit.engine, str(answer), failed=True))
    return [each for answer in answers if not isinstance(answer, ResultsError) for each in answer]


def _score(
    jobs: Sequence[Job],
    files: Sequence[ModelFile | BareFile],
    benchmark: _Benchmark,
    at_once: int,
    skip: Callable[[Skipped], None],
) -> tuple[Retrained, ...]:
    """Measure the accuracy alone of further trainings; several at once."""
    if not jobs:
        return ()
    test_set, stop = benchmark.prepared.test_set, threading.Event()
    assert test_set
    models = {file.model.file: file.model for file in files}
    found: list[Retrained] = []
    with (
        bar("Classifying with further trainings", len(jobs) * benchmark.prepared.count) as show,
        ThreadPoolExecutor(at_once) as pool,
    ):

        def ask(job: Job) -> Message | ResultsError:
            plan = Plan("accuracy", (job,), (), benchmark.settings, 0)
            try:
                return benchmark.measurements.work(plan, lambda steps: show(steps, job.unit.name), stop)
            except ResultsError as error:
                return error

        try:
            answers = list(pool.map(ask, jobs))
        finally:
            # The pool waits for its threads in any case, so they must stop.
            stop.set()
    for job, answer in zip(jobs, answers, strict=True):
        unit = job.unit
        if isinstance(answer, ResultsError):
            skip(Skipped(unit.model, unit.engine, str(answer), failed=True))
            continue
        assert answer.accuracy
        of_image, by_class = _by_image(answer.accuracy, test_set)
        version_of_engine = answer.accuracy.engine_version
        found.append(Retrained(models[unit.model], unit.engine, version_of_engine, of_image, by_class))
    return tuple(found)


def _classify_file(
    same: Sequence[Job], benchmark: _Benchmark, show: Callable[[int, str], None], stop: threading.Event
) -> list[_Classified] | ResultsError:
    """Measure accuracy and memory of the units of one file on one engine, which differ only in their threads.

    Returns:
        The measured jobs, or the error where the file cannot be measured.

    Raises:
        StoppedError: ``stop`` was set.
    """

    def work(measure: Measure, job: Job, images: tuple[TimedImage, ...] = (), number: int = 0) -> Message:
        plan = Plan(measure, (job,), images, benchmark.settings, number)
        return benchmark.measurements.work(plan, lambda steps: show(steps, same[0].unit.name), stop)

    def weigh(job: Job, number: int) -> MemorySample:
        sample = work("memory", job, benchmark.prepared.timed[:_MEMORY_IMAGES], number).memory
        assert sample
        return sample

    try:
        # Answers do not depend on the number of threads.
        accuracy = work("accuracy", same[0]).accuracy
        assert accuracy
        return [_Classified(job, accuracy, tuple(weigh(job, i) for i in range(_MEMORY_PROCESSES))) for job in same]
    except ResultsError as error:
        return error


def _group(classified: Iterable[_Classified]) -> list[_Group]:
    """Group units by engine and threads. Each group repeats its fastest unit, whose noise is relatively largest."""
    groups: dict[tuple[str, int], list[_Classified]] = {}
    for each in classified:
        groups.setdefault((each.job.unit.engine, each.job.unit.threads), []).append(each)
    return [(*group, min(group, key=lambda each: each.accuracy.inference_ms)) for group in groups.values()]


def _time(groups: Sequence[_Group], benchmark: _Benchmark) -> tuple[list[_Timed], tuple[Conditions, ...]]:
    """Measure latency in fresh processes, one after the other, each with the units of one group.

    Groups take turns, so that a drift of the machine affects all of them. Engines do not share a process, because the
    threads of one may keep spinning while another is timed. For the same reason each unit with several threads has its
    own process, in a random order.

    Returns:
        Each group with the samples of its units by process; and the conditions during each process.
    """
    processes = benchmark.settings.processes
    plans = [[_plan_processes(group, benchmark, number) for group in groups] for number in range(processes)]
    in_all = sum(len(of_group) for of_process in plans for of_group in of_process)
    by_group: list[list[tuple[LatencySamples, ...]]] = [[] for _ in groups]
    conditions: list[Conditions] = []
    with bar("Timing", STEPS * in_all, expected_s=_expected_seconds(groups, benchmark.settings, in_all)) as show:
        for number, of_process in enumerate(plans):
            for group, of_group, samples in zip(groups, of_process, by_group, strict=True):
                note = f"process {number + 1} of {processes}, {group[0].job.unit.engine}"
                latency, meanwhile = _time_once(of_group, benchmark.measurements, partial(_show, show, note))
                samples.append(latency)
                conditions.append(meanwhile)
    timed = [_Timed(group, tuple(zip(*samples, strict=True))) for group, samples in zip(groups, by_group, strict=True)]
    return timed, tuple(conditions)


def _sustain(
    classified: Sequence[_Classified],
    benchmark: _Benchmark,
    sensors: Sensors,
    start_c: float | None,
    warn: Callable[[str], None],
    note: Callable[[str], None],
) -> tuple[SustainedUnit, ...]:
    """Run each unit alone for a long time, in a random order, and let the machine cool before each."""
    settings = benchmark.settings.sustained
    assert settings
    jobs = [each.job for each in classified]
    random.Random(f"{benchmark.settings.seed} sustained").shuffle(jobs)
    plans = [Plan("sustained", (job,), benchmark.prepared.timed, benchmark.settings) for job in jobs]
    # A resumed benchmark may begin on a machine that is still hot.
    kept = [answer.sustained for plan in plans if (answer := benchmark.measurements.kept(plan))]
    starts = [samples.readings.temperature_c[0] for samples in kept if samples and samples.readings.temperature_c]
    cooling = Cooling(settings, start_c if start_c is None else min(start_c, *starts), sensors.temperature)
    note(cooling.describe())
    seconds, found = int(settings.seconds), []
    expected = len(plans) * (settings.seconds + (cooling.rest_s or 0.0) + _START_SECONDS)
    with bar("Running each unit alone", seconds * len(plans), expected_s=expected) as show:
        for number, (job, plan) in enumerate(zip(jobs, plans, strict=True), 1):
            title = f"unit {number} of {len(plans)}, {job.unit.name}"
            if not benchmark.measurements.kept(plan):
                cooling.wait(lambda what, title=title: show(0, f"{title}: {what}"), warn)  # type: ignore[misc]
            answer = benchmark.measurements.work(plan, partial(_show, show, title))
            assert answer.sustained
            found.append(SustainedUnit(job.unit, answer.sustained))
    places = {each.job.unit: place for place, each in enumerate(classified)}
    return tuple(sorted(found, key=lambda each: places[each.unit]))


def _show(show: Callable[[int, str], None], note: str, steps: int) -> None:
    show(steps, note)


def _expected_seconds(groups: Sequence[_Group], settings: BenchmarkSettings, processes: int) -> float:
    """Approximate duration of the timing, in seconds."""
    calls_ms = [each.accuracy.inference_ms for group in groups for each in group]
    calling = settings.processes * sum(expected_seconds(settings, call_ms) for call_ms in calls_ms)
    return calling + _START_SECONDS * processes


def _time_once(
    plans: Iterable[tuple[range, Plan]], measurements: Measurements, done: Callable[[int], None]
) -> tuple[tuple[LatencySamples, ...], Conditions]:
    """The latency of each unit of a group, in its order; and the conditions meanwhile."""
    samples: dict[int, LatencySamples] = {}
    conditions: list[Conditions] = []
    for places, plan in plans:
        answer = measurements.work(plan, done)
        assert answer.conditions
        samples |= zip(places, answer.latency, strict=True)
        conditions.append(answer.conditions)
    return tuple(samples[place] for place in sorted(samples)), together(conditions)


def _plan_processes(group: _Group, benchmark: _Benchmark, number: int) -> list[tuple[range, Plan]]:
    """The plans that time each unit of a group once, each with the positions of its units in the group."""
    places = range(len(group))
    by_process = [places] if group[0].job.unit.threads == 1 else [places[i : i + 1] for i in places]
    random.Random(f"{benchmark.settings.seed} {number}").shuffle(by_process)
    return [
        (
            chosen,
            Plan(
                "latency",
                tuple(group[place].job for place in chosen),
                benchmark.prepared.timed,
                benchmark.settings,
                number,
                twin=chosen == places[-1:],
            ),
        )
        for chosen in by_process
    ]


def _measured_models(models: Iterable[ModelFile | BareFile], classified: Sequence[_Classified]) -> tuple[Model, ...]:
    measured = {each.job.unit.model for each in classified}
    return tuple(file.model for file in models if file.model.file in measured)


def _unit_results(timed: Iterable[_Timed], test_set: TestSet | None) -> Iterator[UnitResult]:
    """The results of each unit, without the A/A units."""
    for group in timed:
        for each, latency in zip(group.units[:-1], group.latency[:-1], strict=True):
            answered = test_set if each.job.given is None else None
            probabilities, by_class = _by_image(each.accuracy, answered) if answered else ({}, None)
            yield UnitResult(
                unit=each.job.unit,
                engine_version=each.accuracy.engine_version,
                delegate=each.accuracy.delegate,
                partitions=each.accuracy.partitions,
                probabilities=probabilities,
                memory=each.memory,
                latency=latency,
                operators=each.accuracy.operators,
                delegated=each.accuracy.delegated,
                class_probabilities=by_class,
            )


def _by_image(
    samples: AccuracySamples, test_set: TestSet
) -> tuple[dict[str, float], dict[str, tuple[float, ...]] | None]:
    """The probability of the positive class by image; without one it is empty, and every class by image."""
    if samples.class_probabilities is None:
        return dict(zip(test_set.labels, samples.probabilities, strict=True)), None
    return {}, dict(zip(test_set.labels, samples.class_probabilities, strict=True))
