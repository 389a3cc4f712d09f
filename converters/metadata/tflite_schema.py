"""The part of the TFLite Model Metadata schema that an image classifier needs, and how it is written.

A class stands for a table of the schema, its fields in the order of the table's slots, up to the last one that
is used here; what is None is left out. The schema, version 1.5.0, is metadata_schema.fbs of MediaPipe:
https://github.com/google-ai-edge/mediapipe/blob/master/mediapipe/tasks/metadata/metadata_schema.fbs
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from pneumo_edge._util import extras

#: Name of the buffer in a model that holds its metadata.
BUFFER_NAME = "TFLITE_METADATA"
#: No table or field here is younger than the schema's first version.
MIN_PARSER_VERSION = "1.0.0"

_FILE_IDENTIFIER = b"M001"
_WORD = 4


class AssociatedFileType(IntEnum):
    """What an associated file holds."""

    DESCRIPTIONS = 1
    TENSOR_AXIS_LABELS = 2


class ColorSpaceType(IntEnum):
    """The colour space of an image."""

    RGB = 1


class ContentPropertiesType(IntEnum):
    """Which table a ``Content`` holds."""

    FEATURE_PROPERTIES = 1
    IMAGE_PROPERTIES = 2


class ProcessUnitOptionsType(IntEnum):
    """Which table a ``ProcessUnit`` holds."""

    NORMALIZATION_OPTIONS = 1


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the schema."""


@dataclass(frozen=True, kw_only=True)
class AssociatedFile(Table):
    """A file in the archive at the end of the model file."""

    name: str
    description: str
    type: AssociatedFileType


@dataclass(frozen=True, kw_only=True)
class FeatureProperties(Table):
    """Values of no special kind."""


@dataclass(frozen=True, kw_only=True)
class ImageProperties(Table):
    """An image of a fixed size."""

    color_space: ColorSpaceType


@dataclass(frozen=True, kw_only=True)
class Content(Table):
    """What a tensor holds."""

    content_properties_type: ContentPropertiesType
    content_properties: FeatureProperties | ImageProperties


@dataclass(frozen=True, kw_only=True)
class NormalizationOptions(Table):
    """What a client does to each value before the model sees it: ``(value - mean) / std``."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ProcessUnit(Table):
    """What a client does to a tensor outside the graph."""

    options_type: ProcessUnitOptionsType
    options: NormalizationOptions


@dataclass(frozen=True, kw_only=True)
class Stats(Table):
    """The range of a tensor's values, one number for all channels."""

    max: tuple[float, ...]
    min: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class TensorMetadata(Table):
    """An input or output of the model."""

    name: str
    description: str
    dimension_names: tuple[str, ...] | None = None
    content: Content
    process_units: tuple[ProcessUnit, ...] | None = None
    stats: Stats | None = None
    associated_files: tuple[AssociatedFile, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class SubGraphMetadata(Table):
    """The tensors of a subgraph, each in the order of the subgraph's own."""

    name: str | None = None
    description: str | None = None
    input_tensor_metadata: tuple[TensorMetadata, ...]
    output_tensor_metadata: tuple[TensorMetadata, ...]


@dataclass(frozen=True, kw_only=True)
class ModelMetadata(Table):
    """The root."""

    name: str
    description: str
    version: str | None
    subgraph_metadata: tuple[SubGraphMetadata, ...]
    author: str
    license: str
    associated_files: tuple[AssociatedFile, ...]
    min_parser_version: str = MIN_PARSER_VERSION


def pack(metadata: ModelMetadata) -> bytes:
    """Write metadata as the flatbuffer that belongs into the model's buffer :data:`BUFFER_NAME`."""
    builder = extras.need("flatbuffers", "convert").Builder()
    builder.Finish(_table(builder, metadata), _FILE_IDENTIFIER)
    return bytes(builder.Output())


def _table(builder: Any, table: Table) -> int:
    """Write a table after what it refers to, and give its offset."""
    values = [getattr(table, field.name) for field in dataclasses.fields(table)]
    offsets = [0 if value is None or isinstance(value, IntEnum) else _object(builder, value) for value in values]
    builder.StartObject(len(values))
    for slot, (value, offset) in enumerate(zip(values, offsets, strict=True)):
        if isinstance(value, IntEnum):
            builder.PrependUint8Slot(slot, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return int(builder.EndObject())


def _object(builder: Any, value: str | Table | tuple[Any, ...]) -> int:
    """Write what a slot refers to, and give its offset."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, Table):
        return _table(builder, value)
    numbers = isinstance(value[0], float)
    elements = value if numbers else [_object(builder, element) for element in value]
    prepend = builder.PrependFloat32 if numbers else builder.PrependUOffsetTRelative
    builder.StartVector(_WORD, len(elements), _WORD)
    for element in reversed(elements):
        prepend(element)
    return int(builder.EndVector())
