"""Lists the images of a source, in bounded memory: a folder, a prefix of an object store, a list, tars, Parquet files.

Files come in the order of their whole names as bytes of UTF-8, in which object stores list, too. So a listing can begin
after any name, and the same files are listed alike wherever they are.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pneumo_edge._util import extras
from pneumo_edge.errors import DataError, StoreError
from pneumo_edge.imaging import folders
from pneumo_edge.imaging.images import SUFFIXES
from pneumo_edge.scale import columns, stores
from pneumo_edge.scale.entries import NO_TARGET, PARQUET, TAR, UNREAD, Entry, locate

#: Endings of tars that cannot be read at any place.
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
#: Bytes of a block of a tar, and what is read at a time after its end.
_BLOCK, _BLOCKS = 512, 64 * 512
#: The cursor of a link in a tar is at least this: links come after all other members.
_LINKS = 2**60
#: Links that lead to links.
_MOST_LINKS = 40
_LISTS = (".txt", ".list")
#: Lines of a list of which one must be a path or an address.
_TRIED = 1000
_WILD = re.compile(r"[*?\[]")
#: An ending that is only digits is the last part of a DICOM UID, as archives name files.
_UID_PART = re.compile(r"\.\d+")
_ROWS = 10_000
#: Why a file is left out, beside the reasons of :class:`pneumo_edge.imaging.folders.Why`.
_LINK, _EMPTY = "a link to a folder", "a tar or Parquet file without images"

#: Called with the name of each file that is left out, and why.
LeftOut = Callable[[str, str], None]


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
    """A file of a tree, by its name within the root; or a folder that cannot be read, whose name ends with a slash."""

    name: str
    size: int | None = None
    version: int | None = None


class _DamagedError(DataError):
    """A tar or Parquet file that is not a whole one."""


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
    if stores.is_url(given) and not given.partition("://")[2].strip("/"):
        raise DataError(f"{given} names no bucket", "an address such as s3://bucket/prefix", "Give the bucket, too")
    source = _open_remote(given.rstrip("/"), column, day) if stores.is_url(given) else _open_local(given, column, day)
    if source.kind == "list" or (source.kind == "file" and not source.given.endswith(PARQUET)):
        _check_options(source)
    return source


def _check_options(source: Source) -> None:
    if source.column or source.day:
        raise DataError(
            f"{source.given} has no Parquet file, which {'--column' if source.column else '--day'} is for",
            "a Parquet file, or a folder with one",
            "Omit the option",
        )


def _open_local(given: str, column: str, day: str) -> Source:
    path = Path(given).absolute()
    if path.is_dir():
        return Source(str(path), str(path), "tree", "", column, day)
    if path.exists():
        status = path.stat()
        if not path.name.endswith((*_LISTS, TAR, PARQUET, *_COMPRESSED)) and folders.why_unread(path):
            raise DataError(
                f"{given} is no image, and no list by its name",
                f"a folder, an image, a list that ends with {' or '.join(_LISTS)}, or a tar or Parquet file",
                "Check the path, or rename the list",
            )
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
        # A web server lists nothing, and its addresses have question marks.
        if not stores.is_web(given) and (wild := _WILD.search(path)):
            root = path[: wild.start()].rpartition("/")[0]
            return Source(given, f"{protocol}://{root}", "tree", _pattern(path[len(root) + 1 :]), column, day)
        try:
            found = system.info(given)
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
    """A pattern of a shell as a regular expression.

    Raises:
        DataError: A range in it is none, such as ``[z-a]``.
    """
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    found = "".join(
        parts.get(part) or (_characters(part[1:-1]) if part.startswith("[") and len(part) > 2 else re.escape(part))
        for part in re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|[^*?\[]+|\[", wild)
    )
    try:
        re.compile(found)
    except re.error as error:
        raise DataError(
            f"the pattern {wild} cannot be used ({error.msg})", "ranges such as [a-z]", "Correct it"
        ) from error
    return found


def _characters(inside: str) -> str:
    """What stands between the brackets of a pattern, as a regular expression."""
    is_not = inside[0] in "!^" and len(inside) > 1
    escaped = re.sub(r"([^\w-])", r"\\\1", inside[1:] if is_not else inside)
    return f"[{'^' if is_not else ''}{escaped}]"


@dataclass(frozen=True)
class Cursor:
    """Where a listing stands: after the image at a position of a file.

    Attributes:
        file: The file, by its name within the root; "" of the source itself, where it is a list.
        position: In a tar, a Parquet file or a list, what only grows; else 0.
    """

    file: str
    position: int


def _untold(name: str, why: str) -> None:
    """What is left out does not matter."""


def entries(source: Source, after: Cursor | None = None, left_out: LeftOut = _untold) -> Iterator[tuple[Entry, Cursor]]:
    """List the images of a source.

    Args:
        source: The source.
        after: Where an earlier listing ended; this one continues there.
        left_out: Called with each file that is left out, before the image that comes next is given.

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
    has_tables = after is not None
    for listed in _files(source, last, left_out):
        begun = after.position if after is not None and listed.name == last else -1
        has_tables = has_tables or listed.name.endswith(PARQUET)
        file = listed
        if listed.name.startswith("/"):
            # The key of an object may begin with a slash; a name with one is a path of this machine.
            file = replace(listed, name=f"{source.root}/{listed.name}")
        is_empty = begun < 0
        for entry, position in _inside(source, file, begun, left_out):
            is_empty = False
            if position > begun:
                yield entry, Cursor(listed.name, position)
        if is_empty:
            left_out(file.name, _EMPTY)
    if not has_tables:
        _check_options(source)


def _inside(source: Source, file: _File, begun: int, left_out: LeftOut) -> Iterator[tuple[Entry, int]]:
    """The images of a file, each with a position that grows; an entry with an error where it cannot be read.

    What is left out before the position ``begun`` is not told again.
    """
    position = -1
    try:
        if file.name.endswith("/"):
            raise _DamagedError(file.name, "a folder that is open to this user", "Check its permissions")
        if file.name.endswith(_COMPRESSED):
            raise _DamagedError(f"{file.name} is compressed", "an uncompressed tar", "Uncompress it, by gunzip for one")
        if file.name.endswith(TAR):
            inside = _members(source, file, begun, left_out)
        elif file.name.endswith(PARQUET):
            inside = _rows(source, file)
        else:
            inside = iter([(Entry(file.name, file.size, file.version), 0)])
        for entry, position in inside:
            yield entry, position
    except (_DamagedError, PermissionError):
        # One of many costs no more than its own images.
        if source.kind != "tree":
            raise
        yield Entry(file.name, file.size, file.version, position=UNREAD), position + 1


def _lines(source: Source, done: int) -> Iterator[tuple[Entry, Cursor]]:
    with stores.of(source.given).open(source.given) as stream:
        # Editors of Windows write a mark of UTF-8 first.
        lines = (
            line.removeprefix(b"\xef\xbb\xbf").strip() if first else line.strip() for first, line in _first(stream)
        )
        for number, line in enumerate(filter(None, lines)):
            if number > done:
                name = os.fsdecode(line)
                _check_library(name)
                yield Entry(name), Cursor("", number)


def _check_library(name: str) -> None:
    """Check that what reads a name is installed: else each image of its kind would have the same error."""
    if stores.is_url(name):
        stores.check_library(name.partition("://")[0])


def check_list(source: Source) -> None:
    """Check that a list on this machine names an address, or a file that is there, before all of it is planned.

    Raises:
        DataError: None of its first lines does: it is another text, or its paths begin elsewhere.
        OSError: It cannot be read.
    """
    if source.kind != "list" or stores.is_url(source.given):
        return
    names = [entry.name for entry, _ in islice(_lines(source, -1), _TRIED)]
    if names and not any(stores.is_url(name) or _exists(locate(source.root, name)) for name in names):
        lines = f"of its first {len(names):,} lines" if len(names) == _TRIED else "of its lines"
        raise DataError(
            f"{source.given} is no list of images: none {lines} is the path of a file (the first is {names[0][:80]!r})",
            "a path or an address in each line; relative paths begin at the folder of the list",
            "Check the file and the paths",
        )


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long, or with a null byte
        return False


def _first(stream: Iterable[bytes]) -> Iterator[tuple[bool, bytes]]:
    return ((number == 0, line) for number, line in enumerate(stream))


def _files(source: Source, last: str, left_out: LeftOut) -> Iterator[_File]:
    """The files of a source from a name on, that name included."""
    if source.kind == "file":
        yield _File(source.given[len(source.root.rstrip("/")) + 1 :], None, source.version)
        return
    match = re.compile(source.match) if source.match else None

    def passed_over(name: str, why: str) -> None:
        # The last name itself was listed, and what comes before it was told.
        if _key(name) > _key(last) and (match is None or match.fullmatch(name)):
            left_out(name, why)

    if stores.is_url(source.root):
        tree = _remote_tree(source.root, last, passed_over)
    else:
        tree = _local_tree(source.root, "", _key(last), passed_over)
    for file in tree:
        if match is None or match.fullmatch(file.name):
            yield file


def _key(name: str) -> bytes:
    return os.fsencode(name)


def _local_tree(root: str, inside: str, last: bytes, left_out: LeftOut) -> Iterator[_File]:
    try:
        with os.scandir(f"{root}/{inside}") as listing:
            found = [
                (_key(f"{inside}{entry.name}") + (b"/" if entry.is_dir(follow_symlinks=False) else b""), entry)
                for entry in listing
            ]
    except PermissionError:
        if not inside:
            raise
        yield _File(inside)
        return
    found.sort(key=lambda each: each[0])
    for key, entry in found:
        name = f"{inside}{entry.name}"
        if folders.is_hidden(entry.name):
            left_out(f"{name}/" if key.endswith(b"/") else name, folders.Why.HIDDEN)
        elif key.endswith(b"/"):
            if key > last or last.startswith(key):
                yield from _local_tree(root, f"{name}/", last, left_out)
        elif folders.is_folder(entry):
            left_out(name, _LINK)
        elif key >= last:
            path = Path(entry.path)
            if not entry.name.endswith((TAR, PARQUET, *_COMPRESSED)) and (why := folders.why_unread(path)):
                left_out(name, why)
                continue
            try:
                status = entry.stat()
            except OSError:  # a link to nothing, which is told when it is read
                yield _File(name)
                continue
            if stat.S_ISREG(status.st_mode):
                yield _File(name, status.st_size, status.st_mtime_ns)
            else:
                left_out(name, folders.Why.SPECIAL)


def _remote_tree(root: str, last: str, left_out: LeftOut) -> Iterator[_File]:
    protocol, _, prefix = root.partition("://")
    system = stores.file_system(protocol)
    system.invalidate_cache()
    listed = _s3_tree(system, prefix, last) if protocol in stores.S3 else _other_tree(system, prefix, "", last)
    try:
        for file in listed:
            if why := _why_unread(file.name):
                left_out(file.name, why)
            else:
                yield file
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


def _why_unread(name: str) -> str:
    """Why a file of a store is not taken for an image, nor for one that holds images; "" where it is. None is read."""
    if _is_hidden(name):
        return folders.Why.HIDDEN
    ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 (a name in a store is no path here)
    is_read = ending in SUFFIXES or ending in (TAR, PARQUET, "") or _UID_PART.fullmatch(ending)
    return "" if is_read or name.endswith(_COMPRESSED) else folders.Why.NO_IMAGE


def _is_hidden(name: str) -> bool:
    """Whether a part of a name is hidden; to a store, a part ``.`` or ``..`` is a name like others."""
    return any(folders.is_hidden(part) for part in name.split("/") if part not in (".", ".."))


def _version(found: Any) -> int | None:
    """What changes with a file of a store."""
    told = found.get("ETag") or found.get("etag") or found.get("mtime") or found.get("LastModified")
    return None if told is None else _hash(str(told))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def _members(source: Source, file: _File, begun: int, left_out: LeftOut) -> Iterator[tuple[Entry, int]]:
    """The images in a tar, by their endings: a shard of WebDataset has other files beside them. Links come last."""
    path = locate(source.root, file.name)
    links: list[tuple[str, str, int]] = []
    try:
        with stores.of(path).open(path) as stream:
            for member in _all_members(stream):
                name = _member_name(member.name)
                ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 (a name in an archive is no path here)
                why = folders.Why.HIDDEN if _is_hidden(name) else folders.Why.NO_IMAGE
                if why is folders.Why.HIDDEN or ending not in SUFFIXES:
                    if member.offset_data > begun and not member.isdir():
                        left_out(f"{file.name}/{name}", why)
                elif member.isreg():
                    position = member.offset_data
                    yield Entry(f"{file.name}/{name}", member.size, file.version, file.name, position), position
                elif member.islnk():
                    links.append((name, _member_name(member.linkname), member.offset))
                elif member.issym():
                    target = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                    links.append((name, _member_name(target), member.offset))
            if links:
                yield from _linked(file, stream, links)
    except tarfile.TarError as error:
        raise _DamagedError(
            f"{path} is not a readable tar ({error})", "an uncompressed tar", "Copy it again"
        ) from error


def _all_members(stream: Any) -> Iterator[tarfile.TarInfo]:
    """The members of a tar, and of those that were appended to it by ``cat``."""
    start: int | None = 0
    while start is not None:
        stream.seek(start)
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                yield member
                # It keeps every member that it has read.
                archive.members.clear()  # type: ignore[attr-defined]
            start = _next_tar(stream, archive.offset)


def _next_tar(stream: Any, end: int) -> int | None:
    """Where the next tar begins after the end of one, which is filled with zeros; None where there is none."""
    stream.seek(end)
    while found := stream.read(_BLOCKS):
        if rest := found.lstrip(b"\0"):
            return int(end + (len(found) - len(rest)) // _BLOCK * _BLOCK)
        end += len(found)
    return None


def _member_name(name: str) -> str:
    """The name of a member within its tar: without what would lead out of it."""
    return "/".join(part for part in name.split("/") if part not in ("", ".", ".."))


def _linked(file: _File, stream: Any, links: list[tuple[str, str, int]]) -> Iterator[tuple[Entry, int]]:
    """The images that links of a tar lead to; only those are looked for, in the memory that they take."""
    leads = {name: target for name, target, _ in links}
    ends = {}
    for name, end in leads.items():
        for _ in range(_MOST_LINKS):
            end = leads.get(end, end)
        ends[name] = end
    wanted = set(ends.values())
    found = {}
    for member in _all_members(stream):
        if member.isreg() and (name := _member_name(member.name)) in wanted:
            found[name] = member.offset_data, member.size
    for name, _, offset in links:
        position, size = found.get(ends[name], (NO_TARGET, None))
        yield Entry(f"{file.name}/{name}", size, file.version, file.name, position), _LINKS + offset


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
            named = columns.of_names(found, column) if is_bytes else ""
            if source.day:
                columns.check_day(path, source.day, found)
            wanted = list(dict.fromkeys(filter(None, ("" if is_bytes else column, named, source.day))))
            folder = file.name.rpartition("/")[0]
            number = 0
            for batch in table.iter_batches(_ROWS, columns=wanted or [], use_threads=False):
                values = {name: columns.values(batch, name) for name in wanted}
                for row in range(batch.num_rows):
                    day = None if not source.day else _day(values[source.day][row])
                    name = values[named or column][row] if named or not is_bytes else None
                    # Without a path, a row has a name and no image.
                    if is_bytes or name is None:
                        name = f"{number:07d}" if name is None else name
                        yield Entry(f"{file.name}/{name}", None, file.version, file.name, number, day), number
                    else:
                        name = name if name.startswith("/") or stores.is_url(name) else stores.join(folder, name)
                        _check_library(name)
                        yield Entry(name, day=day), number
                    number += 1
    except (arrow.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise _DamagedError(
            f"{path} is not a readable Parquet file ({error})", "a Parquet file", "Copy it again"
        ) from error


def _day(value: Any) -> str | None:
    return None if value is None else str(value)[:10]
