"""What is fuzzed: functions that take any bytes, and raise where a user would meet neither a result nor one line."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from pneumo_edge import spec
from pneumo_edge._util import records
from pneumo_edge.errors import ImageError, ModelFileError, PneumoEdgeError
from pneumo_edge.imaging import images

#: As the devices' models have it; what is smaller gets decoded in full either way.
_SMALLEST = 280
#: An error is a line on a terminal.
_LONGEST_ERROR = 2000
_WHERE = Path("/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir())


def image(data: bytes) -> None:
    """An image file of any format but DICOM."""
    for smallest in (None, _SMALLEST):
        try:
            with warnings.catch_warnings():
                # The command line does not hear Pillow's either.
                warnings.simplefilter("ignore")
                decoded = images.decode(data, smallest)
        except ImageError as error:
            _check_error(error)
        else:
            assert decoded.mode == "L"
            assert min(decoded.size) >= images.MIN_SIDE
            assert decoded.width * decoded.height <= images.MAX_PIXELS


def dicom(data: bytes) -> None:
    """A DICOM file, from behind its signature."""
    image(bytes(128) + b"DICM" + data)


def spec_json(data: bytes) -> None:
    """The text of a ModelSpec."""
    try:
        found = spec.parse(data, Path("model.tflite"))
    except ModelFileError as error:
        _check_error(error)
    else:
        assert records.loads(spec.ModelSpec, records.dumps(found)) == found


def tflite(data: bytes) -> None:
    """A TFLite file, from behind its signature, as far as it is read before an engine is asked."""
    _read(b"\x1c\x00\x00\x00TFL3" + data, ".tflite")


def onnx(data: bytes) -> None:
    """An ONNX file, as far as it is read before an engine is asked."""
    _read(data, ".onnx")


def _read(content: bytes, suffix: str) -> None:
    path = _WHERE / f"pneumo-edge-fuzz-{os.getpid()}{suffix}"
    path.write_bytes(content)
    try:
        found = spec.read(path)
    except ModelFileError as error:
        _check_error(error)
    else:
        assert found.model_sha256 in (None, spec.model_sha256(content, suffix))
    finally:
        path.unlink()


def _check_error(error: PneumoEdgeError) -> None:
    text = str(error)
    assert text.isprintable() and len(text) < _LONGEST_ERROR, text[:200]


TARGETS: dict[str, Callable[[bytes], None]] = {
    "image": image,
    "dicom": dicom,
    "spec": spec_json,
    "tflite": tflite,
    "onnx": onnx,
}
