"""Scores one shard: reads its images, classifies them and writes its file. This is what a worker does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pneumo_edge._util import scratch
from pneumo_edge._util.records import RecordError
from pneumo_edge.errors import CrashError, ImageError, ModelFileError, StoreError
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.runtime.identity import PredictorIdentity
from pneumo_edge.scale import entries, plan, rows, stores

#: Images at the start of a shard that all fail before the others are not tried.
_FAILED = 20


@dataclass(frozen=True)
class Setup:
    """What a worker does with all its shards.

    Attributes:
        place: The folder of the data set, a path or URL.
        root: Where the names of images begin.
        column: The column of Parquet files with the images; "" to choose by its name.
        model: The model file.
        predictor: What it is, and the engine.
        folder: Where the files of the shards are written, a path or URL.
        content: The bytes of the model file, for a machine that does not have it; else None.
    """

    place: str
    root: str
    column: str
    model: str
    predictor: PredictorIdentity
    folder: str
    content: bytes | None = None


@dataclass(frozen=True)
class Task:
    """A shard, or a part of one.

    Attributes:
        shard: Its number.
        part: The Parquet file of the plan that has its images.
        group: The row group of that file.
        file: The name of the file that is written; "" to write none, which shows whether the images can be classified.
        images: The first image and the one after the last; None for all.
        crashing: Images that are not read, by their number in the shard, with the way in which they end a process.
        answered: The file of an earlier run whose answers are kept, so only the other images are read; "" for none.
    """

    shard: int
    part: str
    group: int
    file: str
    images: tuple[int, int] | None = None
    crashing: Mapping[int, str] | None = None
    answered: str = ""


class Scorer:
    """Scores one shard after the other.

    Args:
        setup: What is the same for all.

    Raises:
        ModelFileError: The model file or the engine is not the one of the setup.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._classifier, found = _load(setup)
        if found != setup.predictor:
            raise ModelFileError(
                f"a worker has {found.model} ({found.sha256[:12]}) on {found.engine} {found.version}",
                f"{setup.predictor.model} ({setup.predictor.sha256[:12]}) on {found.engine} {setup.predictor.version}",
                "Install the same versions on all nodes",
            )
        self._plan = plan.Reader(setup.place)
        self._store = stores.of(setup.folder)

    def __call__(self, task: Task) -> rows.ShardCounts:
        """Score a shard and write its file.

        Raises:
            StoreError: A store fails, again and again.
            OSError: A file cannot be read or written; the disk is full, for one.
        """
        began = time.perf_counter()
        before, answers = self._answers(task)
        found = self._score(task, answers)
        counts = rows.count(task.shard, found, before + time.perf_counter() - began)
        if task.file:
            content = rows.to_parquet(found, counts, self._setup.predictor)
            self._store.write(stores.join(self._setup.folder, task.file), content)
        return counts

    def _answers(self, task: Task) -> tuple[float, Mapping[int, rows.Row]]:
        """The answers of an earlier run, by their number in the shard, and the seconds that they took."""
        if not task.answered:
            return 0.0, {}
        # Nothing is kept of a file that has been damaged since it was checked.
        with (
            contextlib.suppress(RecordError),
            self._store.open(stores.join(self._setup.folder, task.answered)) as stream,
        ):
            counts, found = rows.read(stream)
            return counts.seconds, {number: row for number, row in enumerate(found) if row["error"] is None}
        return 0.0, {}

    def _score(self, task: Task, answers: Mapping[int, rows.Row]) -> list[rows.Row]:
        listed = self._plan.read(task.part, task.group)
        start, stop = task.images or (0, len(listed))
        crashing = task.crashing or {}
        wanted = [
            entry
            for number, entry in enumerate(listed)
            if start <= number < stop and number not in crashing and number not in answers
        ]
        root = self._setup.root
        reads = entries.read_each(root, self._setup.column, wanted)
        found, outages = [], _Outages(root)
        for number, entry in enumerate(listed[start:stop], start):
            if number in answers:
                found.append(answers[number])
                continue
            if number in crashing:
                found.append(self._classify(task.shard, entry, _crash(crashing[number]), 0.0))
                continue
            read, read_ms = next(reads)
            found.append(self._classify(task.shard, entry, outages.settle(entry, read), read_ms))
        outages.end()
        return found

    def _classify(self, shard: int, entry: entries.Entry, data: bytes | ImageError, read_ms: float) -> rows.Row:
        try:
            if isinstance(data, ImageError):
                raise data
            prediction = self._classifier.predict(data)
        except ImageError as error:
            return rows.failed(entry.name, shard, entry.day, type(error).__name__, str(error))
        return rows.classified(entry.name, shard, entry.day, read_ms, prediction)


class _Outages:
    """Tells an image that its store cannot give from a store that is down, so that an outage makes no rows of errors.

    An image has an error of its own where its store gives another image of the shard before and after it, or where the
    shard has images that can be read. Else the whole shard fails, and the next run scores it.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        #: An image that a store gave, by the store.
        self._given: dict[str, entries.Entry] = {}
        self._failed: list[StoreError] = []
        self._is_any_read = False

    def settle(self, entry: entries.Entry, read: bytes | ImageError | StoreError) -> bytes | ImageError:
        """The bytes of an image, or the error of its row.

        Raises:
            StoreError: The store is down.
        """
        store = entries.store_of(self._root, entry)
        if not isinstance(read, StoreError):
            self._is_any_read = True
            if isinstance(read, bytes) and not entries.is_of_table(entry):
                self._given[store] = entry
            return read
        self._failed.append(read)
        if given := self._given.get(store):
            with contextlib.suppress(ImageError):
                entries.read_one(self._root, given)
            # The store is up now, and may have been down for a while.
            try:
                return entries.read_one(self._root, entry)
            except ImageError as error:
                return error
            except StoreError as error:
                read = error
        elif not self._is_any_read and len(self._failed) >= _FAILED:
            raise read
        return ImageError(f"its store does not give it: {read.given}", "an image that can be read", "Check its address")

    def end(self) -> None:
        """Check that the store was not down for all images of the shard.

        Raises:
            StoreError: It was.
        """
        if self._failed and not self._is_any_read:
            raise self._failed[0]


def _load(setup: Setup) -> tuple[Classifier, PredictorIdentity]:
    if setup.content is None:
        classifier = Classifier(setup.model, engine=setup.predictor.engine)
        return classifier, PredictorIdentity.of(classifier)
    with scratch.folder() as folder:
        path = folder / Path(setup.model).name
        path.write_bytes(setup.content)
        classifier = Classifier(path, engine=setup.predictor.engine)
        # After that the file is not needed: the engine has mapped it.
        return classifier, PredictorIdentity.of(classifier)


def _crash(how: str) -> CrashError:
    return CrashError(
        f"reading or classifying this image ended its process ({how})",
        "an image that does no harm",
        "Copy it again from its source, or leave it out",
    )
