"""Reads a file of results of any kind: its schema first, then every field."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

from pneumo_edge._util import records
from pneumo_edge._util.records import Record
from pneumo_edge.errors import ResultsError

#: The largest document that is read, unpacked; that of 28 units has a sixtieth of it.
MAX_BYTES = 2**30


@dataclass(frozen=True)
class _Header:
    schema_version: int


def read_record(
    record: type[Record], path: Path, schema_version: int, what: str, verb: str, *, oldest: int = 1
) -> Record:
    """Read a file of raw results of any kind.

    Args:
        record: The dataclass that it holds, with a field ``schema_version``.
        path: The file; one that ends in ``.gz`` is unpacked.
        schema_version: The newest schema that can be read.
        what: What it holds, for people.
        verb: The verb of the command line that writes it.
        oldest: The oldest schema that can be read.

    Raises:
        ResultsError: The file is missing, damaged, of a newer or too old a schema, or contradicts itself.
    """
    expected = f"{what} of schema {schema_version}, as `pneumo-edge {verb}` writes them"
    try:
        text = _read_bytes(path)
        found = records.loads(_Header, text).schema_version
        if found > schema_version:
            raise ResultsError(f"{path} has schema {found}", expected, "Install a newer pneumo-edge to read it")
        if found < oldest:
            remedy = f"Measure again with `pneumo-edge {verb}`"
            raise ResultsError(f"{path} has schema {found}, which is too old", expected, remedy)
        return records.loads(record, text)
    except _TooLargeError as error:
        raise ResultsError(f"{path} has more than {MAX_BYTES:,} bytes", expected, "Give a results file") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ResultsError(f"{path} is not a complete gzip file ({error})", expected, "Copy it again") from error
    except OSError as error:
        raise ResultsError(f"{path} cannot be read ({error.strerror})", expected, "Check the path") from error
    except records.RecordError as error:
        raise ResultsError(f"{path} is not valid: {error}", expected, "Copy it again, or measure again") from error


class _TooLargeError(Exception):
    """A document of more than :data:`MAX_BYTES`."""


def _read_bytes(path: Path) -> bytes:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise _TooLargeError
    return content
