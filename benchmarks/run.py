"""Runs the whole protocol: the test set, accuracy and memory of each unit, then latency of all units side by side."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine, testset
from benchmarks.measures import size
from benchmarks.protocol import Job, Plan, Settings, Unit
from benchmarks.results import AccuracySamples, LatencySamples, MemorySample, Model, Results, Skipped, UnitResult
from benchmarks.testset import InputSize, PreparedTestSet
from benchmarks.worker import work
from pneumo_edge.data.sources import POSITIVE_CLASS, Source
from pneumo_edge.errors import MissingExtraError, ModelFileError, PneumoEdgeError, ResultsError
from pneumo_edge.progress import bar
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.runtime.engines import ENGINES, engines_for, import_engine
from pneumo_edge.spec import MODEL_SUFFIXES, ModelSpec

#: Images that a unit judges while its memory is measured.
_MEMORY_IMAGES = 5


@dataclass(frozen=True)
class ModelFile:
    """A model file, as results describe it, and with its ModelSpec."""

    path: Path
    model: Model
    spec: ModelSpec


@dataclass(frozen=True)
class _Judged:
    """A job that works, with its accuracy and memory."""

    job: Job
    accuracy: AccuracySamples
    memory: MemorySample


def run(
    paths: Sequence[Path],
    source: Source,
    settings: Settings,
    *,
    engines: Iterable[str] = tuple(ENGINES),
    threads: int = 1,
    tell: Callable[[Skipped], None] = lambda skipped: None,
) -> Results:
    """Measure model files on the test split of a data set.

    What cannot be measured is told in ``skipped``, and everything else is still measured.

    Args:
        paths: Model files, and folders that are searched for them.
        source: The data set.
        settings: How often everything is run.
        engines: Names of the engines to measure on, where they are installed.
        threads: Threads for one inference.
        tell: Called with everything that is skipped, as soon as it is known.

    Raises:
        ResultsError: Nothing can be measured, or a process crashed while all units were timed.
        DataError: The data set has too few test images.
        MissingExtraError: psutil or py-cpuinfo is not installed.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    described = machine.describe()
    skipped: list[Skipped] = []

    def skip(one: Skipped) -> None:
        skipped.append(one)
        tell(one)

    models = read_models(find_models(paths), skip)
    units = _make_units(models, set(engines), threads, skip)
    judged: list[_Judged] = []
    latency: list[tuple[LatencySamples, ...]] = []
    with tempfile.TemporaryDirectory(prefix="pneumo-edge-benchmark-") as folder:
        if units:
            sizes = [InputSize.of(file.spec) for _, file in units]
            prepared = testset.prepare(source, sizes, Path(folder), settings)
            jobs = [
                Job(unit, str(file.path.resolve()), str(prepared.pixels[input_size]))
                for (unit, file), input_size in zip(units, sizes, strict=True)
            ]
            judged = _judge(jobs, prepared, settings, max(1, described.cores // threads), skip)
        if not judged:
            raise ResultsError(
                "none of the model files can be measured here", "at least one that can", "See the reason for each"
            )
        latency = _time([each.job for each in judged], prepared, settings)
    return Results(
        started=started.isoformat(timespec="seconds"),
        duration_s=time.monotonic() - clock,
        machine=described,
        versions=machine.library_versions(),
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
                tuple(process[index] for process in latency),
            )
            for index, each in enumerate(judged)
        ),
        skipped=tuple(skipped),
    )


def find_models(paths: Iterable[Path]) -> list[Path]:
    """List model files: those that are named, and all in the folders that are named; each once.

    Raises:
        ModelFileError: A folder holds none.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix in MODEL_SUFFIXES and not p.name.startswith("."))
            if not inside:
                raise ModelFileError(
                    f"the folder {path} holds no model file", ".tflite or .onnx files", "Give another folder"
                )
        for file in inside:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def read_models(paths: list[Path], skip: Callable[[Skipped], None]) -> list[ModelFile]:
    """Read what model files say of themselves; one that cannot be measured is skipped with the reason."""
    models = []
    for path, name in _names(paths).items():
        try:
            spec = read_spec(path)
            if spec.decision.positive_class != POSITIVE_CLASS:
                raise ModelFileError(
                    f"{path} looks for {spec.decision.positive_class}", POSITIVE_CLASS, "Measure it on its own data"
                )
            models.append(ModelFile(path, size.measure(path, name, spec), spec))
        except PneumoEdgeError as error:
            skip(Skipped(name, "", str(error), failed=not isinstance(error, MissingExtraError)))
    return models


def _names(paths: list[Path]) -> dict[Path, str]:
    """What each file is called in the results: its file name, with as much of its path as tells it apart."""
    count = Counter(path.name for path in paths)
    common = os.path.commonpath([path.absolute().parent for path in paths])
    return {
        path: path.name if count[path.name] == 1 else Path(os.path.relpath(path, common)).as_posix() for path in paths
    }


def _make_units(
    models: list[ModelFile], engines: set[str], threads: int, skip: Callable[[Skipped], None]
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
                units.append((Unit(file.model.file, row.name, threads), file))
            except MissingExtraError as error:
                skip(Skipped(file.model.file, row.name, str(error), failed=False))
    return units


def _judge(
    jobs: list[Job], prepared: PreparedTestSet, settings: Settings, at_once: int, skip: Callable[[Skipped], None]
) -> list[_Judged]:
    """Accuracy and memory of each unit; several at once, because neither depends on the time it takes."""
    ended = threading.Event()
    with bar("Judging the test images", len(jobs) * len(prepared.test_set.labels)) as show:

        def judge(job: Job) -> _Judged | ResultsError:
            def done(steps: int) -> None:
                if ended.is_set():
                    raise KeyboardInterrupt
                show(steps, job.unit.name)

            try:
                accuracy = work(Plan("accuracy", (job,), (), settings), done).accuracy
                memory = work(Plan("memory", (job,), prepared.timed[:_MEMORY_IMAGES], settings), done).memory
            except ResultsError as error:
                return error
            assert accuracy
            assert memory
            return _Judged(job, accuracy, memory)

        with ThreadPoolExecutor(at_once) as pool:
            try:
                answers = list(pool.map(judge, jobs))
            finally:
                ended.set()
    for job, answer in zip(jobs, answers, strict=True):
        if isinstance(answer, ResultsError):
            skip(Skipped(job.unit.model, job.unit.engine, str(answer), failed=True))
    return [answer for answer in answers if isinstance(answer, _Judged)]


def _time(jobs: list[Job], prepared: PreparedTestSet, settings: Settings) -> list[tuple[LatencySamples, ...]]:
    """Latency of all units, in one fresh process after the other."""
    processes = []
    with bar("Timing", settings.processes * settings.rounds) as show:
        for number in range(settings.processes):

            def done(rounds: int, note: str = f"process {number + 1} of {settings.processes}") -> None:
                show(rounds, note)

            plan = Plan("latency", tuple(jobs), prepared.timed, settings, number)
            processes.append(work(plan, done).latency)
    return processes
