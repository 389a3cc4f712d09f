"""TFLite files: the ModelSpec lies in the archive at the end, where TFLite Model Metadata has its associated files."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator

from pneumo_edge.spec.container_type import MAX_SPEC_BYTES, SPEC_NAME, Container

#: The archive begins within so many bytes of the file's end.
_MAX_ARCHIVE_BYTES = 2_000_000
#: The standard library would unpack a spec in bzip2 or LZMA as a whole, at any size.
COMPRESSIONS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_IDENTIFIER, _PLACE = b"TFL3", slice(4, 8)


def _looks_right(content: bytes) -> bool:
    return content[_PLACE] == _IDENTIFIER


def _find_text(content: bytes) -> bytes:
    with open_archive(content) as (archive, _):
        info = archive.getinfo(SPEC_NAME)
        if info.compress_type not in COMPRESSIONS:
            raise ValueError("packed in a way that cannot be unpacked in pieces")
        with archive.open(info) as stream:
            return stream.read(MAX_SPEC_BYTES)


def _hashed_parts(content: memoryview) -> list[memoryview]:
    """All before the archive, or all where there is none."""
    try:
        with open_archive(content) as (archive, start):
            return [content[: start + min(info.header_offset for info in archive.infolist())]]
    except (zipfile.BadZipFile, ValueError):
        return [content]


@contextlib.contextmanager
def open_archive(content: bytes | memoryview) -> Iterator[tuple[zipfile.ZipFile, int]]:
    """Open the archive, and tell from where its offsets count.

    Only the last part of the file is looked at, because all of an archive's directory is read to open it.
    """
    start = max(0, len(content) - _MAX_ARCHIVE_BYTES)
    with zipfile.ZipFile(io.BytesIO(content[start:])) as archive:
        yield archive, start


TFLITE = Container(".tflite", _looks_right, _find_text, _hashed_parts)
