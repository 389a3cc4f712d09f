"""What a file says of itself; tests/converters/test_mediapipe.py has it read by somebody else's client."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pneumo_edge import bundled
from pneumo_edge.converters.metadata import WRITERS, write_spec
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import CONTAINERS

_NAMED = "TFLITE_METADATA"
_ALIGNMENT = 16
_each = pytest.mark.parametrize("name", bundled.NAMES)


@pytest.fixture(scope="module")
def schema() -> Any:
    return pytest.importorskip("ai_edge_litert.schema_py_generated")


@pytest.fixture
def written(name: str, tmp_path: Path) -> Path:
    path = bundled.path(name)
    write_spec(path, tmp_path / path.name, read_spec(path))
    return tmp_path / path.name


@pytest.fixture(scope="module")
def pixels() -> list[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(7)
    ramp = np.linspace(0, 255, 224)[:, np.newaxis, np.newaxis] * [1.0, 0.6, 0.3]
    return [
        np.broadcast_to(ramp, (224, 224, 3)).astype(np.uint8),
        rng.integers(0, 256, (224, 224, 3), dtype=np.uint8),
    ]


def _assert_the_same_outputs(first: Path, second: Path, pixels: list[npt.NDArray[np.uint8]]) -> None:
    rows = engines.installed_engines_for(first)
    assert rows
    for info in rows:
        one, other = engines.load(first, info), engines.load(second, info)
        assert one.delegation == other.delegation
        for image in pixels:
            tensor = image[np.newaxis].astype(one.input_dtype)
            np.testing.assert_array_equal(one.run(tensor), other.run(tensor))


def test_every_kind_of_model_file_that_is_read_is_written() -> None:
    assert WRITERS.keys() == CONTAINERS.keys()


@_each
def test_the_outputs_stay_what_they_were(name: str, written: Path, pixels: list[npt.NDArray[np.uint8]]) -> None:
    _assert_the_same_outputs(bundled.path(name), written, pixels)


@_each
def test_the_graph_stays_what_it_was_but_for_its_names(name: str, written: Path, schema: Any) -> None:
    before, after = (schema.ModelT.InitFromPackedBuf(path.read_bytes()) for path in (bundled.path(name), written))
    for model in (before, after):
        (graph,) = model.subgraphs
        for index in (*graph.inputs, *graph.outputs):
            graph.tensors[index].name = None
        entries = [entry for entry in model.metadata if entry.name.decode() == _NAMED]
        for entry in entries:
            model.metadata.remove(entry)
            assert entry.buffer == len(model.buffers) - 1
            del model.buffers[entry.buffer]
        model.signatureDefs = None
    assert _plain(after) == _plain(before)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.tobytes()
    if isinstance(value, list):
        return [_plain(element) for element in value]
    return {name: _plain(field) for name, field in vars(value).items()} if hasattr(value, "__dict__") else value


@_each
def test_a_person_sees_names_for_input_and_output(name: str, written: Path) -> None:
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(str(written))
    assert [detail["name"] for detail in interpreter.get_input_details()] == ["image"]
    outputs = ["probability", *(output.name for output in read_spec(written).outputs)]
    assert [detail["name"] for detail in interpreter.get_output_details()] == outputs
    (signature,) = interpreter.get_signature_list().values()
    assert (signature["inputs"], sorted(signature["outputs"])) == (["image"], sorted(outputs))
    names = [detail["name"] for detail in interpreter.get_tensor_details()]
    assert all(names.count(name) == 1 for name in ("image", *outputs))


@_each
def test_the_metadata_is_where_clients_look_for_it(name: str, written: Path, schema: Any) -> None:
    model = schema.ModelT.InitFromPackedBuf(written.read_bytes())
    (entry,) = [entry for entry in model.metadata if entry.name.decode() == _NAMED]
    assert bytes(model.buffers[entry.buffer].data[4:8]) == b"M001"
    with zipfile.ZipFile(written) as archive:
        others = [f"{output.name}-labels.txt" for output in read_spec(written).outputs]
        assert archive.namelist() == ["labels.txt", *others, "pneumo_edge_spec.json"]
        assert archive.read("labels.txt") == b"NORMAL\nPNEUMONIA\n"
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
    assert replace(read_spec(written), model_sha256=None) == replace(read_spec(bundled.path(name)), model_sha256=None)


@_each
def test_the_data_of_every_buffer_is_aligned(name: str, written: Path, schema: Any) -> None:
    content = written.read_bytes()
    model = schema.Model.GetRootAs(content)
    whole = np.frombuffer(content, np.uint8)
    data = [model.Buffers(index).DataAsNumpy() for index in range(model.BuffersLength())]
    starts = [array.ctypes.data - whole.ctypes.data for array in data if isinstance(array, np.ndarray)]
    assert len(starts) > 100
    assert not [start for start in starts if start % _ALIGNMENT]


@_each
def test_to_write_again_changes_nothing(name: str, written: Path, tmp_path: Path) -> None:
    for source in (written, bundled.path(name)):
        write_spec(source, tmp_path / "again.tflite", read_spec(written))
        assert (tmp_path / "again.tflite").read_bytes() == written.read_bytes()


def test_data_behind_the_flatbuffer_comes_along(
    schema: Any, tmp_path: Path, pixels: list[npt.NDArray[np.uint8]]
) -> None:
    flatbuffers = pytest.importorskip("flatbuffers")
    model = schema.ModelT.InitFromPackedBuf(bundled.path("mobilenetv2").read_bytes())
    moved = [buffer for buffer in model.buffers if buffer.data is not None and len(buffer.data) > 1000]
    data = [buffer.data.tobytes() for buffer in moved]
    assert moved
    start = beyond = 1 << 20
    for buffer, part in zip(moved, data, strict=True):
        buffer.data, buffer.offset, buffer.size = None, start, len(part)
        start += len(part)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    outside = tmp_path / "outside.tflite"
    outside.write_bytes(bytes(builder.Output()).ljust(beyond, b"\0") + b"".join(data))
    written = tmp_path / "written.tflite"
    write_spec(outside, written, read_spec(bundled.path("mobilenetv2")))
    _assert_the_same_outputs(bundled.path("mobilenetv2"), written, pixels)


def test_an_onnx_file_says_it_in_its_own_way(tiny_models: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = tiny_models / "tiny-fp32.onnx"
    proto, spec = onnx.load(str(path)), read_spec(path)
    onnx.checker.check_model(proto, full_check=True)
    assert [value.name for value in proto.graph.input] == ["image"]
    assert [value.name for value in proto.graph.output] == ["probability", "heatmap"]
    assert (proto.producer_name, proto.producer_version) == ("pneumo-edge", spec.versions["pneumo-edge"])
    assert proto.graph.name == spec.name
    assert spec.notice in proto.doc_string and f"{spec.decision.threshold:.4f}" in proto.doc_string
    assert "RGB pixels of 0 to 255" in proto.graph.input[0].doc_string
    assert "NORMAL, PNEUMONIA, in this order" in proto.graph.output[0].doc_string
    assert proto.graph.output[1].doc_string == spec.outputs[0].description
