"""Scores an archive: the plan, then each shard that has no file yet, then the manifest that closes the data set.

A data set is a folder with the plan and, for each model file and engine, a folder ``model=NAME-KEY`` with a file for
each shard. The name of that file holds a hash of the shard's images, the model file and the engine. So a file that is
there is not made again, and another model writes beside it.
"""

from __future__ import annotations

import hashlib
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

from pneumo_edge._util import records
from pneumo_edge._util.records import Count
from pneumo_edge.errors import ResultsError, StoreError, WorkerError
from pneumo_edge.runtime.batch import Workers
from pneumo_edge.runtime.identity import PredictorIdentity
from pneumo_edge.scale import rows, stores
from pneumo_edge.scale.plan import Plan, PlannedShard
from pneumo_edge.scale.rows import ShardCounts
from pneumo_edge.scale.shards import Setup, Task
from pneumo_edge.scale.workers import EndedError, Worker
from pneumo_edge.spec import ModelSpec

MANIFEST = "_manifest.json"
_SCHEMA_VERSION = 1
#: Times that a worker may end on a shard before the images that end it are looked for, and in all.
_ENDED, _MOST_ENDED = 2, 8
#: Shards in a row that a store may fail before the others are not tried.
_FAILED = 10
#: Seconds without a finished shard after which those at work are named.
_QUIET = 60.0
#: Files that are read at a time.
_READERS = 16
#: Images of a data set up to which every row of an earlier run is read and compared; of larger ones, the footers.
_RECOUNTED = 100_000

ShardWorker = Worker[Task, ShardCounts]


@dataclass(frozen=True)
class ShardFile:
    """A shard of a finished data set: its file, and what the hash of its rows is (:class:`rows.ShardCounts`)."""

    file: str
    rows: Count
    rows_sha256: str


@dataclass(frozen=True)
class ScoreManifest:
    """Closes a data set: what was scored by what, with counts.

    Attributes:
        schema_version: Of this document.
        source: The source, as it was given.
        predictor: The model file and the engine.
        images: Images of the source.
        labels: Images of each label.
        uncertain: Images with an uncertain answer; None where the model file does not say.
        out_of_distribution: Images unlike the training images; None as above.
        errors: Images that could not be classified, by the class of the error.
        worker_seconds: Wall time of all workers together.
        rows_sha256: Hash of the hashes of all shards; two runs of the same work agree on it.
        shards: The files.
        threshold: Of the probability of the positive class; None without one, and in manifests from before the field.
        repeated: Images whose name another image has, too; None in manifests from before the field.
        left_out: Files of the source that were left out, by the reason.
    """

    schema_version: int
    source: str
    predictor: PredictorIdentity
    images: Count
    labels: dict[str, int]
    uncertain: Count | None
    out_of_distribution: Count | None
    errors: dict[str, int]
    worker_seconds: float
    rows_sha256: str
    shards: tuple[ShardFile, ...]
    threshold: float | None = None
    repeated: Count | None = None
    left_out: dict[str, Count] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """The work that a plan and a model file make.

    Attributes:
        place: The folder of the data set, a path or URL.
        plan: The plan.
        predictor: The model file and the engine.
    """

    place: str
    plan: Plan
    predictor: PredictorIdentity

    @property
    def key(self) -> str:
        """Hash of what decides the answers."""
        return hashlib.sha256(records.dumps(self.predictor).encode()).hexdigest()[:16]

    @property
    def folder(self) -> str:
        """Where the files of the shards are."""
        # Readers of such folders take the name for the value of a column; a slash in it would be a folder.
        name = re.sub(r"[^\w.-]", "_", self.predictor.model)
        return stores.join(self.place, f"model={name}-{self.key}")

    def file(self, number: int, shard: PlannedShard) -> str:
        """The name of a shard's file."""
        return f"{number:07d}-{hashlib.sha256(f'{shard.inputs_sha256} {self.key}'.encode()).hexdigest()[:16]}.parquet"

    def tasks(self, done: set[str], retried: Collection[str] = ()) -> Iterator[tuple[Task, PlannedShard]]:
        """The shards whose files are not among those that are done, in any order, those of a part one after the other.

        Several runs may be at work: in one order, one that comes to the shards of another would go along with it.

        Args:
            done: Files that are there.
            retried: Files that are there, of which only the images without an answer are scored.
        """
        for part in random.sample(self.plan.parts, len(self.plan.parts)):
            shards = list(enumerate(part.shards, part.first))
            for number, shard in random.sample(shards, len(shards)):
                if (file := self.file(number, shard)) not in done:
                    answered = file if file in retried else ""
                    yield Task(number, part.file, number - part.first, file, answered=answered), shard

    def setup(self, model: str, content: bytes | None = None) -> Setup:
        """What workers get."""
        source = self.plan.source
        return Setup(self.place, source.root, source.column, model, self.predictor, self.folder, content)


def finished(job: Job) -> set[str]:
    """The names of the files that are there.

    Raises:
        ResultsError: There is a Parquet file that is no shard of the plan; programs that read the folder would read it.
        StoreError: The store fails.
    """
    with stores.explained(job.folder):
        names = stores.of(job.folder).names(job.folder)
    others = names - {job.file(number, shard) for number, _, shard in job.plan.shards()}
    others = {name for name in others if name.endswith(".parquet") and not name.startswith((".", "_"))}
    if others:
        raise ResultsError(
            f"{job.folder} holds {len(others):,} Parquet files that are no shards of this data set (such as "
            f"{min(others)})" if len(others) > 1 else
            f"{stores.join(job.folder, min(others))} is no shard of this data set",
            "only files that `pneumo-edge score` wrote for it",
            "Move them elsewhere, or give another --out" if len(others) > 1 else
            "Move it elsewhere, or give another --out",
        )  # fmt: skip
    return names


def check(job: Job, done: set[str]) -> dict[str, str]:
    """Compare the files of an earlier run with the plan, with the manifest, and with what they say themselves.

    Args:
        job: The work.
        done: Files that are there.

    Returns:
        The files whose shards must be scored again, each with what is wrong with it.

    Raises:
        ResultsError: The manifest is damaged.
        StoreError: The store fails.
        OSError: A file cannot be read.
    """
    closed = {each.file: each.rows_sha256 for each in read_manifest(job).shards} if MANIFEST in done else {}
    recount = job.plan.images <= _RECOUNTED
    found = [(number, job.file(number, shard), shard.rows) for number, _, shard in job.plan.shards()]

    def wrong(each: tuple[int, str, int]) -> str:
        number, file, planned = each
        try:
            counts = _read_counts(job, file, recount=recount)
        except records.RecordError as error:
            return str(error)
        if (counts.shard, counts.rows) != (number, planned):
            return f"it has {counts.rows:,} rows of shard {counts.shard} instead of {planned:,} of shard {number}"
        if closed.get(file, counts.rows_sha256) != counts.rows_sha256:
            return "its rows are not those that the manifest has"
        return ""

    there = [each for each in found if each[1] in done]
    with ThreadPoolExecutor(_READERS) as readers:
        return {file: how for (_, file, _), how in zip(there, readers.map(wrong, there), strict=True) if how}


def _read_counts(job: Job, file: str, *, recount: bool = False) -> ShardCounts:
    with stores.of(job.folder).open(stores.join(job.folder, file)) as stream:
        return rows.read_counts(stream, recount=recount)


def with_errors(job: Job, done: set[str]) -> dict[str, int]:
    """The names of the files, of those that are there, with images that could not be classified, and how many.

    Raises:
        ResultsError: A file is damaged.
        StoreError: The store fails.
        OSError: A file cannot be read.
    """
    files = [file for number, _, shard in job.plan.shards() if (file := job.file(number, shard)) in done]
    found = zip(files, _read_all(job, files), strict=True)
    return {file: sum(counts.errors.values()) for file, counts in found if counts.errors}


def score(
    job: Job,
    done: set[str],
    workers: Sequence[ShardWorker],
    scored: Callable[[ShardCounts], None],
    damaged: Collection[str] = (),
    retried: Collection[str] = (),
    unmoved: Callable[[Mapping[int, float]], None] = lambda shards: None,
) -> dict[int, ShardCounts]:
    """Score the shards that are not done.

    Several runs may score one data set at the same time. Each has an order of its own, and leaves out what another has
    written meanwhile.

    Args:
        job: The work.
        done: Files that are there.
        workers: The workers, at least one; they are stopped and closed.
        scored: Called after each shard.
        damaged: Files that are there and must be written again.
        retried: Files that are there, of which the images without an answer are scored again.
        unmoved: Called where no shard was finished for a minute, with the shards at work and the seconds since each
            was begun; then after two minutes more, four, and so on.

    Returns:
        The counts of each shard that this run scored, by its number.

    Raises:
        StoreError: The store of the source or of the data set failed for some shards. The others were scored.
        WorkerError: No worker can be started, or they end on a shard for no image's sake.
        OSError: A file cannot be read or written.
    """
    stopped = threading.Event()
    begun: dict[int, float] = {}
    quiet = _QUIET
    pool: Workers[tuple[Task, PlannedShard], ShardCounts | None] = Workers(
        [partial(_unless_there, job, damaged, begun, partial(_persist, worker, stopped)) for worker in workers]
    )
    tasks = job.tasks(done, retried)
    counts: dict[int, ShardCounts] = {}
    failures: list[StoreError] = []
    in_a_row = 0
    waiting: set[Future[ShardCounts | None]] = set()
    try:
        while True:
            waiting |= {pool.submit(task) for task in islice(tasks, 2 * len(workers) - len(waiting))}
            if not waiting:
                break
            ended, waiting = wait(waiting, timeout=quiet, return_when=FIRST_COMPLETED)
            if not ended:
                unmoved({shard: time.monotonic() - since for shard, since in sorted(begun.copy().items())})
            quiet = _QUIET if ended else 2 * quiet
            for future in ended:
                try:
                    found = future.result()
                except StoreError as error:
                    failures.append(error)
                    in_a_row += 1
                    if in_a_row >= _FAILED:
                        raise
                    continue
                in_a_row = 0
                if found is None:
                    continue
                counts[found.shard] = found
                scored(found)
    finally:
        stopped.set()
        for worker in workers:
            worker.stop()
        pool.close()
        for worker in workers:
            worker.close()
    if failures:
        raise StoreError(
            f"{len(failures):,} {'shard' if len(failures) == 1 else 'shards'} could not be scored, the first because "
            f"{failures[0].given}",
            failures[0].expected,
            "Run the same command again to score them",
        )
    return counts


def _unless_there(
    job: Job,
    damaged: Collection[str],
    begun: dict[int, float],
    scored: Callable[[tuple[Task, PlannedShard]], ShardCounts],
    work: tuple[Task, PlannedShard],
) -> ShardCounts | None:
    """Score a shard whose file another run has not written meanwhile."""
    is_rewritten = work[0].answered or work[0].file in damaged
    if not is_rewritten and stores.of(job.folder).exists(stores.join(job.folder, work[0].file)):
        return None
    begun[work[0].shard] = time.monotonic()
    try:
        return scored(work)
    finally:
        del begun[work[0].shard]


def _persist(worker: ShardWorker, stopped: threading.Event, work: tuple[Task, PlannedShard]) -> ShardCounts:
    """Score a shard even where the worker ends; images that end it are left out and named."""
    task, shard = work
    ended = 0
    while not stopped.is_set():
        try:
            return worker(task)
        except EndedError as error:
            ended += 1
            if ended >= _MOST_ENDED:
                raise WorkerError(
                    f"workers ended {ended} times on shard {task.shard} ({error}), and no single image is the reason",
                    "workers that finish a shard",
                    "Check memory and nodes, and run the same command again",
                ) from error
        if ended >= _ENDED:
            crashing = dict(_find(worker, stopped, task, 0, shard.rows))
            task = replace(task, crashing={**(task.crashing or {}), **crashing})
    raise EndedError("it was stopped")


def _find(
    worker: ShardWorker, stopped: threading.Event, task: Task, start: int, stop: int
) -> Iterator[tuple[int, str]]:
    """The images that end a worker, by dividing the shard again and again, with how they end it."""
    how = _ends(worker, stopped, replace(task, file="", images=(start, stop)))
    if not how:
        return
    if stop - start > 1:
        middle = (start + stop) // 2
        yield from _find(worker, stopped, task, start, middle)
        yield from _find(worker, stopped, task, middle, stop)
    # Something else may have ended the worker just then.
    elif _ends(worker, stopped, replace(task, file="", images=(start, stop))):
        yield start, how


def _ends(worker: ShardWorker, stopped: threading.Event, task: Task) -> str:
    """How a task ends the worker; "" where it does not."""
    if stopped.is_set():
        return ""
    try:
        worker(task)
    except EndedError as error:
        return str(error)
    return ""


def close(job: Job, done: set[str], counts: dict[int, ShardCounts], spec: ModelSpec) -> ScoreManifest:
    """Write the manifest of a data set of which every shard is scored.

    Args:
        job: The work.
        done: Files that were there before.
        counts: Of the shards that were scored since; those of the others are read.
        spec: That of the model file.

    Raises:
        ResultsError: A file is damaged, or is no shard of the plan.
        StoreError: The store fails.
        OSError: A file cannot be read or written.
    """
    finished(job)
    planned = [(number, job.file(number, shard)) for number, _, shard in job.plan.shards()]
    before = [(number, file) for number, file in planned if number not in counts]
    found = _read_all(job, [file for _, file in before])
    counts = {**counts, **{number: each for (number, _), each in zip(before, found, strict=True)}}
    manifest = _manifest(job, [(file, counts[number]) for number, file in planned], spec)
    stores.of(job.folder).write(stores.join(job.folder, MANIFEST), records.document(manifest).encode())
    return manifest


def _read_all(job: Job, files: Sequence[str]) -> list[ShardCounts]:
    """The counts of files of shards, in their order."""

    def read(file: str) -> ShardCounts:
        try:
            return _read_counts(job, file)
        except records.RecordError as error:
            raise ResultsError(
                f"{stores.join(job.folder, file)} is damaged: {error}",
                "a file as `pneumo-edge score` wrote it",
                "Run the same command again to score its shard",
            ) from error

    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(read, files))


def read_manifest(job: Job) -> ScoreManifest:
    """Read the manifest of a finished data set.

    Raises:
        ResultsError: It is damaged.
        StoreError: The store fails.
    """
    path = stores.join(job.folder, MANIFEST)
    try:
        return records.loads(ScoreManifest, stores.of(path).read(path))
    except records.RecordError as error:
        raise ResultsError(f"{path} is not valid: {error}", "a manifest of `pneumo-edge score`", "Delete it") from error


def _manifest(job: Job, found: Iterable[tuple[str, ShardCounts]], spec: ModelSpec) -> ScoreManifest:
    labels: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    uncertain = out_of_distribution = images = 0
    seconds = 0.0
    shards, digest = [], hashlib.sha256()
    for file, counts in found:
        labels.update(counts.labels)
        errors.update(counts.errors)
        uncertain += counts.uncertain
        out_of_distribution += counts.out_of_distribution
        images += counts.rows
        seconds += counts.seconds
        digest.update(counts.rows_sha256.encode())
        shards.append(ShardFile(file, counts.rows, counts.rows_sha256))
    return ScoreManifest(
        schema_version=_SCHEMA_VERSION,
        source=job.plan.source.given,
        predictor=job.predictor,
        images=images,
        labels=dict(sorted(labels.items())),
        uncertain=uncertain if spec.conformal else None,
        out_of_distribution=out_of_distribution if spec.input_check else None,
        errors=dict(sorted(errors.items())),
        worker_seconds=seconds,
        rows_sha256=digest.hexdigest(),
        shards=tuple(shards),
        threshold=spec.decision.threshold,
        repeated=job.plan.repeated.images if job.plan.repeated else None,
        left_out=job.plan.left_out.counts,
    )
