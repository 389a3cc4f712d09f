"""The plan of a scored data set: the images of the source, each in its shard, listed once.

It lies in the folder ``_plan`` of the data set: Parquet files of one row group for each shard, and ``plan.json``, which
is written last. Until then ``listing.json`` says how far the listing is, and the next run continues it.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, zip_longest
from typing import Any

from pneumo_edge._util import extras, records
from pneumo_edge._util.records import AtLeastOne, Count
from pneumo_edge.errors import DataError, ResultsError, printable
from pneumo_edge.scale import listing, repeats, stores
from pneumo_edge.scale.entries import Entry
from pneumo_edge.scale.listing import Cursor, Source

#: Plans of version 1 are read as before; they do not say which members of a tar, for one, were left out.
_SCHEMA_VERSION = 2
_FOLDER, _PLAN, _LISTING = "_plan", "plan.json", "listing.json"
#: Names in a Parquet file of the plan, at least one shard.
_PART_NAMES = 100_000
#: Names of files that are left out, of each reason, and of repeated names, that a plan holds for messages.
NAMED = 3


@dataclass(frozen=True)
class PlannedShard:
    """A shard: how many images, and the hash of their names, sizes and versions."""

    rows: AtLeastOne
    inputs_sha256: str


@dataclass(frozen=True)
class Part:
    """A Parquet file of the plan; shard ``first + n`` is its row group ``n``."""

    file: str
    first: Count
    shards: tuple[PlannedShard, ...]


@dataclass(frozen=True)
class LeftOut:
    """What the listing left out.

    Attributes:
        counts: How many files, by the reason.
        first: The first names of each reason, at most :data:`NAMED`.
        files: Parquet files beside the plan that name all of them, in the columns ``name`` and ``why``.
    """

    counts: dict[str, Count] = field(default_factory=dict)
    first: dict[str, tuple[str, ...]] = field(default_factory=dict)
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Repeated:
    """Names that several images have: how many, how many images have them, and the first, at most :data:`NAMED`."""

    names: Count = 0
    images: Count = 0
    first: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is scored.

    Attributes:
        schema_version: Of this document.
        source: What was listed.
        shard_size: Images of a shard; the last one may have fewer.
        parts: The Parquet files.
        cursor: Where the listing stands; None where it is complete.
        left_out: Files of the source that are not scored.
        repeated: Names that several images have; None in plans from before the field.
    """

    schema_version: int
    source: Source
    shard_size: AtLeastOne
    parts: tuple[Part, ...] = ()
    cursor: Cursor | None = None
    left_out: LeftOut = LeftOut()
    repeated: Repeated | None = None

    @property
    def images(self) -> int:
        """Their number."""
        return sum(shard.rows for part in self.parts for shard in part.shards)

    def shards(self) -> Iterator[tuple[int, Part, PlannedShard]]:
        """Each shard with its number and its part."""
        for part in self.parts:
            for number, shard in enumerate(part.shards, part.first):
                yield number, part, shard


def make(place: str, source: Source, shard_size: int, listed: Callable[[int], None]) -> Plan:
    """Read the plan of a data set, or list the source and write it.

    Args:
        place: The folder of the data set, a path or URL.
        source: The source.
        shard_size: Images of a shard.
        listed: Called with the number of images that are listed so far.

    Raises:
        DataError: The source has no images, or cannot be listed.
        ResultsError: The folder holds something else, or the data set of another source; or it lies within the source.
        StoreError: A store fails.
        OSError: A file cannot be read or written.
    """
    if source.kind == "tree" and f"{place}/".startswith(f"{source.root.rstrip('/')}/") and place != source.root:
        raise ResultsError(
            f"{place} lies within the source {source.root}", "a folder outside of the source", "Give another --out"
        )
    store, folder = stores.of(place), stores.join(place, _FOLDER)
    with stores.explained(place):
        names = store.names(place)
    # Folders of results may be there without a plan that was damaged and deleted: their files have names of their own.
    others = [name for name in names if not name.startswith("model=")]
    if others and _FOLDER not in names:
        raise ResultsError(
            f"{place} holds other files (such as {min(others)})", "a new folder, or one of `pneumo-edge score`",
            "Give another --out",
        )  # fmt: skip
    wanted = Plan(_SCHEMA_VERSION, source, shard_size)
    found = store.names(folder) if names else set()
    for name in (_PLAN, _LISTING):
        if name in found:
            plan = _read(store, stores.join(folder, name))
            _check_same(place, plan, wanted)
            return plan if name == _PLAN else _list(store, place, plan, listed)
    return _list(store, place, wanted, listed)


def is_there(place: str) -> bool:
    """Whether a data set has a complete plan.

    Raises:
        StoreError: The store fails.
    """
    with stores.explained(place):
        return stores.of(place).exists(stores.join(stores.join(place, _FOLDER), _PLAN))


def changed(place: str, plan: Plan) -> ResultsError | None:
    """List the source of a plan again, and compare.

    Args:
        place: The folder of the data set, a path or URL.
        plan: Its plan.

    Returns:
        The error that tells what has changed; None where nothing has, or where the plan is of version 1.

    Raises:
        DataError: The source cannot be listed.
        ResultsError: The plan is damaged.
        StoreError: A store fails.
        OSError: A file cannot be read.
    """
    if plan.schema_version < _SCHEMA_VERSION:
        return None
    found = (entry for entry, _ in listing.entries(plan.source))
    images = 0
    for number, part, shard in plan.shards():
        chunk = list(islice(found, shard.rows))
        images += len(chunk)
        if _inputs_sha256(chunk) != shard.inputs_sha256:
            was = Reader(place).read(part.file, number - part.first)
            return _changed(place, plan, _difference(was, chunk), images + sum(1 for _ in found))
    more = next(found, None)
    if more is None:
        return None
    return _changed(place, plan, f"{more.name} is new", images + 1 + sum(1 for _ in found))


def _difference(was: Sequence[Entry], now: Sequence[Entry]) -> str:
    """The first difference of two listings of a shard."""
    known = {entry.name for entry in was}
    for before, after in zip_longest(was, now):
        if before == after:
            continue
        if before and after and before.name == after.name:
            return f"{after.name} has changed"
        if after and after.name not in known:
            return f"{after.name} is new"
        return f"{(before or after).name} is missing"
    return "its names are the same"


def _changed(place: str, plan: Plan, how: str, images: int) -> ResultsError:
    number = f"{images:,} images" if images == plan.images else f"{images:,} images instead of {plan.images:,}"
    return ResultsError(
        f"{plan.source.given} has changed since {place} was begun ({number}; {how})",
        "the same source",
        "Score it into another --out",
    )


def _read(store: stores.Store, path: str) -> Plan:
    try:
        plan = records.loads(Plan, store.read(path))
    except records.RecordError as error:
        raise ResultsError(
            f"{path} is not valid: {error}",
            "a plan of `pneumo-edge score`",
            f"Delete the folder {path.rpartition('/')[0]}, and run the same command again",
        ) from error
    if plan.schema_version > _SCHEMA_VERSION:
        raise ResultsError(
            f"{path} has schema {plan.schema_version}", f"schema {_SCHEMA_VERSION}", "Install a newer pneumo-edge"
        )
    return plan


def _check_same(place: str, plan: Plan, wanted: Plan) -> None:
    was, now = plan.source, wanted.source
    if was.given == now.given:
        for option, before, given in (("column", was.column, now.column), ("day", was.day, now.day)):
            if before != given:
                raise ResultsError(
                    f"{place} was begun {f'with --{option} {before}' if before else f'without --{option}'}",
                    f"--{option} {before}" if before else f"no --{option}",
                    "Give the same options, or another --out",
                )
    else:
        raise ResultsError(
            f"{place} holds the results of another source, {was.given}", "a new folder", "Give another --out"
        )
    if was.version != now.version:
        raise ResultsError(
            f"{now.given} has changed since {place} was begun", "the same source", "Give another --out to score it anew"
        )
    if plan.shard_size != wanted.shard_size:
        raise ResultsError(
            f"{place} has shards of {plan.shard_size:,} images, not of {wanted.shard_size:,}",
            f"--shard-size {plan.shard_size}",
            "Give that, or another --out",
        )


def _list(store: stores.Store, place: str, plan: Plan, listed: Callable[[int], None]) -> Plan:
    if not plan.parts:
        listing.check_list(plan.source)
    folder, images = stores.join(place, _FOLDER), plan.images
    left_out = _LeftOut(store, folder, plan.left_out)
    found = listing.entries(plan.source, plan.cursor, left_out)
    first = sum(len(part.shards) for part in plan.parts)
    parts, saved = list(plan.parts), len(plan.parts)
    at_once = max(1, _PART_NAMES // plan.shard_size)
    with repeats.Repeats() as names:
        for entries in _read_all(place, parts):
            names.add(entry.name for entry in entries)
        while (part := _PartFile(first)).fill(found, at_once, plan.shard_size, names):
            if not parts:
                # Nothing is written where there is nothing to score.
                _save(store, folder, _LISTING, plan)
            made, content = part.close()
            store.write(stores.join(folder, made.file), content)
            parts.append(made)
            first += len(made.shards)
            images += sum(shard.rows for shard in made.shards)
            # Not after every part: the document grows with the parts, and a killed listing repeats few of them.
            if len(parts) > saved + saved // 20:
                saved = len(parts)
                plan = replace(plan, parts=tuple(parts), cursor=part.cursor, left_out=left_out.write())
                _save(store, folder, _LISTING, plan)
            listed(images)
        if not parts:
            raise DataError(
                f"{plan.source.given} has no images{describe_left_out(left_out.so_far(), '; ')}",
                "a source with at least one image",
                "Check the path and the endings",
            )
        repeated = _repeated(place, parts, names.found())
    complete = replace(plan, parts=tuple(parts), cursor=None, left_out=left_out.write(), repeated=repeated)
    store.create(stores.join(folder, _PLAN), _document(complete))
    # Another run may have listed the source at the same time: the plan that is there is that of both.
    kept = _read(store, stores.join(folder, _PLAN))
    _check_same(place, kept, plan)
    if [shard for *_, shard in kept.shards()] != [shard for *_, shard in complete.shards()]:
        raise _changed(place, kept, "another run listed it at the same time", images)
    return kept


def _read_all(place: str, parts: Iterable[Part]) -> Iterator[list[Entry]]:
    reader = Reader(place)
    return (reader.read(part.file, number) for part in parts for number in range(len(part.shards)))


def _repeated(place: str, parts: Iterable[Part], found: repeats.Found) -> Repeated:
    """Names that several images have, with the first of them by name."""
    if not found.names:
        return Repeated()
    names = (entry.name for entries in _read_all(place, parts) for entry in entries)
    first = dict.fromkeys(islice((name for name in names if hash(name) in found.hashes), NAMED))
    return Repeated(found.names, found.images, tuple(map(records.encodable, first)))


class _LeftOut:
    """Counts what a listing leaves out, and writes all of it beside the plan."""

    def __init__(self, store: stores.Store, folder: str, before: LeftOut) -> None:
        self._store, self._folder = store, folder
        self._written = before
        self._new: list[tuple[str, str]] = []

    def __call__(self, name: str, why: str) -> None:
        self._new.append((records.encodable(name), str(why)))
        if len(self._new) >= _PART_NAMES:
            self.write()

    def so_far(self) -> LeftOut:
        """What was left out, also what is not written yet."""
        counts, first = dict(self._written.counts), dict(self._written.first)
        for name, why in self._new:
            counts[why] = counts.get(why, 0) + 1
            if counts[why] <= NAMED:
                first[why] = (*first.get(why, ()), name)
        return replace(self._written, counts=counts, first=first)

    def write(self) -> LeftOut:
        """Write what is not written yet."""
        if self._new:
            arrow, parquet = extras.need("pyarrow", "parquet"), extras.need("pyarrow.parquet", "parquet")
            names, reasons = zip(*self._new, strict=True)
            sink = arrow.BufferOutputStream()
            columns = {"name": arrow.array(names, arrow.string()), "why": arrow.array(reasons, arrow.string())}
            parquet.write_table(arrow.table(columns), sink, compression="zstd")
            # A listing that is continued writes the same names again.
            file = f"left-out-{sum(self._written.counts.values()):09d}.parquet"
            self._store.write(stores.join(self._folder, file), bytes(sink.getvalue()))
            self._written = replace(self.so_far(), files=(*self._written.files, file))
            self._new = []
        return self._written


def describe_left_out(left_out: LeftOut, begin: str = "") -> str:
    """How many files are left out, and the first of each reason; "" where there are none.

    Args:
        left_out: The files.
        begin: What stands before it.
    """
    number = sum(left_out.counts.values())
    reasons = (
        f"{count:,} {why} ({', '.join(map(printable, left_out.first[why]))}{', ...' if count > NAMED else ''})"
        for why, count in sorted(left_out.counts.items())
    )
    return (
        f"{begin}{number:,} {'file is' if number == 1 else 'files are'} left out: {', '.join(reasons)}"
        if number
        else ""
    )


def notes(place: str, plan: Plan) -> Iterator[str]:
    """What a user should know of a plan, one line each: what it leaves out, and names that several images have."""
    if said := describe_left_out(plan.left_out):
        files = stores.join(stores.join(place, _FOLDER), "left-out-*.parquet")
        yield f"note: {said}; all of them are named in {printable(files)}"
    if plan.repeated and plan.repeated.names:
        names, images = plan.repeated.names, plan.repeated.images
        first = ", ".join(map(printable, plan.repeated.first))
        begin, them = ("1 name comes", "it") if names == 1 else (f"{names:,} names come", "them")
        yield (
            f"warning: {begin} more than once in the source ({first}{', ...' if names > NAMED else ''}): "
            f"{images:,} images have {them}, and each has a row of its own"
        )


def _save(store: stores.Store, folder: str, name: str, plan: Plan) -> None:
    store.write(stores.join(folder, name), _document(plan))


def _document(plan: Plan) -> bytes:
    return records.dumps(plan, indent=None).encode()


class _PartFile:
    """A Parquet file of the plan as it is written: one shard is in memory, and what is compressed."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._shards: list[PlannedShard] = []
        self._sink = extras.need("pyarrow", "parquet").BufferOutputStream()
        self._writer: Any = None
        #: Where the listing continues behind this file.
        self.cursor: Cursor | None = None

    def fill(self, found: Iterator[tuple[Entry, Cursor]], most: int, shard_size: int, names: repeats.Repeats) -> bool:
        """Take at most so many shards, all whole but the last one of the listing; say whether there was any."""
        while len(self._shards) < most and (chunk := list(islice(found, shard_size))):
            entries = [entry for entry, _ in chunk]
            self._add(entries)
            names.add(entry.name for entry in entries)
            self.cursor = chunk[-1][1]
        return bool(self._shards)

    def _add(self, entries: list[Entry]) -> None:
        arrow = extras.need("pyarrow", "parquet")
        parquet = extras.need("pyarrow.parquet", "parquet")
        shard = self._first + len(self._shards)
        # A file name may hold any bytes, which are needed to open it.
        columns = {
            "name": arrow.array([os.fsencode(entry.name) for entry in entries], arrow.binary()),
            "size": arrow.array([entry.size for entry in entries], arrow.int64()),
            "version": arrow.array([entry.version for entry in entries], arrow.int64()),
            "container": arrow.array([_encoded(entry.container) for entry in entries], arrow.binary()),
            "position": arrow.array([entry.position for entry in entries], arrow.int64()),
            "day": arrow.array([entry.day for entry in entries], arrow.string()),
            "shard": arrow.array([shard] * len(entries), arrow.int32()),
        }
        table = arrow.table(columns)
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._sink, table.schema, compression="zstd")
        self._writer.write_table(table, row_group_size=len(entries))
        self._shards.append(PlannedShard(len(entries), _inputs_sha256(entries)))

    def close(self) -> tuple[Part, bytes]:
        """The finished file, and its bytes."""
        self._writer.close()
        content = bytes(self._sink.getvalue())
        name = f"part-{self._first:07d}-{_hash(content)}.parquet"
        return Part(name, self._first, tuple(self._shards)), content


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def _decoded(content: bytes | None) -> str | None:
    return None if content is None else os.fsdecode(content)


def _inputs_sha256(shard: list[Entry]) -> str:
    lines = (
        f"{each.name}\0{each.size}\0{each.version}\0{each.container}\0{each.position}\0{each.day}" for each in shard
    )
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:32]


class Reader:
    """Reads the images of shards; it has one part of the plan in memory.

    Args:
        place: The folder of the data set, a path or URL.
    """

    def __init__(self, place: str) -> None:
        self._folder, self._store = stores.join(place, _FOLDER), stores.of(place)
        self._name, self._part = "", b""

    def read(self, part: str, number: int) -> list[Entry]:
        """The images of a shard.

        Args:
            part: The name of the Parquet file.
            number: The row group.

        Raises:
            ResultsError: The file is not there, or not as it was written.
            StoreError: The store fails.
            OSError: The file cannot be read.
        """
        parquet = extras.need("pyarrow.parquet", "parquet")
        if part != self._name:
            path = stores.join(self._folder, part)
            try:
                content = self._store.read(path)
            except FileNotFoundError:
                content = b""
            # Its name ends with a hash of its bytes.
            if not part.endswith(f"-{_hash(content)}.parquet"):
                raise ResultsError(
                    f"{path} is missing or not as it was written", "a part of the plan as `pneumo-edge score` wrote it",
                    f"Delete the folder {self._folder}, and run the same command again",
                )  # fmt: skip
            self._name, self._part = part, content
        table: Any = parquet.ParquetFile(io.BytesIO(self._part)).read_row_group(number, use_threads=False)
        columns = [
            table.column(name).to_pylist() for name in ("name", "size", "version", "container", "position", "day")
        ]
        return [
            Entry(os.fsdecode(name), size, version, _decoded(container), position, day)
            for name, size, version, container, position, day in zip(*columns, strict=True)
        ]
