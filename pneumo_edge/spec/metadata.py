"""Reads what any tool wrote into a model file about it, with the standard library: labels, names, properties.

TFLite Model Metadata: https://ai.google.dev/edge/litert/models/metadata. ONNX: ``ModelProto`` in onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pneumo_edge._util import flatbuffer, protobuf
from pneumo_edge.spec import tflite
from pneumo_edge.spec.container_type import SPEC_NAME
from pneumo_edge.spec.containers import suffix_of
from pneumo_edge.spec.onnx import ONNX
from pneumo_edge.spec.reading import read_content

#: Slots in schema.fbs (Model, Metadata, Buffer) and metadata_schema.fbs (ModelMetadata).
_MODEL_DESCRIPTION, _MODEL_BUFFERS, _MODEL_METADATA = 3, 4, 6
_METADATA_NAME, _METADATA_BUFFER, _BUFFER_DATA = 0, 1, 0
_TEXTS = {"name": 0, "description": 1, "version": 2, "author": 4, "licence": 5}
#: Name of the buffer that holds TFLite Model Metadata.
_MODEL_METADATA_BUFFER = "TFLITE_METADATA"
#: Numbers of fields in onnx.proto's ModelProto, and of an entry of ``metadata_props``.
_PRODUCER_NAME, _PRODUCER_VERSION, _DOMAIN, _DOC, _PROPERTIES = 2, 3, 4, 6, 14
_KEY, _VALUE = 1, 2
#: More of one text is not read.
_MAX_TEXT = 10_000


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a model file, by the names that its writer gave.

    Args:
        path: A ``.tflite`` or ``.onnx`` file from any tool. The ModelSpec of pneumo-edge is not among the texts.

    Returns:
        Texts by name; those of files packed into a TFLite file, such as labels, by the name of the file. A part that
        cannot be read is left out. Empty where there is nothing.

    Raises:
        ModelFileError: The file is missing, not a model file, or cannot be read.
    """
    content = read_content(path)
    find = _of_onnx if suffix_of(path) == ONNX.suffix else _of_tflite
    found: dict[str, str] = {}
    try:
        for name, text in find(content):
            if text and name != SPEC_NAME:
                found[name] = text[:_MAX_TEXT]
    except ValueError:  # a damaged part: what was read before it stays
        pass
    return found


def _of_onnx(content: bytes) -> Iterator[tuple[str, str]]:
    model = memoryview(content)
    titles = {_PRODUCER_NAME: "producer", _PRODUCER_VERSION: "producer version", _DOMAIN: "domain", _DOC: "description"}
    for field in protobuf.fields(model):
        if field.value is None:
            continue
        if field.number in titles:
            yield titles[field.number], _text(field.value)
        elif field.number == _PROPERTIES:
            entry = {each.number: each.value for each in protobuf.fields(field.value) if each.value is not None}
            yield _text(entry.get(_KEY, b"")), _text(entry.get(_VALUE, b""))


def _of_tflite(content: bytes) -> Iterator[tuple[str, str]]:
    yield from _associated_files(content)
    model = flatbuffer.Table.root(memoryview(content))
    # Converters write the same words into every file.
    yield "made by", model.string(_MODEL_DESCRIPTION)
    buffers = list(model.tables(_MODEL_BUFFERS))
    for entry in model.tables(_MODEL_METADATA):
        index = entry.unsigned(_METADATA_BUFFER)
        data = buffers[index].bytes(_BUFFER_DATA) if index < len(buffers) else None
        if entry.string(_METADATA_NAME) == _MODEL_METADATA_BUFFER and data is not None:
            metadata = flatbuffer.Table.root(data)
            yield from ((name, metadata.string(slot)) for name, slot in _TEXTS.items())


def _associated_files(content: bytes) -> Iterator[tuple[str, str]]:
    try:
        with tflite.open_archive(content) as (archive, _):
            for info in archive.infolist():
                if info.filename != SPEC_NAME and info.compress_type in tflite.COMPRESSIONS:
                    with archive.open(info) as stream:
                        yield info.filename, _text(stream.read(_MAX_TEXT))
    except Exception:  # most files have no archive; zipfile promises no common base class for a broken one
        return


def _text(value: memoryview | bytes) -> str:
    return bytes(value[:_MAX_TEXT]).decode("utf-8", "replace").strip()
