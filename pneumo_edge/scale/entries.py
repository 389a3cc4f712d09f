"""An image of a source, and how its bytes are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from pneumo_edge._util import extras
from pneumo_edge.errors import ChangedError, ImageError, StoreError
from pneumo_edge.runtime.batch import side_by_side
from pneumo_edge.scale import columns, stores

#: Endings of files that hold many images.
TAR, PARQUET = ".tar", ".parquet"
#: Positions of what is no image but has a row with an error: a folder or file that could not be listed, and a link in a
#: tar to what is no file of it.
UNREAD, NO_TARGET = -1, -2
#: Files of an object store that are read at a time, and with those that wait a few times as many: so the cores need not
#: wait for the store.
_READERS = 8
#: Rows of a Parquet file that are in memory at a time.
_ROWS = 32


@dataclass(frozen=True, slots=True)
class Entry:
    """An image of a source.

    Attributes:
        name: Its name for people: the path within the source's root, or a path or URL of its own.
        size: Bytes, where the listing says so.
        version: What changes with the file: its time of change in nanoseconds, or a hash of its ETag.
        container: The file that it is a part of, as for ``name``: a tar or a Parquet file.
        position: In a tar, its first byte; in a Parquet file, its row; or :data:`UNREAD` or :data:`NO_TARGET`.
        day: The day of a column of the source.
    """

    name: str
    size: int | None = None
    version: int | None = None
    container: str | None = None
    position: int | None = None
    day: str | None = None


#: The bytes of an image, or why it has none; and the milliseconds that reading took. A StoreError may concern one image
#: or the whole store.
Read = tuple[bytes | ImageError | StoreError, float]


def locate(root: str, name: str) -> str:
    """The path or URL of a file of a source."""
    return name if name.startswith("/") or stores.is_url(name) else stores.join(root, name)


def read_each(root: str, column: str, entries: Sequence[Entry]) -> Iterator[Read]:
    """Read images, in their order; those of an object store ahead of their turn.

    Args:
        root: Where names begin.
        column: The column of Parquet files that holds the bytes; "" to choose by its name.
        entries: The images. Those of one Parquet file are in the order of its rows.

    Raises:
        StoreError: The store of a Parquet file fails, again and again.
        OSError: A tar or Parquet file cannot be read.
    """
    for table, found in groupby(entries, lambda each: each.container if is_of_table(each) else None):
        if table is None:
            group = list(found)
            remote = any(stores.is_url(locate(root, each.container or each.name)) for each in group)
            read: Callable[[Entry], Read] = partial(_timed, root)
            yield from side_by_side([read] * _READERS if remote else [read], group)
        else:
            yield from _read_rows(locate(root, table), column, list(found))


def is_of_table(entry: Entry) -> bool:
    """Whether an image is a row of a Parquet file."""
    return entry.container is not None and entry.container.endswith(PARQUET)


def _timed(root: str, entry: Entry) -> Read:
    began = time.perf_counter_ns()
    try:
        data: bytes | ImageError | StoreError = read_one(root, entry)
    except (ImageError, StoreError) as error:
        data = error
    return data, (time.perf_counter_ns() - began) / 1e6


def store_of(root: str, entry: Entry) -> str:
    """The protocol and host, or bucket, of an image; "" on this machine."""
    protocol, is_url, path = locate(root, entry.container or entry.name).partition("://")
    return f"{protocol}://{path.partition('/')[0]}" if is_url else ""


def read_one(root: str, entry: Entry) -> bytes:
    """Read an image that is not in a Parquet file.

    Raises:
        ImageError: It cannot be read.
        StoreError: Its store fails, again and again.
    """
    if entry.position == UNREAD:
        raise ImageError(
            "it could not be read when the source was listed",
            "a folder that is open to this user, an uncompressed tar, or a Parquet file",
            "Mend it, and score it into another --out",
        )
    if entry.position == NO_TARGET:
        raise ImageError("the link leads to no file of its tar", "a link within the tar", "Leave it out")
    path = locate(root, entry.container or entry.name)
    store = stores.of(path)
    part = (None, None) if entry.container is None else (entry.position, entry.size)
    data = store.read_image(path, *part)
    version = store.version(path) if entry.version is not None else None
    if (entry.size is not None and len(data) != entry.size) or (version is not None and version != entry.version):
        raise changed()
    return data


def changed() -> ChangedError:
    """The error of an image that is not the one that was listed."""
    return ChangedError(
        "the file has changed since the source was listed", "the same file", "Score the source again into another --out"
    )


def _read_rows(path: str, column: str, entries: Sequence[Entry]) -> Iterator[Read]:
    store = stores.of(path)
    parquet = extras.need("pyarrow.parquet", "parquet")
    began = time.perf_counter_ns()
    with store.open(path) as stream:
        file = parquet.ParquetFile(stream)
        found = columns.kinds(file.schema_arrow)
        column = columns.of_images(path, found, column)
        wanted = [name for name in (column, columns.beside(found, column)) if name]
        rows = _rows(file, wanted, entries[0].position or 0)
        for entry in entries:
            data: bytes | str | ImageError | StoreError | None = None
            for row, value in rows:
                if row == entry.position:
                    data = value
                    break
            version = store.version(path) if entry.version is not None else None
            if version is not None and version != entry.version:
                data = changed()
            elif isinstance(data, str):
                data, _ = _timed("", Entry(locate(path.rpartition("/")[0], data)))
            elif data is None:
                data = ImageError("the row has no image", f"bytes in the column {column!r}", "Check the Parquet file")
            elif not data:
                data = ImageError("the image is empty", "an image", "Copy it again from its source")
            now = time.perf_counter_ns()
            yield data, (now - began) / 1e6
            began = time.perf_counter_ns()


def _rows(file: Any, wanted: Sequence[str], first: int) -> Iterator[tuple[int, bytes | str | None]]:
    """The rows of a Parquet file from one on, with the first value that there is of some columns."""
    start = group = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if start + rows > first:
            break
        start += rows
    groups = list(range(group, file.num_row_groups))
    for batch in file.iter_batches(_ROWS, row_groups=groups, columns=list(wanted), use_threads=False):
        values = [columns.values(batch, name) for name in wanted]
        for number, row in enumerate(zip(*values, strict=True), start):
            yield number, next((value for value in row if value is not None), None)
        start += batch.num_rows
