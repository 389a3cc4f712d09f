"""Runs the whole protocol: the test set, accuracy and memory of each unit, then latency of all units side by side."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pneumo_edge._util import extras
from pneumo_edge._util.progress import bar
from pneumo_edge._util.scratch import scratch
from pneumo_edge.benchmarks import machine, testset
from pneumo_edge.benchmarks.measures.conditions import together
from pneumo_edge.benchmarks.measures.latency import STEPS, expected_seconds
from pneumo_edge.benchmarks.protocol import Job, Plan, Settings, Unit
from pneumo_edge.benchmarks.results import (
    AccuracySamples,
    Conditions,
    LatencySamples,
    MemorySample,
    Results,
    Twin,
    UnitResult,
)
from pneumo_edge.benchmarks.resume import Identity, Measurements
from pneumo_edge.benchmarks.testset import PreparedTestSet
from pneumo_edge.data.sources import Source
from pneumo_edge.errors import MissingExtraError, ResultsError
from pneumo_edge.runtime.engines import ENGINES, engines_for, import_engine
from pneumo_edge.scoring.decoding import InputSize
from pneumo_edge.scoring.models import ModelFile, Skipped, find_models, read_models

#: Images that a unit judges while its memory is measured, and processes that measure it.
_MEMORY_IMAGES, _MEMORY_PROCESSES = 5, 3
#: About how long a process takes until it begins to warm up.
_START_SECONDS = 0.7


@dataclass(frozen=True)
class _Judged:
    """A job that works, with its accuracy and memory."""

    job: Job
    accuracy: AccuracySamples
    memory: tuple[MemorySample, ...]


#: The units of one engine and number of threads, timed side by side; the last is the A/A unit.
_Group = tuple[_Judged, ...]


def run(
    paths: Sequence[Path],
    source: Source,
    settings: Settings,
    measurements: Measurements,
    *,
    engines: Iterable[str] = tuple(ENGINES),
    threads: Sequence[int] = (1,),
    tell: Callable[[Skipped], None] = lambda skipped: None,
) -> Results:
    """Measure model files on the test split of a data set.

    What cannot be measured is told in ``skipped``, and everything else is still measured.

    Args:
        paths: Model files, and folders that are searched for them.
        source: The data set.
        settings: How often everything is run.
        measurements: What carries the plans out, and keeps what an interrupted benchmark had measured.
        engines: Names of the engines to measure on, where they are installed.
        threads: Numbers of threads for one inference; each makes units of its own.
        tell: Called with everything that is skipped, as soon as it is known.

    Raises:
        ResultsError: Nothing can be measured, a process crashed while all units were timed, or what was kept is of
            another benchmark.
        DataError: The data set has too few test images.
        MissingExtraError: psutil or py-cpuinfo is not installed.
    """
    described = machine.describe()
    skipped: list[Skipped] = []

    def skip(one: Skipped) -> None:
        skipped.append(one)
        tell(one)

    models = read_models(find_models(paths), skip, source.task)
    threads = sorted(set(threads))
    units = _make_units(models, set(engines), threads, skip)
    versions = machine.library_versions()
    judged: list[_Judged] = []
    with scratch() as place:
        if units:
            sizes = [InputSize.of(file.spec) for _, file in units]
            prepared = testset.prepare(source, sizes, place, settings)
            jobs = [
                Job(unit, str(file.path.resolve()), str(prepared.pixels[input_size]))
                for (unit, file), input_size in zip(units, sizes, strict=True)
            ]
            measurements.begin(
                Identity(
                    settings,
                    described,
                    versions
                    | {row.name: version(row.library) for row in ENGINES.values() if extras.is_installed(row.library)},
                    tuple(file.model for file in models),
                    tuple(unit for unit, _ in units),
                    prepared.test_set.fingerprint,
                )
            )
            judged = _judge(jobs, prepared, settings, max(1, described.cores // threads[0]), measurements, skip)
        if not judged:
            raise ResultsError(
                "none of the model files can be measured here", "at least one that can", "See the reason for each"
            )
        groups = _group(judged)
        timed, conditions = _time(groups, prepared, settings, measurements)
    return Results(
        started=measurements.started,
        duration_s=measurements.elapsed_s,
        machine=described,
        versions=versions,
        settings=settings,
        test_set=prepared.test_set,
        models=tuple(file.model for file in models if any(each.job.unit.model == file.model.file for each in judged)),
        units=tuple(
            UnitResult(
                each.job.unit,
                each.accuracy.engine_version,
                each.accuracy.delegate,
                each.accuracy.partitions,
                dict(zip(prepared.test_set.labels, each.accuracy.probabilities, strict=True)),
                each.memory,
                latency,
                each.accuracy.operators,
                each.accuracy.delegated,
            )
            for group, timings in zip(groups, timed, strict=True)
            for each, latency in zip(group[:-1], timings[:-1], strict=True)
        ),
        twins=tuple(Twin(group[-1].job.unit, timings[-1]) for group, timings in zip(groups, timed, strict=True)),
        conditions=conditions,
        skipped=tuple(skipped),
    )


def _make_units(
    models: list[ModelFile], engines: set[str], threads: Iterable[int], skip: Callable[[Skipped], None]
) -> list[tuple[Unit, ModelFile]]:
    units = []
    for file in models:
        rows = [row for row in engines_for(file.path) if row.name in engines]
        if not rows:
            reason = f"none of the engines chosen runs {file.path.suffix} files"
            skip(Skipped(file.model.file, "", reason, failed=False))
        for row in rows:
            try:
                import_engine(row)
                units += [(Unit(file.model.file, row.name, number), file) for number in dict.fromkeys(threads)]
            except MissingExtraError as error:
                skip(Skipped(file.model.file, row.name, str(error), failed=False))
    return units


def _judge(
    jobs: list[Job],
    prepared: PreparedTestSet,
    settings: Settings,
    at_once: int,
    measurements: Measurements,
    skip: Callable[[Skipped], None],
) -> list[_Judged]:
    """Accuracy and memory of each unit; several at once, because neither depends on the time it takes."""
    ended = threading.Event()
    by_file: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        by_file.setdefault((job.path, job.unit.engine), []).append(job)
    with bar("Judging the test images", len(by_file) * len(prepared.test_set.labels)) as show:

        def judge(same: list[Job]) -> list[_Judged] | ResultsError:
            def done(steps: int) -> None:
                if ended.is_set():
                    raise KeyboardInterrupt
                show(steps, same[0].unit.name)

            def memory(job: Job, number: int) -> MemorySample:
                plan = Plan("memory", (job,), prepared.timed[:_MEMORY_IMAGES], settings, number)
                sample = measurements.work(plan, done).memory
                assert sample
                return sample

            try:
                accuracy = measurements.work(Plan("accuracy", (same[0],), (), settings), done).accuracy
                assert accuracy
                return [_Judged(job, accuracy, tuple(memory(job, i) for i in range(_MEMORY_PROCESSES))) for job in same]
            except ResultsError as error:
                return error

        with ThreadPoolExecutor(at_once) as pool:
            try:
                answers = list(pool.map(judge, by_file.values()))
            finally:
                ended.set()
    for same, answer in zip(by_file.values(), answers, strict=True):
        if isinstance(answer, ResultsError):
            unit = same[0].unit
            skip(Skipped(unit.model, unit.engine, str(answer), failed=True))
    return [each for answer in answers if not isinstance(answer, ResultsError) for each in answer]


def _group(judged: list[_Judged]) -> list[_Group]:
    """Units by engine and threads, each group with its fastest unit once more: there noise is largest beside time."""
    groups: dict[tuple[str, int], list[_Judged]] = {}
    for each in judged:
        groups.setdefault((each.job.unit.engine, each.job.unit.threads), []).append(each)
    return [(*group, min(group, key=lambda each: each.accuracy.inference_ms)) for group in groups.values()]


def _time(
    groups: list[_Group], prepared: PreparedTestSet, settings: Settings, measurements: Measurements
) -> tuple[list[list[tuple[LatencySamples, ...]]], tuple[Conditions, ...]]:
    """Latency, in one fresh process after the other, each with the units of one group.

    Groups take turns, so that a drift of the machine meets all. Engines do not share a process, because
    the threads of one may go on spinning while another is timed; for the same reason units of several threads have
    each a process of its own, in an order that is drawn.

    Returns:
        For each group and each of its units the samples by process; and what went on meanwhile.
    """
    timed: list[list[tuple[LatencySamples, ...]]] = [[] for _ in groups]
    conditions: list[Conditions] = []
    calls_ms = [each.accuracy.inference_ms for group in groups for each in group]
    seconds = settings.processes * sum(expected_seconds(settings, call_ms) for call_ms in calls_ms)
    plans = [[_plan_processes(group, prepared, settings, i) for group in groups] for i in range(settings.processes)]
    processes_in_all = sum(len(of_group) for of_process in plans for of_group in of_process)
    seconds += _START_SECONDS * processes_in_all
    with bar("Timing", STEPS * processes_in_all, expected_s=seconds) as show:
        for number, of_process in enumerate(plans):
            for group, of_group, processes in zip(groups, of_process, timed, strict=True):
                note = f"process {number + 1} of {settings.processes}, {group[0].job.unit.engine}"

                def done(steps: int, note: str = note) -> None:
                    show(steps, note)

                samples: dict[int, LatencySamples] = {}
                meanwhile: list[Conditions] = []
                for places, plan in of_group:
                    answer = measurements.work(plan, done)
                    assert answer.conditions
                    samples |= zip(places, answer.latency, strict=True)
                    meanwhile.append(answer.conditions)
                processes.append(tuple(samples[place] for place in range(len(group))))
                conditions.append(together(meanwhile))
    return [list(zip(*processes, strict=True)) for processes in timed], tuple(conditions)


def _plan_processes(
    group: _Group, prepared: PreparedTestSet, settings: Settings, number: int
) -> list[tuple[range, Plan]]:
    """The plans that time each unit of a group once, with the places in the group of the units of each."""
    places = range(len(group))
    by_process = [places] if group[0].job.unit.threads == 1 else [places[i : i + 1] for i in places]
    random.Random(f"{settings.seed} {number}").shuffle(by_process)
    return [
        (
            chosen,
            Plan(
                "latency",
                tuple(group[place].job for place in chosen),
                prepared.timed,
                settings,
                number,
                twin=chosen == places[-1:],
            ),
        )
        for chosen in by_process
    ]
