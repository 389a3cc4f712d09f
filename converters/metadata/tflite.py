"""TFLite files: tensors' names, TFLite Model Metadata, and the archive at the end with ModelSpec and labels."""

from __future__ import annotations

import functools
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pneumo_edge._util import extras, records
from pneumo_edge.converters import keras_model
from pneumo_edge.converters.metadata import descriptions
from pneumo_edge.converters.metadata import tflite_schema as tfl
from pneumo_edge.converters.metadata.descriptions import MAKER, Output
from pneumo_edge.spec import SPEC_NAME, TFLITE, ModelSpec, model_sha256

#: A fixed date keeps the same model the same file, byte for byte.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_TFLITE_IDENTIFIER = b"TFL3"
#: Where a buffer's data must start: the engines map weights into memory and read them in place.
_BUFFER_ALIGNMENT = 16
_LICENCE = "Apache-2.0"


def write(model: Path, target: Path, spec: ModelSpec) -> ModelSpec:
    """See :func:`pneumo_edge.converters.metadata.write_spec`."""
    content = _with_metadata(model.read_bytes(), spec)
    spec = replace(spec, model_sha256=model_sha256(content, TFLITE.suffix))
    target.write_bytes(content)
    with zipfile.ZipFile(target, "a", zipfile.ZIP_STORED) as archive:
        for output in descriptions.outputs(spec):
            archive.writestr(zipfile.ZipInfo(output.labels_name, _ZIP_DATE), "\n".join(output.labels) + "\n")
        archive.writestr(zipfile.ZipInfo(SPEC_NAME, _ZIP_DATE), records.dumps(spec))
    return spec


def name_tensors(content: bytes) -> bytes:
    """Make a TFLite flatbuffer again whose input and outputs have the names of its signature, ``probability`` first.

    Converters give tensors names of their own, in an order of their own, and only keep the signature's.
    """
    schema = extras.need("ai_edge_litert.schema_py_generated", "convert")
    model = schema.ModelT.InitFromPackedBuf(content)
    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    signature.outputs.sort(key=lambda entry: keras_model.OUTPUTS.index(entry.name.decode()))
    for entry in (*signature.inputs, *signature.outputs):
        graph.tensors[entry.tensorIndex].name = entry.name
    graph.outputs = [entry.tensorIndex for entry in signature.outputs]
    return _packed(schema, model, [_data(buffer, content) for buffer in model.buffers])


def _with_metadata(content: bytes, spec: ModelSpec) -> bytes:
    """Make a TFLite flatbuffer again with TFLite Model Metadata."""
    schema = extras.need("ai_edge_litert.schema_py_generated", "convert")
    model = schema.ModelT.InitFromPackedBuf(content)
    buffers = [_data(buffer, content) for buffer in model.buffers]
    packed = tfl.pack(_tflite_metadata(spec))
    entries = [entry for entry in model.metadata or [] if entry.name.decode() == tfl.BUFFER_NAME]
    if entries:
        buffers[entries[0].buffer] = packed
    else:
        model.metadata = [*(model.metadata or []), schema.MetadataT(tfl.BUFFER_NAME, len(buffers))]
        buffers.append(packed)
    return _packed(schema, model, buffers)


def _packed(schema: Any, model: Any, buffers: list[bytes]) -> bytes:
    """Write a model with these buffers in place of its own."""
    model.buffers = [SimpleNamespace(Pack=functools.partial(_pack_buffer, schema, data)) for data in buffers]
    builder = extras.need("flatbuffers", "convert").Builder(sum(map(len, buffers)))
    builder.Finish(model.Pack(builder), _TFLITE_IDENTIFIER)
    return bytes(builder.Output())


def _data(buffer: Any, content: bytes) -> bytes:
    # Some converters put data behind the flatbuffer. It comes into it, because its offset counts from the
    # start of the file, and what lies before it changes its length.
    if buffer.offset > 1:
        return content[buffer.offset : buffer.offset + buffer.size]
    return b"" if buffer.data is None else bytes(buffer.data)


def _pack_buffer(schema: Any, data: bytes, builder: Any) -> int:
    """Write a buffer as the generated ``BufferT`` does, but aligned as the schema asks."""
    if data:
        builder.Prep(_BUFFER_ALIGNMENT, len(data))
        vector = builder.CreateByteVector(data)
    schema.BufferStart(builder)
    if data:
        schema.BufferAddData(builder, vector)
    return int(schema.BufferEnd(builder))


def _tflite_metadata(spec: ModelSpec) -> tfl.ModelMetadata:
    image = tfl.TensorMetadata(
        name=spec.input.name,
        description=descriptions.image(spec),
        content=tfl.Content(
            content_properties_type=tfl.ContentPropertiesType.IMAGE_PROPERTIES,
            content_properties=tfl.ImageProperties(color_space=tfl.ColorSpaceType.RGB),
        ),
        process_units=(
            tfl.ProcessUnit(
                options_type=tfl.ProcessUnitOptionsType.NORMALIZATION_OPTIONS,
                options=tfl.NormalizationOptions(mean=(0.0,), std=(1.0,)),
            ),
        ),
        stats=tfl.Stats(max=(float(spec.input.maximum),), min=(float(spec.input.minimum),)),
    )
    outputs = tuple(_output_metadata(output) for output in descriptions.outputs(spec))
    graph = tfl.SubGraphMetadata(input_tensor_metadata=(image,), output_tensor_metadata=outputs)
    return tfl.ModelMetadata(
        name=spec.name,
        description=descriptions.model(spec),
        version=spec.versions.get(MAKER),
        subgraph_metadata=(graph,),
        author=MAKER,
        license=f"{_LICENCE}; training data: {spec.data.licence}",
        associated_files=(
            tfl.AssociatedFile(
                name=SPEC_NAME,
                description="The ModelSpec of pneumo-edge",
                type=tfl.AssociatedFileType.DESCRIPTIONS,
            ),
        ),
    )


def _output_metadata(output: Output) -> tfl.TensorMetadata:
    labels = tfl.AssociatedFile(
        name=output.labels_name,
        description="Class names in the order of the output",
        type=tfl.AssociatedFileType.TENSOR_AXIS_LABELS,
    )
    return tfl.TensorMetadata(
        name=output.name,
        description=output.description,
        content=tfl.Content(
            content_properties_type=tfl.ContentPropertiesType.FEATURE_PROPERTIES,
            content_properties=tfl.FeatureProperties(),
        ),
        stats=tfl.Stats(max=(output.span[1],), min=(output.span[0],)) if output.span else None,
        associated_files=(labels,),
    )
