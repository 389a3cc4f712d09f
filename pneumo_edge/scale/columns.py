"""Columns of a Parquet file that holds images, or their paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pneumo_edge._util import extras
from pneumo_edge.errors import DataError

#: Columns that name the rows, the first that there is.
_NAMES = ("name", "path", "file_name", "filename", "key", "__key__", "id")
#: Columns that hold images, or their paths, the first that there is; where there are none, the only one of bytes.
_BYTES, _PATHS = ("bytes", "image", "image.bytes", "content", "data"), ("path", "file_name", "filename", "url", "name")


def kinds(schema: Any) -> dict[str, str]:
    """The columns of a schema, those of structs by their dotted names: ``"bytes"``, ``"text"`` or ``"other"``."""
    arrow = extras.need("pyarrow", "parquet")
    found = {}
    for field in schema:
        parts = [(f"{field.name}.{inner.name}", inner.type) for inner in field.type] if _is_struct(field) else []
        for name, kind in parts or [(field.name, field.type)]:
            types = arrow.types
            is_bytes = types.is_binary(kind) or types.is_large_binary(kind)
            is_text = types.is_string(kind) or types.is_large_string(kind)
            found[name] = "bytes" if is_bytes else "text" if is_text else "other"
    return found


def _is_struct(field: Any) -> bool:
    return bool(extras.need("pyarrow", "parquet").types.is_struct(field.type))


def of_images(path: str, columns: Mapping[str, str], given: str) -> str:
    """The column with the images or their paths.

    Raises:
        DataError: There is none, or not just one.
    """
    if given:
        column = f"{given}.bytes" if f"{given}.bytes" in columns else given
        if columns.get(column) not in ("bytes", "text"):
            raise _unfit(path, given, columns)
        return column
    of_bytes = [name for name, kind in columns.items() if kind == "bytes"]
    of_text = [name for name, kind in columns.items() if kind == "text"]
    for known, found in ((_BYTES, of_bytes), (_PATHS, of_text)):
        if column := next((name for name in known if name in found), ""):
            return column
    if len(of_bytes) == 1:
        return of_bytes[0]
    raise DataError(
        f"{path} has no column that is known to hold images (it has {', '.join(columns) or 'none'})",
        "a column of image files or of their paths",
        "Name it with --column",
    )


def of_names(columns: Mapping[str, str]) -> str:
    """The column that names the rows; "" where there is none."""
    return next((name for name in _NAMES if columns.get(name) == "text"), "")


def check(path: str, given: str, columns: Mapping[str, str]) -> None:
    """Check that there is a column.

    Raises:
        DataError: There is none of that name.
    """
    if given not in columns:
        raise _unfit(path, given, columns)


def _unfit(path: str, given: str, columns: Mapping[str, str]) -> DataError:
    return DataError(
        f"{path} has no fitting column {given!r}", f"one of {', '.join(columns) or 'none'}", "Name another"
    )
