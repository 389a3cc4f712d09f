"""Frozen dataclasses to JSON and back, checked field by field, with the standard library alone.

The ModelSpec, the training record and the benchmark results all pass through here, so a file that
was edited by hand or cut short is refused with the name of the field that is wrong. What a field may hold is said
where the field is: by its type, by a :class:`Within` in its annotation, and in the dataclass's ``__post_init__`` for
what several fields must agree on.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import json
import math
import re
import sys
import types
import typing
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

Record = TypeVar("Record")


@dataclass(frozen=True)
class Within:
    """In the annotation of a field: a number that is read lies within these, ``low`` and ``high`` included.

    Attributes:
        low: The least.
        high: The greatest.
        above: The number is greater than this.
        below: The number is less than this.
    """

    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def holds(self, value: float) -> bool:
        """Whether a number lies within."""
        # Compared as they are: a whole number of any size is no float.
        return bool(self.low <= value <= self.high and self.above < value < self.below)

    def __str__(self) -> str:
        if math.isfinite(self.low) and math.isfinite(self.high):
            return f"within {self.low:g} to {self.high:g}"
        ends = (("at least", self.low), ("above", self.above), ("at most", self.high), ("below", self.below))
        return " and ".join(f"{what} {end:g}" for what, end in ends if math.isfinite(end))


@dataclass(frozen=True)
class _Unicode:
    """In the annotation of a field: text that can be written for others, see :func:`encodable`."""

    def holds(self, value: str) -> bool:
        return encodable(value) == value

    def __str__(self) -> str:
        return "text of whole Unicode characters"


#: Text that goes into what is written for others.
Text = Annotated[str, _Unicode()]
#: A probability, or any other part of a whole.
Share = Annotated[float, Within(0, 1)]
#: A number of things, and one of at least one.
Count = Annotated[int, Within(0)]
AtLeastOne = Annotated[int, Within(1)]

#: A larger whole number counts nothing, and numpy does not take it.
_WHOLE = Within(-(2**63), 2**63 - 1)
#: The most characters of a field's place and of its value that a message quotes.
_MOST_PLACE, _MOST_VALUE = 200, 60
_SURROGATE = re.compile("[\ud800-\udfff]")
#: Is in JSON text that has a surrogate alone, and in other such text: with characters that are written as two.
_ESCAPED_SURROGATE = re.compile(r"\\ud[89a-f]")
_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", types.NoneType: "null"}


class RecordError(ValueError):
    """A JSON document that does not have the shape of its record; the message names the field."""


def dumps(record: Any, *, indent: int | None = 2) -> str:
    """Write a dataclass instance as JSON text with a final newline.

    The text is ASCII, so that a path that is not UTF-8 survives in it on its way between processes of ours. Strict
    parsers refuse such a string: what others read is written by :func:`document`.

    Raises:
        ValueError: A number in it is not finite, which JSON cannot say.
    """
    return json.dumps(dataclasses.asdict(record), indent=indent, allow_nan=False) + "\n"


def document(record: Any, *, indent: int | None = 2) -> str:
    """The same for a file that others read, too: every string in it is :func:`encodable`.

    Raises:
        ValueError: A number in it is not finite, which JSON cannot say.
    """
    text = dumps(record, indent=indent)
    if not _ESCAPED_SURROGATE.search(text):
        return text
    return json.dumps(_encodable(dataclasses.asdict(record)), indent=indent, allow_nan=False) + "\n"


def encodable(text: str) -> str:
    r"""Text that every reader of UTF-8 takes, as names must be in what is written for others.

    A byte of a file name that is not UTF-8, which Python holds as a lone surrogate, becomes six characters: the file
    ``b"caf\xe9.png"`` is called ``caf\udce9.png``. All other text stays as it is.
    """
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for name, item in value.items():
            name = encodable(name)
            # Of two names that are written alike, both stay.
            while name in found:
                name += "'"
            found[name] = _encodable(item)
        return found
    return list(map(_encodable, value)) if isinstance(value, (list, tuple)) else value


def loads(cls: type[Record], text: str | bytes) -> Record:
    """Read a dataclass instance from JSON text.

    Unknown fields are ignored, so that a file of a later minor version can still be read.

    Raises:
        RecordError: The text is not JSON, or a field is missing or of the wrong type.
    """
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise RecordError("not valid JSON (it is nested too deep)") from error
    except ValueError as error:
        raise RecordError(f"not valid JSON ({error})") from error
    try:
        return typing.cast(Record, _read(cls, document, ""))
    except RecursionError as error:  # only just readable, and too deep to be quoted
        raise RecordError("a value that is nested too deep") from error


def schema(kind: Any, without: Collection[str] = (), *, earlier: bool = False) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what :func:`dumps` writes of a dataclass, or of the type of one of its fields.

    Args:
        kind: A dataclass, of which the docstring is the description; or a type that a field may have.
        without: Fields of it that are left out.
        earlier: Whether what was written before there were fields with a default fits, too.
    """
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        described = [field for field in dataclasses.fields(kind) if field.name not in without]
        return {
            "type": "object",
            "description": inspect.cleandoc(kind.__doc__ or ""),
            "properties": {field.name: schema(hints[field.name], earlier=earlier) for field in described},
            "required": [field.name for field in described if not (earlier and _has_default(field))],
            "additionalProperties": False,
        }
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [schema(argument, earlier=earlier) for argument in arguments]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": schema(arguments[0], earlier=earlier)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": schema(arguments[1], earlier=earlier)}
    if isinstance(kind, type) and issubclass(kind, enum.StrEnum):
        return {"enum": list(map(str, kind))}
    return {"type": _JSON_TYPES[kind]}


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, each of whose names stands in it once: of two, readers do not agree which counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, number in Counter(name for name, _ in pairs).items() if number > 1)
        raise RecordError(f"the field {twice[:_MOST_PLACE]} occurs twice in one object")
    return found


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _read(kind: Any, value: Any, where: str) -> Any:
    if typing.get_origin(kind) is Annotated:
        kind, *bounds = typing.get_args(kind)
        found = _read(kind, value, where)
        for within in bounds:
            if not within.holds(found):
                _refuse(where, str(within), value)
        return found
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
    if kind is int and type(value) is int and not _WHOLE.holds(value):
        _refuse(where, "a whole number of at most 64 bits", value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    return _refuse(where, getattr(kind, "__name__", str(kind)), value)


def _read_dataclass(cls: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        _refuse(where or "the document", "an object", value)
    hints = _hints(cls)
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
        raise RecordError(f"{where[:_MOST_PLACE] or cls.__name__}: {error}") from error


def _refuse(where: str, expected: str, value: Any) -> typing.NoReturn:
    shown = json.dumps(value, default=str)
    raise RecordError(f"{where[:_MOST_PLACE]} is {shown[:_MOST_VALUE]}, not {expected}")
