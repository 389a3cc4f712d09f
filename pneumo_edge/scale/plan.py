"""The plan of a scored data set: the images of the source, each in its shard, listed once.

It lies in the folder ``_plan`` of the data set: Parquet files of one row group for each shard, and ``plan.json``, which
is written last. Until then ``listing.json`` says how far the listing is, and the next run continues it.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

from pneumo_edge._util import extras, records
from pneumo_edge._util.records import AtLeastOne, Count
from pneumo_edge.errors import DataError, ResultsError
from pneumo_edge.scale import listing, stores
from pneumo_edge.scale.entries import Entry
from pneumo_edge.scale.listing import Cursor, Source

_SCHEMA_VERSION = 1
_FOLDER, _PLAN, _LISTING = "_plan", "plan.json", "listing.json"
#: Names in a Parquet file of the plan, at least one shard.
_PART_NAMES = 100_000


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
class Plan:
    """What is scored.

    Attributes:
        schema_version: Of this document.
        source: What was listed.
        shard_size: Images of a shard; the last one may have fewer.
        parts: The Parquet files.
        cursor: Where the listing stands; None where it is complete.
    """

    schema_version: int
    source: Source
    shard_size: AtLeastOne
    parts: tuple[Part, ...] = ()
    cursor: Cursor | None = None

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
    if names and _FOLDER not in names:
        raise ResultsError(
            f"{place} holds other files (such as {min(names)})", "a new folder, or one of `pneumo-edge score`",
            "Give another --out",
        )  # fmt: skip
    wanted = Plan(_SCHEMA_VERSION, source, shard_size)
    found = store.names(folder) if names else set()
    for name in (_PLAN, _LISTING):
        if name in found:
            plan = _read(store, stores.join(folder, name))
            _check_same(place, plan, wanted)
            return plan if name == _PLAN else _list(store, folder, plan, listed)
    return _list(store, folder, wanted, listed)


def _read(store: stores.Store, path: str) -> Plan:
    try:
        plan = records.loads(Plan, store.read(path))
    except records.RecordError as error:
        raise ResultsError(
            f"{path} is not valid: {error}", "a plan of `pneumo-edge score`", "Give another --out"
        ) from (error)
    if plan.schema_version > _SCHEMA_VERSION:
        raise ResultsError(
            f"{path} has schema {plan.schema_version}", f"schema {_SCHEMA_VERSION}", "Install a newer pneumo-edge"
        )
    return plan


def _check_same(place: str, plan: Plan, wanted: Plan) -> None:
    was, now = plan.source, wanted.source
    if (was.given, was.column, was.day) != (now.given, now.column, now.day):
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


def _list(store: stores.Store, folder: str, plan: Plan, listed: Callable[[int], None]) -> Plan:
    images = plan.images
    found = listing.entries(plan.source, plan.cursor)
    first = sum(len(part.shards) for part in plan.parts)
    parts, saved = list(plan.parts), len(plan.parts)
    if not parts:
        # Nothing is written where there is nothing to score.
        found = _not_empty(plan.source, found)
        _save(store, folder, _LISTING, plan)
    # Whole shards, so that only the last one of all has fewer images.
    at_once = max(1, _PART_NAMES // plan.shard_size) * plan.shard_size
    while chunk := list(islice(found, at_once)):
        part, content = _part([entry for entry, _ in chunk], first, plan.shard_size)
        store.write(stores.join(folder, part.file), content)
        parts.append(part)
        first += len(part.shards)
        images += len(chunk)
        # Not after every part: the document grows with the parts, and a killed listing repeats few of them.
        if len(parts) > saved + saved // 20:
            saved = len(parts)
            _save(store, folder, _LISTING, replace(plan, parts=tuple(parts), cursor=chunk[-1][1]))
        listed(images)
    complete = replace(plan, parts=tuple(parts), cursor=None)
    _save(store, folder, _PLAN, complete)
    return complete


def _not_empty(source: Source, found: Iterator[tuple[Entry, Cursor]]) -> Iterator[tuple[Entry, Cursor]]:
    begun = next(found, None)
    if begun is None:
        raise DataError(
            f"{source.given} has no images", "a source with at least one image", "Check the path and the endings"
        )
    return chain([begun], found)


def _save(store: stores.Store, folder: str, name: str, plan: Plan) -> None:
    store.write(stores.join(folder, name), records.dumps(plan, indent=None).encode())


def _part(chunk: list[Entry], first: int, shard_size: int) -> tuple[Part, bytes]:
    arrow = extras.need("pyarrow", "parquet")
    parquet = extras.need("pyarrow.parquet", "parquet")
    # A file name may hold any bytes, which are needed to open it.
    columns = {
        "name": arrow.array([os.fsencode(entry.name) for entry in chunk], arrow.binary()),
        "size": arrow.array([entry.size for entry in chunk], arrow.int64()),
        "version": arrow.array([entry.version for entry in chunk], arrow.int64()),
        "container": arrow.array([_encoded(entry.container) for entry in chunk], arrow.binary()),
        "position": arrow.array([entry.position for entry in chunk], arrow.int64()),
        "day": arrow.array([entry.day for entry in chunk], arrow.string()),
        "shard": arrow.array([first + number // shard_size for number in range(len(chunk))], arrow.int32()),
    }
    sink = arrow.BufferOutputStream()
    table = arrow.table(columns)
    parquet.write_table(table, sink, row_group_size=shard_size, compression="zstd")
    shards = tuple(
        PlannedShard(len(shard), _inputs_sha256(shard))
        for shard in (chunk[start : start + shard_size] for start in range(0, len(chunk), shard_size))
    )
    content = bytes(sink.getvalue())
    name = f"part-{first:07d}-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    return Part(name, first, shards), content


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
            StoreError: The store fails.
            OSError: The file cannot be read.
        """
        parquet = extras.need("pyarrow.parquet", "parquet")
        if part != self._name:
            self._part = self._store.read(stores.join(self._folder, part))
            self._name = part
        table: Any = parquet.ParquetFile(io.BytesIO(self._part)).read_row_group(number, use_threads=False)
        columns = [
            table.column(name).to_pylist() for name in ("name", "size", "version", "container", "position", "day")
        ]
        return [
            Entry(os.fsdecode(name), size, version, _decoded(container), position, day)
            for name, size, version, container, position, day in zip(*columns, strict=True)
        ]
