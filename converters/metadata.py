"""Writes a ModelSpec into a model file, where the runtime finds it."""

from __future__ import annotations

import zipfile
from pathlib import Path

from pneumo_edge import extras, records
from pneumo_edge.spec import SPEC_NAME, ModelSpec

#: The label file that other clients of TFLite metadata look for.
_LABELS_NAME = "labels.txt"
#: A fixed date keeps the same model the same file, byte for byte.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def write_spec(model: Path, target: Path, spec: ModelSpec) -> None:
    """Copy a model file with its ModelSpec inside.

    Args:
        model: A ``.tflite`` or ``.onnx`` file as its converter made it, without a spec.
        target: Where to write the copy; it may not be ``model``.
        spec: What to write.

    Raises:
        OSError: The target cannot be written.
    """
    if model.suffix == ".onnx":
        _write_onnx(model, target, spec)
    else:
        _write_tflite(model, target, spec)


def _write_tflite(model: Path, target: Path, spec: ModelSpec) -> None:
    target.write_bytes(model.read_bytes())
    with zipfile.ZipFile(target, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(_LABELS_NAME, _ZIP_DATE), "\n".join(spec.class_names) + "\n")
        archive.writestr(zipfile.ZipInfo(SPEC_NAME, _ZIP_DATE), records.dumps(spec))


def _write_onnx(model: Path, target: Path, spec: ModelSpec) -> None:
    onnx = extras.need("onnx", "convert")
    proto = onnx.load(str(model))
    onnx.helper.set_model_props(proto, {SPEC_NAME: records.dumps(spec, indent=None)})
    onnx.save(proto, str(target))
