"""Writes a ModelSpec into a model file of another tool, with the standard library; nothing else of the file changes."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

from pneumo_edge._util import files, records
from pneumo_edge.spec.container_type import SPEC_NAME
from pneumo_edge.spec.containers import suffix_of
from pneumo_edge.spec.model_spec import ModelSpec
from pneumo_edge.spec.onnx import ONNX, property_field
from pneumo_edge.spec.reading import model_sha256, read_content

#: A fixed date keeps the same model the same file, byte for byte.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def attach(model: Path, target: Path, spec: ModelSpec) -> ModelSpec:
    """Write a copy of a model file that carries a ModelSpec; the bytes of its graph and weights stay as they are.

    Args:
        model: A ``.tflite`` or ``.onnx`` file without a ModelSpec.
        target: Where the copy goes, whole or not at all.
        spec: What the copy carries.

    Returns:
        The spec, with the hash of the model.

    Raises:
        ModelFileError: As :func:`pneumo_edge.spec.reading.read_content`.
        OSError: The copy cannot be written.
    """
    content = read_content(model)
    spec = replace(spec, model_sha256=model_sha256(content, suffix_of(model)))
    text = records.dumps(spec, indent=None).encode()
    if suffix_of(model) == ONNX.suffix:
        content += property_field(SPEC_NAME, text)
    else:
        stream = io.BytesIO(content)
        stream.seek(0, io.SEEK_END)
        with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo(SPEC_NAME, _ZIP_DATE), text)
        content = stream.getvalue()
    with files.atomic(target) as temporary:
        temporary.write_bytes(content)
    return spec
