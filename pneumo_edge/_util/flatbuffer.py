"""The wire format of FlatBuffers, as far as a TFLite file has to be read without an engine.

As in https://flatbuffers.dev/internals/.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_WORD = 4


@dataclass(frozen=True)
class Table:
    """A table of a buffer; a field is named by the number of its slot in the schema.

    Every method raises ValueError where the buffer is cut short or is none.
    """

    content: memoryview
    at: int

    @classmethod
    def root(cls, content: memoryview) -> Table:
        """The table that a buffer begins with."""
        return cls(content, _unsigned(content, 0))

    def string(self, slot: int) -> str:
        """A string field; "" where it is absent."""
        vector = self.bytes(slot)
        return "" if vector is None else bytes(vector).decode("utf-8", "replace")

    def bytes(self, slot: int) -> memoryview | None:
        """A field that is a vector of bytes, or None where it is absent."""
        at = self._field(slot)
        if at is None:
            return None
        start = at + _unsigned(self.content, at)
        size = _unsigned(self.content, start)
        return _slice(self.content, start + _WORD, size)

    def tables(self, slot: int) -> Iterator[Table]:
        """A field that is a vector of tables; nothing where it is absent."""
        at = self._field(slot)
        if at is None:
            return
        start = at + _unsigned(self.content, at)
        for index in range(_unsigned(self.content, start)):
            entry = start + _WORD * (index + 1)
            yield Table(self.content, entry + _unsigned(self.content, entry))

    def unsigned(self, slot: int) -> int:
        """A field of type uint; 0, the default, where it is absent."""
        at = self._field(slot)
        return 0 if at is None else _unsigned(self.content, at)

    def byte(self, slot: int) -> int:
        """A field of type ubyte; 0, the default, where it is absent."""
        at = self._field(slot)
        return 0 if at is None else _slice(self.content, at, 1)[0]

    def integers(self, slot: int) -> tuple[int, ...]:
        """A field that is a vector of int; nothing where it is absent."""
        at = self._field(slot)
        if at is None:
            return ()
        start = at + _unsigned(self.content, at)
        count = _unsigned(self.content, start)
        return struct.unpack(f"<{count}i", _slice(self.content, start + _WORD, _WORD * count))

    def _field(self, slot: int) -> int | None:
        """Where a field is."""
        (back,) = struct.unpack("<i", _slice(self.content, self.at, _WORD))
        table = self.at - back
        (size,) = struct.unpack("<H", _slice(self.content, table, 2))
        place = _WORD + 2 * slot
        if place + 2 > size:
            return None
        (offset,) = struct.unpack("<H", _slice(self.content, table + place, 2))
        return self.at + offset if offset else None


def _unsigned(content: memoryview, at: int) -> int:
    value: int = struct.unpack("<I", _slice(content, at, _WORD))[0]
    return value


def _slice(content: memoryview, at: int, size: int) -> memoryview:
    if at < 0 or at + size > len(content):
        raise ValueError("an offset beyond the end")
    return content[at : at + size]
