"""ONNX files: the ModelSpec is a property of the ``ModelProto``. They are read without the library onnx."""

from __future__ import annotations

from collections.abc import Iterator

from pneumo_edge._util import protobuf
from pneumo_edge.spec.container_type import MAX_SPEC_BYTES, SPEC_NAME, Container

#: Numbers of these fields in onnx.proto's ModelProto and StringStringEntryProto.
_METADATA_PROPS, _ENTRY_KEY, _ENTRY_VALUE = 14, 1, 2


def _looks_right(content: bytes) -> bool:
    # A protobuf message begins with no mark of its own.
    return True


def _find_text(content: bytes) -> bytes | None:
    found = None
    for entry in protobuf.values(memoryview(content), _METADATA_PROPS):
        (key,), (value,) = (tuple(protobuf.values(entry, number)) for number in (_ENTRY_KEY, _ENTRY_VALUE))
        if key == SPEC_NAME.encode():
            found = bytes(value[:MAX_SPEC_BYTES])
    return found


def _hashed_parts(content: memoryview) -> Iterator[memoryview]:
    """All fields of the ``ModelProto`` but ``metadata_props``."""
    return (field.whole for field in protobuf.fields(content) if field.number != _METADATA_PROPS)


def property_field(name: str, value: bytes) -> bytes:
    """The bytes that, behind those of a ``ModelProto``, add an entry to its ``metadata_props``."""
    entry = protobuf.field(_ENTRY_KEY, name.encode()) + protobuf.field(_ENTRY_VALUE, value)
    return protobuf.field(_METADATA_PROPS, entry)


ONNX = Container(".onnx", _looks_right, _find_text, _hashed_parts)
