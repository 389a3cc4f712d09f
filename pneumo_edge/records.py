"""Frozen dataclasses to JSON and back, checked field by field, with the standard library alone.

The ModelSpec, the training record and the benchmark results all pass through here, so a file that
was edited by hand or cut short is refused with the name of the field that is wrong.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import sys
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

Record = TypeVar("Record")
_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", types.NoneType: "null"}


class RecordError(ValueError):
    """A JSON document that does not have the shape of its record; the message names the field."""


def dumps(record: Any, *, indent: int | None = 2) -> str:
    """Write a dataclass instance as JSON text with a final newline.

    The text is ASCII, so that a file name that is not UTF-8 survives in it.

    Raises:
        ValueError: A number in it is not finite, which JSON cannot say.
    """
    return json.dumps(dataclasses.asdict(record), indent=indent, allow_nan=False) + "\n"


def loads(cls: type[Record], text: str | bytes) -> Record:
    """Read a dataclass instance from JSON text.

    Unknown fields are ignored, so that a file of a later minor version can still be read.

    Raises:
        RecordError: The text is not JSON, or a field is missing or of the wrong type.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not valid JSON ({error})") from error
    try:
        return typing.cast(Record, _read(cls, document, ""))
    except RecursionError as error:  # only just readable, and too deep to be quoted
        raise RecordError("a value that is nested too deep") from error


def schema(kind: Any, without: Collection[str] = ()) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what :func:`dumps` writes of a dataclass, or of the type of one of its fields.

    Args:
        kind: A dataclass, of which the docstring is the description; or a type that a field may have.
        without: Fields of it that are left out.
    """
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind) if field.name not in without]
        return {
            "type": "object",
            "description": inspect.cleandoc(kind.__doc__ or ""),
            "properties": {name: schema(hints[name]) for name in names},
            "required": names,
            "additionalProperties": False,
        }
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [schema(argument) for argument in arguments]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": schema(arguments[0])}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": schema(arguments[1])}
    if isinstance(kind, type) and issubclass(kind, enum.StrEnum):
        return {"enum": list(map(str, kind))}
    return {"type": _JSON_TYPES[kind]}


def _read(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _read_dataclass(kind, value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _read(arguments[0], value, where)
    if origin is typing.Literal:
        known = any(value == argument and type(value) is type(argument) for argument in arguments)
        return value if known else _refuse(where, " or ".join(map(repr, arguments)), value)
    if origin is tuple:
        if not isinstance(value, list):
            _refuse(where, "a list", value)
        return tuple(_read(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            _refuse(where, "an object", value)
        return {key: _read(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and type(value) in (int, float):
        # An integer may be too large for a float, and NaN compares as false.
        return float(value) if abs(value) <= sys.float_info.max else _refuse(where, "a finite number", value)
    if isinstance(kind, type) and issubclass(kind, enum.StrEnum):
        return kind(value) if value in list(kind) else _refuse(where, " or ".join(map(repr, map(str, kind))), value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    return _refuse(where, getattr(kind, "__name__", str(kind)), value)


def _read_dataclass(cls: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        _refuse(where or "the document", "an object", value)
    hints = typing.get_type_hints(cls)
    arguments = {}
    for field in dataclasses.fields(cls):
        path = f"{where}.{field.name}" if where else field.name
        if field.name in value:
            arguments[field.name] = _read(hints[field.name], value[field.name], path)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise RecordError(f"the field {path} is missing")
    try:
        return cls(**arguments)
    except ValueError as error:
        raise RecordError(f"{where or cls.__name__}: {error}") from error


def _refuse(where: str, expected: str, value: Any) -> typing.NoReturn:
    shown = json.dumps(value, default=str)
    raise RecordError(f"{where} is {shown[:60]}, not {expected}")
