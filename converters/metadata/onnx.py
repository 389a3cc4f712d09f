"""ONNX files: descriptions in the ``ModelProto``, and the ModelSpec among its properties."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pneumo_edge._util import extras, records
from pneumo_edge.converters.metadata import descriptions
from pneumo_edge.converters.metadata.descriptions import MAKER
from pneumo_edge.spec import ONNX, SPEC_NAME, ModelSpec, model_sha256


def write(model: Path, target: Path, spec: ModelSpec) -> ModelSpec:
    """See :func:`pneumo_edge.converters.metadata.write_spec`."""
    onnx = extras.need("onnx", "convert")
    proto = onnx.load(str(model))
    proto.producer_name = MAKER
    proto.producer_version = spec.versions.get(MAKER, "")
    proto.doc_string = descriptions.model(spec)
    proto.graph.name = spec.name
    proto.graph.input[0].doc_string = descriptions.image(spec)
    of_outputs = {output.name: output.description for output in descriptions.outputs(spec)}
    for value in proto.graph.output:
        value.doc_string = of_outputs.get(value.name, "")
    spec = replace(spec, model_sha256=model_sha256(proto.SerializeToString(), ONNX.suffix))
    onnx.helper.set_model_props(proto, {SPEC_NAME: records.dumps(spec, indent=None)})
    onnx.save(proto, str(target))
    return spec
