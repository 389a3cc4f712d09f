"""The wire format of protobuf, as far as an ONNX file has to be read without onnx or an engine.

As in https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

#: Wire types, and the bytes of those that have a fixed number.
_VARINT, _BYTES = 0, 2
_FIXED_SIZES = {1: 8, 5: 4}
_MAX_VARINT_BYTES = 10


@dataclass(frozen=True)
class Field:
    """A field of a message: its number, its bytes with the key in front, and its value where that is bytes."""

    number: int
    whole: memoryview
    value: memoryview | None


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message, in the order of the file.

    Raises:
        ValueError: The message is cut short, or is none.
    """
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        kind, value = key & 7, None
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _BYTES:
            size, at = _varint(message, at)
            value = message[at : at + size]
            at += size
        elif kind in _FIXED_SIZES:
            at += _FIXED_SIZES[kind]
        else:
            raise ValueError(f"a field of the wire type {kind}")
        if at > len(message):
            raise ValueError("a field that extends beyond the end")
        yield Field(key >> 3, message[start:at], value)


def values(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The values of the fields of one number that are bytes: strings, or messages of their own.

    Raises:
        ValueError: As :func:`fields`.
    """
    return (field.value for field in fields(message) if field.number == wanted and field.value is not None)


def field(number: int, value: bytes) -> bytes:
    """The bytes of a field that holds bytes."""
    return _to_varint(number << 3 | _BYTES) + _to_varint(len(value)) + value


def _to_varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The integer of variable length at an offset, and the offset behind it."""
    value = 0
    for shift, byte in enumerate(message[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at + shift + 1
    raise ValueError("an integer without an end")
