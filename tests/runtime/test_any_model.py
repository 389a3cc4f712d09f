"""Model files from any tool: their inputs and outputs, their metadata, and `info` on them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from pneumo_edge.cli import app
from pneumo_edge.errors import ExitCode, ModelFileError
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.engines import tensors
from pneumo_edge.runtime.engines.tensors import Given, TensorInfo
from pneumo_edge.spec import read_metadata


def _onnx(path: Path, inputs: dict[str, tuple[int, list[Any]]], nodes: list[Any], output: str) -> Path:
    """An ONNX file with properties, by the types and shapes of its inputs."""
    onnx = pytest.importorskip("onnx")
    number = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "graph",
        [onnx.helper.make_tensor_value_info(name, *what) for name, what in inputs.items()],
        [onnx.helper.make_tensor_value_info(output, number, None)],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8, producer_name="another tool"
    )
    onnx.helper.set_model_props(model, {"names": "{0: 'cat', 1: 'dog'}", "task": "classify"})
    onnx.save(model, str(path))
    return path


@pytest.fixture
def two_inputs(tmp_path: Path) -> Path:
    """Adds a scalar of int64 to an image of any size in NCHW."""
    onnx = pytest.importorskip("onnx")
    return _onnx(
        tmp_path / "two.onnx",
        {
            "image": (onnx.TensorProto.FLOAT, ["batch", 3, "height", None]),
            "rate": (onnx.TensorProto.INT64, []),
        },
        [
            onnx.helper.make_node("Cast", ["rate"], ["number"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Add", ["image", "number"], ["sum"]),
        ],
        "sum",
    )


def _info(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["info", *map(str, arguments)])


def _load(path: Path, given: Given | None = None) -> engines.AnyModel:
    return engines.load_any(path, engines.choose(path), given=given)


def test_a_file_tells_its_inputs_and_answers_as_its_graph_says(two_inputs: Path) -> None:
    model = _load(two_inputs, Given({"image": (1, 3, 4, 5)}, {"rate": 16000}))
    assert model.inputs == (TensorInfo("image", (None, 3, None, None), "float32"), TensorInfo("rate", (), "int64"))
    drawn = tensors.draw(model.inputs, model.shapes, Given(values={"rate": 16000}), seed=0)
    (answer,) = model.call(drawn)
    np.testing.assert_array_equal(answer, drawn[0] + np.float32(16000))
    assert answer.shape == (1, 3, 4, 5)


@pytest.mark.parametrize("engine", ["litert", "tflite-runtime"])
def test_a_tflite_file_answers_as_it_does_with_a_spec(tiny_models: Path, engine: str) -> None:
    row = engines.ENGINES[engine]
    pytest.importorskip(row.library)
    for file in ("tiny-fp32.tflite", "tiny-int8.tflite"):
        model = engines.load_any(tiny_models / "bare" / file, row)
        (image,) = tensors.draw(model.inputs, model.shapes, Given(), seed=1)
        with_spec = engines.load(tiny_models / file, row)
        found = with_spec.run_all(image)
        for info, answer in zip(model.outputs, model.call([image]), strict=True):
            np.testing.assert_array_equal(answer[0], found[info.name])


def test_an_open_size_is_asked_for_with_what_to_type(two_inputs: Path) -> None:
    model = _load(two_inputs)
    with pytest.raises(ModelFileError, match=r"image is \?x3x\?x\?.*--input-shape image=1x3x224x224"):
        model.shapes  # noqa: B018 - it raises
    assert _load(two_inputs, Given({"image": (2, 3, 8, 8)})).shapes == {"image": (2, 3, 8, 8), "rate": ()}


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"image": (1, 1, 8, 8)}, r"1x1x8x8 does not fit the input image; expected \?x3x\?x\?"),
        ({"image": (3, 8, 8)}, "does not fit"),
        ({"picture": (1, 3, 8, 8)}, r"no input 'picture'; expected image \(\?x3x\?x\?\), rate \(scalar\)"),
        ({"": (1, 3, 8, 8)}, "the model has 2 inputs"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(
    two_inputs: Path, shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ModelFileError, match=message):
        _load(two_inputs, Given(shapes)).shapes  # noqa: B018 - it raises


@given(st.lists(st.one_of(st.none(), st.integers(1, 9)), max_size=5), st.data())
def test_a_shape_that_fits_is_taken(open_shape: list[int | None], data: st.DataObject) -> None:
    info = TensorInfo("x", tuple(open_shape), "float32")
    wanted = tuple(data.draw(st.integers(1, 9)) if size is None else size for size in open_shape)
    assert tensors.settle([info], Given({"": wanted})) == {"x": wanted}
    # What the error suggests is taken, too.
    try:
        assert tensors.settle([info], Given())["x"] == tuple(size or 1 for size in open_shape)
    except ModelFileError as error:
        suggested = error.remedy.rpartition("=")[2]
        assert tensors.settle([info], Given({"x": tuple(map(int, suggested.split("x")))}))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int8", "int32", "int64", "bool"])
def test_inputs_are_drawn_in_their_own_type(dtype: str) -> None:
    info = TensorInfo("x", (2, 50), dtype)
    (drawn,) = tensors.draw([info], {"x": (2, 50)}, Given(), seed=0)
    assert (drawn.dtype, drawn.shape) == (np.dtype(dtype), (2, 50))
    assert len(np.unique(drawn)) > 30 or dtype in ("int32", "int64", "bool")
    (filled,) = tensors.draw([info], {"x": (2, 50)}, Given(values={"": 1}), seed=0)
    assert (filled == 1).all()


def test_info_of_an_onnx_file_from_another_tool(two_inputs: Path) -> None:
    result = _info(two_inputs, "--input-shape", "image=1x3x4x5", "--input-value", "rate=8000")
    assert result.exit_code == 0, result.stderr
    for line in (
        "input image +\\?x3x\\?x\\? float32",
        "input rate +scalar int64",
        "operators +Cast 1, Add 1",
        "metadata: producer +another tool",
        "metadata: names +{0: 'cat', 1: 'dog'}",
    ):
        assert re.search(line, result.stdout), line
    document = json.loads(_info(two_inputs, "--json").stdout)
    assert document["metadata"]["task"] == "classify"
    assert document["input_tensors"][0]["shape"] == [None, 3, None, None]
    assert "--input-shape image=1x3x224x224" in document["graph_error"]


@pytest.fixture
def open_tflite(tmp_path: Path) -> Path:
    """Two convolutions of an image of any size: 2x2 of 4 channels, then 1x1 of 2."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    tensors, operators, buffers = [], [], [schema.BufferT()]
    weights = [((4, 2, 2, 3), (4,)), ((2, 1, 1, 4), (2,))]
    for channels in (3, 4, 2):
        name = f"map{channels}"
        tensors.append(schema.TensorT(shape=[1, 1, 1, channels], shapeSignature=[1, -1, -1, channels], name=name))
    for number, shapes in enumerate(weights):
        for shape in shapes:
            data = np.ones(shape, np.float32).tobytes()
            buffers.append(schema.BufferT(data=np.frombuffer(data, np.uint8)))
            tensors.append(schema.TensorT(shape=shape, name=f"constant{len(tensors)}", buffer=len(buffers) - 1))
        convolution = schema.OperatorT(
            inputs=[number, len(tensors) - 2, len(tensors) - 1],
            outputs=[number + 1],
            builtinOptionsType=schema.BuiltinOptions.Conv2DOptions,
            builtinOptions=schema.Conv2DOptionsT(padding=schema.Padding.VALID, strideW=1, strideH=1),
        )
        operators.append(convolution)
    # The file's own size is the smallest that the first of them takes.
    tensors[0].shape = [1, 2, 2, 3]
    graph = schema.SubGraphT(tensors=tensors, inputs=[0], outputs=[2], operators=operators)
    code = schema.OperatorCodeT(builtinCode=schema.BuiltinOperator.CONV_2D, deprecatedBuiltinCode=3)
    model = schema.ModelT(version=3, operatorCodes=[code], subgraphs=[graph], buffers=buffers)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "open.tflite"
    path.write_bytes(builder.Output())
    return path


@pytest.mark.parametrize("engine", ["litert", "tflite-runtime"])
def test_multiply_adds_are_those_of_the_given_size(open_tflite: Path, engine: str) -> None:
    row = engines.ENGINES[engine]
    pytest.importorskip(row.library)
    for height, width in ((2, 2), (5, 6)):
        model = engines.load_any(open_tflite, row, given=Given({"": (1, height, width, 3)}))
        assert model.delegation.operators == {"CONV_2D": 2}
        found = model.read_graph()
        assert found.multiply_adds == (height - 1) * (width - 1) * (4 * 2 * 2 * 3 + 2 * 4)
        assert found.parameters == 4 * 2 * 2 * 3 + 4 + 2 * 4 + 2
    assert "1,120 for one image" in _info(open_tflite, "--input-shape", "map3=1x5x6x3").stdout


def test_info_of_a_tflite_file_without_a_spec(tiny_models: Path) -> None:
    document = json.loads(_info(tiny_models / "bare" / "tiny-int8.tflite", "--json").stdout)
    (image,) = document["input_tensors"]
    assert (image["dtype"], image["shape"]) == ("uint8", [1, 224, 224, 3])
    assert document["graph"]["multiply_adds"] == 301_452
    # With TFLite Model Metadata, but no spec: labels and texts are there.
    metadata = read_metadata(tiny_models / "tiny-int8.tflite")
    assert metadata["labels.txt"].split() == ["NORMAL", "PNEUMONIA"]
    assert metadata["author"] == "pneumo-edge"


@pytest.mark.parametrize("file", ["tiny-fp32.tflite", "tiny-fp32.onnx"])
def test_metadata_of_damaged_files_is_read_as_far_as_it_goes(tiny_models: Path, tmp_path: Path, file: str) -> None:
    whole = (tiny_models / file).read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / file
    for _ in range(200):
        damaged = bytearray(whole[: int(random.integers(16, len(whole)))])
        for place in random.integers(8, len(damaged), 20):
            damaged[place] = int(random.integers(256))
        path.write_bytes(damaged)
        assert all(isinstance(text, str) for text in read_metadata(path).values())


def test_a_file_that_no_engine_knows_is_told_with_the_engines_words(inert_tflite: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(inert_tflite, tmp_path / "custom.tflite"))
    result = _info(path)
    assert result.exit_code == ExitCode.FAILED
    (line,) = result.stderr.splitlines()
    assert "cannot load" in line
