"""Lists the images of a source, in bounded memory: a folder, a prefix of an object store, a list, tars, Parquet files.

Files come in the order of their whole names as bytes of UTF-8, in which object stores list, too. So a listing can begin
after any name, and the same files are listed alike wherever they are.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pneumo_edge._util import extras
from pneumo_edge.errors import DataError, StoreError
from pneumo_edge.imaging import folders
from pneumo_edge.imaging.images import SUFFIXES
from pneumo_edge.scale import columns, stores
from pneumo_edge.scale.entries import PARQUET, TAR, Entry, locate

_LISTS = (".txt", ".list")
_WILD = re.compile(r"[*?\[]")
#: An ending that is only digits is the last part of a DICOM UID, as archives name files.
_UID_PART = re.compile(r"\.\d+")
_ROWS = 10_000


@dataclass(frozen=True)
class Source:
    """What is listed.

    Attributes:
        given: As the user gave it, a local path made absolute.
        root: Where names begin: a folder or a prefix.
        kind: ``"tree"``: all files below the root; ``"file"``: one file of the root; ``"list"``: the lines of one.
        match: What names must match, as a regular expression; "" for all.
        column: The column of Parquet files with the image or its path; "" to choose by its name.
        day: The column of Parquet files with the day of an image; "" for none.
        version: Of ``"file"`` and ``"list"``, what changes with it.
    """

    given: str
    root: str
    kind: Literal["tree", "file", "list"]
    match: str = ""
    column: str = ""
    day: str = ""
    version: int | None = None


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a tree, by its name within the root."""

    name: str
    size: int | None = None
    version: int | None = None


def open_source(given: str, column: str = "", day: str = "") -> Source:
    """Find out what a source is.

    Args:
        given: A path or URL, or a pattern of either with ``*``, ``**`` and ``?``.
        column: As in :class:`Source`.
        day: As in :class:`Source`.

    Raises:
        DataError: There is no such source.
        StoreError: The store cannot be reached, or has no such bucket or prefix.
        MissingExtraError: A library for the source is not installed.
    """
    if stores.is_url(given):
        return _open_remote(given.rstrip("/"), column, day)
    path = Path(given).absolute()
    if path.is_dir():
        return Source(str(path), str(path), "tree", "", column, day)
    if path.exists():
        status = path.stat()
        return Source(str(path), str(path.parent), _kind(path.name), "", column, day, status.st_mtime_ns)
    if wild := _WILD.search(str(path)):
        root = str(path)[: wild.start()].rpartition("/")[0] or "/"
        if Path(root).is_dir():
            return Source(str(path), root, "tree", _pattern(str(path)[len(root.rstrip("/")) + 1 :]), column, day)
    raise DataError(
        f"{given} does not exist", "a folder, a list of images, a tar or Parquet file, or a pattern", "Check the path"
    )


def _open_remote(given: str, column: str, day: str) -> Source:
    protocol, _, path = given.partition("://")
    system = stores.file_system(protocol)
    with stores.explained(given):
        if wild := _WILD.search(path):
            root = path[: wild.start()].rpartition("/")[0]
            return Source(given, f"{protocol}://{root}", "tree", _pattern(path[len(root) + 1 :]), column, day)
        try:
            found = system.info(path)
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # of the libraries of any store
            raise stores.listing_errors(given, error) from error
    if found["type"] == "directory":
        return Source(given, given, "tree", "", column, day)
    folder, _, name = given.rpartition("/")
    return Source(given, folder, _kind(name), "", column, day, _version(found))


def _kind(name: str) -> Literal["file", "list"]:
    return "list" if name.endswith(_LISTS) else "file"


def _pattern(wild: str) -> str:
    """A pattern of a shell as a regular expression."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        parts.get(part) or (f"[{part[1:-1].replace('!', '^')}]" if part.startswith("[") and len(part) > 2 else
                            re.escape(part))
        for part in re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|[^*?\[]+|\[", wild)
    )  # fmt: skip


@dataclass(frozen=True)
class Cursor:
    """Where a listing stands: after the image at a position of a file.

    Attributes:
        file: The file, by its name within the root; "" of the source itself, where it is a list.
        position: In a tar, a Parquet file or a list, what only grows; else 0.
    """

    file: str
    position: int


def entries(source: Source, after: Cursor | None = None) -> Iterator[tuple[Entry, Cursor]]:
    """List the images of a source.

    Args:
        source: The source.
        after: Where an earlier listing ended; this one continues there.

    Yields:
        Each image, and where the listing stands after it.

    Raises:
        DataError: A tar or Parquet file cannot be read, or has no column with images.
        StoreError: The store fails.
        OSError: A folder or file cannot be read; the error names it.
    """
    if source.kind == "list":
        yield from _lines(source, -1 if after is None else after.position)
        return
    last = "" if after is None else after.file
    for file in _files(source, last):
        begun = after.position if after is not None and file.name == last else -1
        if file.name.endswith(TAR):
            inside = _members(source, file)
        elif file.name.endswith(PARQUET):
            inside = _rows(source, file)
        else:
            inside = iter([(Entry(file.name, file.size, file.version), 0)])
        yield from ((entry, Cursor(file.name, position)) for entry, position in inside if position > begun)


def _lines(source: Source, done: int) -> Iterator[tuple[Entry, Cursor]]:
    with stores.of(source.given).open(source.given) as stream:
        for number, line in enumerate(filter(None, (line.strip() for line in stream))):
            if number > done:
                yield Entry(os.fsdecode(line)), Cursor("", number)


def _files(source: Source, last: str) -> Iterator[_File]:
    """The files of a source from a name on, that name included."""
    if source.kind == "file":
        yield _File(source.given[len(source.root.rstrip("/")) + 1 :], None, source.version)
        return
    match = re.compile(source.match) if source.match else None
    tree = _remote_tree(source.root, last) if stores.is_url(source.root) else _local_tree(source.root, "", _key(last))
    for file in tree:
        if match is None or match.fullmatch(file.name):
            yield file


def _key(name: str) -> bytes:
    return os.fsencode(name)


def _local_tree(root: str, inside: str, last: bytes) -> Iterator[_File]:
    with os.scandir(f"{root}/{inside}") as listing:
        found = [
            (_key(f"{inside}{entry.name}") + (b"/" if entry.is_dir(follow_symlinks=False) else b""), entry)
            for entry in listing
            if not folders.is_hidden(entry.name)
        ]
    found.sort(key=lambda each: each[0])
    for key, entry in found:
        if key.endswith(b"/"):
            if key > last or last.startswith(key):
                yield from _local_tree(root, f"{inside}{entry.name}/", last)
        elif key >= last and not folders.is_folder(entry):
            path = Path(entry.path)
            if not entry.name.endswith((TAR, PARQUET)) and folders.why_unread(path):
                continue
            try:
                status = entry.stat()
            except OSError:  # a link to nothing, which is told when it is read
                yield _File(f"{inside}{entry.name}")
                continue
            if stat.S_ISREG(status.st_mode):
                yield _File(f"{inside}{entry.name}", status.st_size, status.st_mtime_ns)


def _remote_tree(root: str, last: str) -> Iterator[_File]:
    protocol, _, prefix = root.partition("://")
    system = stores.file_system(protocol)
    system.invalidate_cache()
    listed = _s3_tree(system, prefix, last) if protocol in stores.S3 else _other_tree(system, prefix, "", last)
    try:
        yield from (file for file in listed if _is_image_by_name(file.name))
    except StoreError:
        raise
    except Exception as error:  # of the libraries of any store
        raise stores.listing_errors(root, error) from error


def _s3_tree(system: Any, prefix: str, last: str) -> Iterator[_File]:
    """Page after page: s3fs itself holds the whole listing in memory."""
    bucket, _, folder = prefix.partition("/")
    folder = f"{folder}/" if folder else ""
    # The last name itself is listed again: it may be that of a tar whose members are not all listed.
    arguments = {"Bucket": bucket, "Prefix": folder}
    if last:
        arguments["StartAfter"] = folder + last[:-1]
    while True:
        page = system.call_s3("list_objects_v2", **arguments)
        for found in page.get("Contents", ()):
            name = found["Key"][len(folder) :]
            if name >= last and not name.endswith("/"):
                yield _File(name, found["Size"], _hash(found.get("ETag", "")))
        if not page.get("IsTruncated"):
            return
        arguments = {**arguments, "ContinuationToken": page["NextContinuationToken"]}
        arguments.pop("StartAfter", None)


def _other_tree(system: Any, prefix: str, inside: str, last: str) -> Iterator[_File]:
    found = []
    for each in system.ls(f"{prefix}/{inside}".rstrip("/"), detail=True):
        name = inside + each["name"].rstrip("/").rpartition("/")[2]
        found.append((name + ("/" if each["type"] == "directory" else ""), each))
    for name, each in sorted(found, key=lambda pair: pair[0].encode()):
        if name.endswith("/"):
            if name > last or last.startswith(name):
                yield from _other_tree(system, prefix, name, last)
        elif name >= last:
            yield _File(name, each.get("size"), _version(each))


def _is_image_by_name(name: str) -> bool:
    """Whether a file of a store is taken for an image, or for one that holds images; nothing of it is read."""
    if any(map(folders.is_hidden, name.split("/"))):
        return False
    ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 (a name in a store is no path here)
    return ending in SUFFIXES or ending in (TAR, PARQUET, "") or bool(_UID_PART.fullmatch(ending))


def _version(found: Any) -> int | None:
    """What changes with a file of a store."""
    told = found.get("ETag") or found.get("etag") or found.get("mtime") or found.get("LastModified")
    return None if told is None else _hash(str(told))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def _members(source: Source, file: _File) -> Iterator[tuple[Entry, int]]:
    """The images in a tar, by their endings: a shard of WebDataset has other files beside them."""
    path = locate(source.root, file.name)
    try:
        with stores.of(path).open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                ending = os.path.splitext(member.name)[1].lower()  # noqa: PTH122 (a name in an archive is no path here)
                if member.isreg() and ending in SUFFIXES:
                    name = f"{file.name}/{member.name}"
                    position = member.offset_data
                    yield Entry(name, member.size, file.version, file.name, position), position
                # It keeps every member that it has read.
                archive.members.clear()  # type: ignore[attr-defined]
    except tarfile.TarError as error:
        raise DataError(f"{path} is not a readable tar ({error})", "an uncompressed tar", "Copy it again") from error


def _rows(source: Source, file: _File) -> Iterator[tuple[Entry, int]]:
    """The rows of a Parquet file: images, or paths of images."""
    path = locate(source.root, file.name)
    parquet = extras.need("pyarrow.parquet", "parquet")
    arrow = extras.need("pyarrow", "parquet")
    try:
        with stores.of(path).open(path) as stream:
            table = parquet.ParquetFile(stream)
            found = columns.kinds(table.schema_arrow)
            column = columns.of_images(path, found, source.column)
            is_bytes = found[column] == "bytes"
            named = columns.of_names(found) if is_bytes else ""
            if source.day:
                columns.check(path, source.day, found)
            wanted = list(dict.fromkeys(filter(None, ("" if is_bytes else column, named, source.day))))
            folder = file.name.rpartition("/")[0]
            number = 0
            for batch in table.iter_batches(_ROWS, columns=wanted or [], use_threads=False):
                values = {name: batch.column(name).to_pylist() for name in wanted}
                for row in range(batch.num_rows):
                    day = None if not source.day else _day(values[source.day][row])
                    if is_bytes:
                        name = values[named][row] if named else f"{number:07d}"
                        yield Entry(f"{file.name}/{name}", None, file.version, file.name, number, day), number
                    else:
                        name = str(values[column][row] or "")
                        name = name if name.startswith("/") or stores.is_url(name) else stores.join(folder, name)
                        yield Entry(name, day=day), number
                    number += 1
    except arrow.ArrowInvalid as error:
        raise DataError(
            f"{path} is not a readable Parquet file ({error})", "a Parquet file", "Copy it again"
        ) from error


def _day(value: Any) -> str | None:
    return None if value is None else str(value)[:10]
