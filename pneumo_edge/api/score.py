"""``pneumo_edge.score``: from an archive of images to a data set of results."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pneumo_edge import bundled
from pneumo_edge._util import cores, extras, outputs, progress
from pneumo_edge.api import arguments
from pneumo_edge.api.arguments import PathArgument, Tell
from pneumo_edge.errors import ArgumentError
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.runtime.engines import ENGINES
from pneumo_edge.runtime.identity import PredictorIdentity
from pneumo_edge.scale import cluster, listing, plan, run, stores, summary
from pneumo_edge.scale.rows import ShardCounts
from pneumo_edge.scale.run import Job, ScoreManifest, ShardWorker
from pneumo_edge.scale.shards import Scorer
from pneumo_edge.scale.summary import Summary
from pneumo_edge.scale.workers import LocalWorker

#: Images of a shard by default, and the most.
SHARD_SIZE, MOST_SHARD_SIZE = 1000, 1_000_000
#: Workers of a cluster at most.
MOST_WORKERS = 10_000
#: Shards at work that a note names.
_NAMED = 8
#: Seconds between two lines of progress where there is no terminal.
_LOG_SECONDS = 60.0


@dataclass(frozen=True)
class Scored:
    """A scored archive.

    Attributes:
        folder: The folder with the Parquet files, a path or URL.
        manifest: Counts and hashes, which the folder's ``_manifest.json`` holds.
        summary: Groups, speed and drift, which the folder's ``_summary.json`` holds.
        images: Images that this call scored; the others were scored before.
        seconds: Wall time of this call.
        workers: Processes that scored them.
    """

    folder: str
    manifest: ScoreManifest
    summary: Summary
    images: int
    seconds: float
    workers: int = 1


def score(
    source: PathArgument,
    out: PathArgument,
    *,
    model: PathArgument | None = bundled.DEFAULT,
    engine: str | None = None,
    workers: int | None = None,
    shard_size: int = SHARD_SIZE,
    column: str | None = "",
    day: str | None = "",
    retry_errors: bool = False,
    address: str | None = None,
    tell: Tell = arguments.print_line,
) -> Scored:
    """Classify every image of an archive, and write a Parquet data set.

    The source is listed once. Then each shard is scored by one of several processes, and its file is written when it is
    complete. The same call resumes an interrupted one, and scores nothing twice.

    Args:
        source: A folder, a pattern (``*``, ``**``, ``?``), a list of paths (``.txt``), a tar or Parquet file, or the
            same as a URL that fsspec opens (``s3://``).
        out: A folder for the data set, a path or URL: new, or that of an earlier call with this source.
        model: The name of a bundled model, or the path of a model file.
        engine: As for :class:`pneumo_edge.Classifier`.
        workers: Processes, from 1 to :data:`pneumo_edge._util.cores.MOST` (of a cluster, :data:`MOST_WORKERS`); by
            default one for each core of the machine or cluster.
        shard_size: Images of a shard, from 1 to :data:`MOST_SHARD_SIZE`.
        column: The column of Parquet files with the images or their paths; by default chosen by its name.
        day: A column of Parquet files that gives the day of an image.
        retry_errors: Score the images without an answer again, after their cause was mended; the answers are kept.
        address: Use a Ray cluster: ``"auto"``, ``"local"``, ``"ray://HOST:PORT"`` or ``"HOST:PORT"``. All nodes must
            reach ``source`` and ``out``, and have this version of pneumo-edge. By default, processes of this machine.
        tell: Called with each note, one line.

    Raises:
        ArgumentError: An argument is out of range.
        DataError: The source has no images, or cannot be read.
        ResultsError: ``out`` holds something else, or the data set of another source; or the source has changed since
            the plan was made. What the plan has is then scored.
        ModelFileError: As :class:`pneumo_edge.Classifier`.
        MissingExtraError: pyarrow, fsspec, or an engine is not installed.
        StoreError: An object store failed. What was scored stays.
        WorkerError: The cluster cannot be reached, or processes end again and again.
        OSError: A file cannot be read or written.
    """
    began = time.monotonic()
    extras.need("pyarrow", "parquet")
    shard_size = arguments.whole("shard_size", shard_size, 1, MOST_SHARD_SIZE)
    if workers is not None:
        workers = arguments.whole("workers", workers, 1, MOST_WORKERS if address else cores.MOST)
    if engine is not None:
        arguments.check_name("engine", engine, ENGINES)
    if address is not None:
        cluster.check(address)
    columns = {"column": column or "", "day": day or ""}
    for parameter, name in columns.items():
        if not isinstance(name, str):
            raise ArgumentError(f"{parameter} is {name!r}", "the name of a column", "Give a name as text")
    classifier = Classifier(bundled.DEFAULT if model is None else model, engine=engine)
    place = _place(out)
    opened = listing.open_source(os.fspath(source), **columns)
    is_continued = plan.is_there(place)
    with _listing(tell) as listed:
        planned = plan.make(place, opened, shard_size, listed)
    for note in plan.notes(place, planned):
        tell(note)
    changed = plan.changed(place, planned) if is_continued else None
    job = Job(place, planned, PredictorIdentity.of(classifier))
    done = run.finished(job)
    damaged = run.check(job, done)
    for file, how in damaged.items():
        tell(f"warning: {stores.join(job.folder, file)}: {how}; its shard is scored again")
    done -= set(damaged)
    retried = run.with_errors(job, done) if retry_errors else {}
    done -= set(retried)
    pending = {task.shard: retried.get(task.file, shard.rows) for task, shard in job.tasks(done)}
    if changed and not pending:
        raise changed
    if not pending and run.MANIFEST in done:
        manifest = run.read_manifest(job)
        summarised = summary.read(job.folder) if summary.SUMMARY in done else _summarise(job, manifest, classifier)
        return Scored(job.folder, manifest, summarised, 0, time.monotonic() - began)
    counts: dict[int, ShardCounts] = {}
    workers_used = 1
    if pending:
        with (
            _workers(job, classifier, workers, address, len(pending)) as started,
            _progress(planned.images, pending, tell) as scored,
        ):
            workers_used = len(started)
            counts = run.score(job, done, started, scored, damaged, retried, partial(_tell_unmoved, tell))
    manifest = run.close(job, done, counts, classifier.spec)
    summarised = _summarise(job, manifest, classifier)
    if changed:
        raise changed
    scored_now = sum(pending[shard] for shard in counts)
    return Scored(job.folder, manifest, summarised, scored_now, time.monotonic() - began, workers_used)


def _summarise(job: Job, manifest: ScoreManifest, classifier: Classifier) -> Summary:
    return summary.write(job.folder, (shard.file for shard in manifest.shards), classifier.spec)


@contextmanager
def _workers(
    job: Job, classifier: Classifier, number: int | None, address: str | None, most: int
) -> Iterator[Sequence[ShardWorker]]:
    """Workers on this machine or, with an address, on a cluster; no more than there are shards."""
    path = classifier.path.absolute()
    if address is None:
        count = min(number or cores.workers(1), most)
        yield [LocalWorker(Scorer, job.setup(str(path))) for _ in range(count)]
        return
    with cluster.connected(address) as available:
        setup = cluster.shared(job.setup(str(path), path.read_bytes()))
        yield [cluster.ActorWorker(Scorer, setup) for _ in range(min(number or available, most))]


def _tell_unmoved(tell: Tell, shards: Mapping[int, float]) -> None:
    longest = sorted(shards.items(), key=lambda each: -each[1])
    names = ", ".join(f"{shard} for {seconds:,.0f} s" for shard, seconds in longest[:_NAMED])
    more = f" and {len(longest) - _NAMED:,} more" if len(longest) > _NAMED else ""
    tell(f"note: no shard was finished for a while; at work: {names or 'none'}{more}")


def _place(out: PathArgument) -> str:
    given = os.fspath(out)
    if stores.is_web(given):
        raise ArgumentError(
            f"{given} is an address of a web server, into which no data set can be written",
            "a folder, or the address of an object store such as s3://bucket/prefix",
            "Give another --out",
        )
    if stores.is_url(given):
        return given.rstrip("/")
    outputs.check_folder(Path(given))
    return str(Path(given).absolute())


@contextmanager
def _listing(tell: Tell) -> Iterator[Callable[[int], None]]:
    """Tell how far a long listing is."""
    last = time.monotonic()

    def listed(images: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_SECONDS:
            last = time.monotonic()
            tell(f"listed {images:,} images")

    yield listed


@contextmanager
def _progress(total: int, pending: Mapping[int, int], tell: Tell) -> Iterator[Callable[[ShardCounts], None]]:
    """Show progress as a bar on a terminal, or in lines where there is none.

    Args:
        total: Images of the source.
        pending: Images that are to be scored, by the shard.
        tell: Called with each line.
    """
    done = total - sum(pending.values())
    if done:
        tell(f"note: {done:,} of {total:,} images are scored already")
    with progress.bar("Scoring", total, done) as advance:
        began = last = time.monotonic()
        scored = 0
        is_shown = bool(sys.stderr and sys.stderr.isatty())

        def show(counts: ShardCounts) -> None:
            nonlocal last, scored
            now = time.monotonic()
            scored += pending[counts.shard]
            speed = scored / max(now - began, 1e-9)
            advance(pending[counts.shard], f"{speed:,.0f} images/s")
            if not is_shown and now - last >= _LOG_SECONDS:
                last = now
                left = (total - done - scored) / speed
                tell(f"scored {done + scored:,} of {total:,} images, {speed:,.0f} images/s, {left / 60:,.0f} min left")

        yield show
