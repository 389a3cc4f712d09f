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
    """The columns of a schema, those of structs by their dotted names.

    Each is ``"bytes"``, ``"text"``, ``"day"`` (a date or time), ``"several"`` (two have that name) or ``"other"``. Of a
    column that is encoded by a dictionary, that is what the dictionary holds.
    """
    arrow = extras.need("pyarrow", "parquet")
    found: dict[str, str] = {}
    for field in schema:
        parts = [(f"{field.name}.{inner.name}", inner.type) for inner in field.type] if _is_struct(field) else []
        for name, kind in parts or [(field.name, field.type)]:
            types = arrow.types
            kind = kind.value_type if types.is_dictionary(kind) else kind
            is_bytes = types.is_binary(kind) or types.is_large_binary(kind)
            is_text = types.is_string(kind) or types.is_large_string(kind)
            is_day = types.is_date(kind) or types.is_timestamp(kind)
            found[name] = (
                "several"
                if name in found
                else "bytes"
                if is_bytes
                else "text"
                if is_text
                else "day"
                if is_day
                else "other"
            )
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
        _check_one(path, column, columns)
        if columns.get(column) not in ("bytes", "text"):
            raise _unfit(path, given, columns)
        return column
    of_bytes = [name for name, kind in columns.items() if kind == "bytes"]
    of_text = [name for name, kind in columns.items() if kind == "text"]
    for known, found in ((_BYTES, of_bytes), (_PATHS, of_text)):
        for name in known:
            _check_one(path, name, columns)
        if column := next((name for name in known if name in found), ""):
            return column
    if len(of_bytes) == 1:
        return of_bytes[0]
    raise DataError(
        f"{path} has no column that is known to hold images (it has {', '.join(columns) or 'none'})",
        "a column of image files or of their paths",
        "Name it with --column",
    )


def of_names(columns: Mapping[str, str], images: str) -> str:
    """The column that names the rows, or that has the paths beside the images; "" where there is none."""
    names = (*_NAMES, beside(columns, images))
    return next((name for name in names if columns.get(name) == "text"), "")


def beside(columns: Mapping[str, str], images: str) -> str:
    """The column with paths in a struct of ``bytes`` and ``path``; "" where there is none."""
    path = f"{images.removesuffix('.bytes')}.path"
    return path if images.endswith(".bytes") and columns.get(path) == "text" else ""


def values(batch: Any, column: str) -> list[Any]:
    """The values of a column of a batch, also of one in a struct."""
    index = batch.schema.get_field_index(column)
    if index >= 0:
        return list(batch.column(index).to_pylist())
    outer, _, inner = column.partition(".")
    found = batch.column(batch.schema.get_field_index(outer)).to_pylist()
    return [None if each is None else each.get(inner) for each in found]


def check_day(path: str, given: str, columns: Mapping[str, str]) -> None:
    """Check that a column can give days.

    Raises:
        DataError: There is none of that name, or it holds neither text nor dates nor times.
    """
    if columns.get(given) not in ("text", "day"):
        raise _unfit(path, given, columns)


def _check_one(path: str, name: str, columns: Mapping[str, str]) -> None:
    if columns.get(name) == "several":
        raise DataError(f"{path} has two columns named {name!r}", "columns with names of their own", "Rename one")


def _unfit(path: str, given: str, columns: Mapping[str, str]) -> DataError:
    # What it holds is told where there is such a column.
    held = {"day": "dates or times", "other": "values of another kind", "bytes": "bytes", "several": "two columns"}
    what = f" (it holds {held.get(columns[given], columns[given])})" if given in columns else ""
    others = [name for name in columns if name != given]
    return DataError(
        f"{path} has no fitting column {given!r}{what}", f"one of {', '.join(others) or 'none'}", "Name another"
    )
