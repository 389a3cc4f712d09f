"""Model files of other tools get a ModelSpec: measured, with a threshold, and their bytes as they were."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import pneumo_edge
from pneumo_edge import Classifier, DataSource
from pneumo_edge._util import files
from pneumo_edge.cli import app
from pneumo_edge.converters import proof, reference
from pneumo_edge.errors import ArgumentError, ExitCode
from pneumo_edge.spec import read

_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def bright_and_dark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two classes that differ in brightness alone, at a level near the middle."""
    folder = tmp_path_factory.mktemp("data") / "lamps"
    random = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 6)):
        for name, level in (("OFF", 103), ("ON", 125)):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.clip(random.normal(level, 30, (40, 44)) + random.normal(0, 2), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


def _lamp(path: Path, side: int | None) -> Path:
    """An ONNX file as PyTorch exports one: NCHW, ImageNet's normalization outside, logits, any batch."""
    onnx = pytest.importorskip("onnx")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    # The second logit is the brightness above 115, in steps of 8.
    weights = np.zeros((3, 2), np.float32)
    weights[:, 1] = 255 * _STD / 8 / 3
    bias = np.array([0, (255 * _MEAN.mean() - 115) / 8], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["means"]),
            helper.make_node("Flatten", ["means"], ["vector"]),
            helper.make_node("Gemm", ["vector", "weights", "bias"], ["scores"]),
        ],
        "graph",
        [helper.make_tensor_value_info("image", number, ["batch", 3, side, side])],
        [helper.make_tensor_value_info("scores", number, ["batch", 2])],
        [onnx.numpy_helper.from_array(weights, "weights"), onnx.numpy_helper.from_array(bias, "bias")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For images of 32 x 32 pixels."""
    return _lamp(tmp_path_factory.mktemp("network") / "lamp.onnx", 32)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("PNEUMO_EDGE_CACHE", str(tmp_path_factory.getbasetemp() / "adopt-cache"))


def _adopt(network: Path, data: Path, out: Path, *options: str) -> Result:
    words = ["adopt", str(network), "--data", str(data), "--positive", "ON", "--out", str(out), *options]
    return CliRunner().invoke(app, words)


def test_a_file_is_adopted_and_classifies_as_its_graph_computes(
    network: Path, bright_and_dark: Path, tmp_path: Path
) -> None:
    result = _adopt(network, bright_and_dark, tmp_path, "--input-range", "imagenet")
    assert result.exit_code == 0, result.stderr
    path = tmp_path / "lamp.onnx"
    assert (
        "note: the threshold is chosen and the accuracy measured on 6 validation images (train and val pooled; 10% of"
        in (" ".join(result.stderr.split()))
    )
    assert "some of the 54 training images; 12 test images are not used" in result.stderr
    assert "adopted; on 6 validation images auc" in result.stdout
    assert "lamp.onnx.proof.json" in result.stdout and "lamp.onnx-reference.npz" in result.stdout
    assert result.stdout.splitlines()[-1] == f"Next: pneumo-edge predict IMAGE --model {path}"
    assert path.read_bytes().startswith(network.read_bytes())
    spec = read(path)
    assert (spec.input.layout, spec.scores, spec.format) == ("nchw", "logits", "adopted")
    assert spec.class_names == ("OFF", "ON")
    assert spec.validation_distribution and spec.validation_distribution.probabilities.keys() == {"ON"}
    classifier = Classifier(path)
    for name in ("OFF", "ON"):
        for image in sorted((bright_and_dark / "test" / name).iterdir()):
            prediction = classifier.predict(image)
            assert prediction.label == name
            grey = np.asarray(Image.open(image).resize((32, 32), Image.Resampling.BILINEAR, reducing_gap=None))
            expected = 1 / (1 + np.exp(-(grey.mean() - 115) / 8))
            assert prediction.probabilities["ON"] == pytest.approx(expected, abs=0.05)
    # Every other verb takes it.
    scored = CliRunner().invoke(
        app, ["evaluate", str(path), "--data", str(bright_and_dark), "--positive", "ON", "--out", str(tmp_path / "m")]
    )
    assert scored.exit_code == 0, scored.stderr
    (described,) = json.loads((tmp_path / "m" / "metrics.json").read_text())["models"]
    assert (described["model"]["trained_on"], described["model"]["measured_on"]) == ("", "folder lamps")
    assert "not known; threshold chosen on folder lamps" in (tmp_path / "m" / "evaluation.md").read_text()
    told = CliRunner().invoke(app, ["info", str(path)])
    assert told.exit_code == 0, told.stderr
    assert "note: the output of" in result.stderr and "is taken as logits: scores of" in result.stderr
    fields = dict(re.split(" {2,}", line.strip(), maxsplit=1) for line in told.stdout.splitlines())
    ranges = "-2.118..2.249, -2.036..2.429, -1.804..2.64 by channel"
    assert fields["input"] == f"float32 1x3x32x32; the device scales pixels 0 to 255 to {ranges}"
    assert fields["scores"] == "logits; the graph ends in Gemm"
    assert re.match(r"folder lamps, \d+ validation images", fields["measured on"])
    assert "trained elsewhere" in fields["weights"]
    assert not {"trained on", "training", "initial weights"} & fields.keys()
    assert fields["temperature"].startswith("none")
    assert fields["drift"].startswith("measured by `score` against the probabilities of 6 images (validation, ")
    assert "export" not in fields["uncertain"] + fields["out-of-distribution"]
    strict = CliRunner().invoke(app, ["predict", str(bright_and_dark / "test"), "--model", str(path), "--strict"])
    assert "an adopted file has none" in strict.stderr
    external = CliRunner().invoke(
        app, ["evaluate", str(path), "--data", str(bright_and_dark), "--external", "--out", str(tmp_path / "e")]
    )
    assert "the threshold of a model was chosen on folder lamps" in external.stderr


def test_an_adopted_file_is_verified_against_its_answers_at_adoption(
    network: Path, bright_and_dark: Path, tmp_path: Path
) -> None:
    assert _adopt(network, bright_and_dark, tmp_path, "--input-range", "imagenet").exit_code == 0
    path = tmp_path / "lamp.onnx"
    told = proof.load(path)
    assert not told.origin.format.quantized
    assert told.origin.checkpoint == files.sha256(network)
    runner = CliRunner()
    for options in ((), ("--data", str(bright_and_dark))):
        verified = runner.invoke(app, ["verify", str(path), *options])
        assert verified.exit_code == 0, verified.stderr
        assert "onnxruntime, 2 threads" in verified.stdout
        assert "warning" not in verified.stderr

    _check_edited_proofs(path)

    # As if this machine computed something else.
    beside = tmp_path / reference.file_name(path.name)
    with np.load(beside) as archive:
        stored = dict(archive)
    stored["scores"] = np.clip(stored["scores"] + 0.02, 0, 1)
    np.savez(beside, **stored)
    replace(told, origin=replace(told.origin, reference=files.sha256(beside))).save(path)
    departed = runner.invoke(app, ["verify", str(path)])
    assert departed.exit_code == ExitCode.GATE_MISSED
    assert "against its answers when it was adopted" in departed.stderr
    renamed = tmp_path / "bulb.onnx"
    proof.path(path).rename(proof.path(renamed))
    path.rename(renamed)
    beside.rename(tmp_path / reference.file_name(renamed.name))
    missing = runner.invoke(app, ["verify", str(renamed)]).stderr
    assert f"there is no {beside}" in missing
    assert "bulb.onnx was lamp.onnx: give it, its proof and its reference set the names they had." in missing


def _check_edited_proofs(path: Path) -> None:
    """What an adopted file may do is not read from its proof, which anyone can edit."""
    whole = proof.path(path).read_text()

    def verify(edit: Callable[[dict[str, Any]], object]) -> Result:
        document = json.loads(whole)
        edit(document)
        proof.path(path).write_text(json.dumps(document))
        return CliRunner().invoke(app, ["verify", str(path)])

    def loosen(document: dict[str, Any]) -> None:
        document["verification"]["bounds"]["max_difference"] = 1.0
        document["origin"]["format"]["bounds"]["min_agreement"] = 0.0
        document["origin"]["format"]["quantized"] = True

    said = verify(loosen)
    assert said.exit_code == 0, said.stderr
    assert "records other bounds than those that were checked here: max_difference 1, here 0.005, min_agreement 0" in (
        said.stderr
    )
    for edit, message in (
        (lambda document: document.update(threshold=0.999), "has the threshold 0.999; expected 0."),
        (lambda document: document.update(schema_version=3), "schema_version is 3, not 2"),
        (lambda document: document["origin"]["format"].update(engines=["none"]), "names the engines none; expected"),
    ):
        refused = verify(edit)
        assert refused.exit_code == ExitCode.FAILED
        (line,) = refused.stderr.splitlines()
        assert message in line
    proof.path(path).write_text(whole)


def test_a_script_adopts_a_file_as_the_command_does(network: Path, bright_and_dark: Path, tmp_path: Path) -> None:
    data = DataSource(str(bright_and_dark), positive="ON")
    adopted = pneumo_edge.adopt(network, data, input_range="imagenet", out=tmp_path / "script")
    assert _adopt(network, bright_and_dark, tmp_path / "verb", "--input-range", "imagenet").exit_code == 0
    assert Classifier(adopted).spec == adopted.spec
    assert adopted.path.read_bytes() == (tmp_path / "verb" / "lamp.onnx").read_bytes()
    with pytest.raises(ArgumentError, match="one of the inputs"):
        pneumo_edge.adopt(network, data, input_range="imagenet", out=network.parent)


def test_a_wrong_scaling_is_refused_with_the_right_one(network: Path, bright_and_dark: Path, tmp_path: Path) -> None:
    result = _adopt(network, bright_and_dark, tmp_path, "--input-range", "0..255")
    assert result.exit_code == ExitCode.GATE_MISSED
    (line,) = result.stderr.strip().splitlines()[-1:]
    assert re.search(r"with --input-range imagenet .* would be right \d+% of the time, with 0\.\.255, as given", line)
    assert not (tmp_path / "lamp.onnx").exists()
    accepted = _adopt(network, bright_and_dark, tmp_path, "--input-range", "0..255", "--accept-input-range")
    assert accepted.exit_code == 0, accepted.stderr
    missing = _adopt(network, bright_and_dark, tmp_path)
    assert missing.exit_code == ExitCode.GATE_MISSED
    assert "needs --input-range" in missing.stderr


def test_a_file_for_images_of_any_size_is_adopted_for_one(bright_and_dark: Path, tmp_path: Path) -> None:
    network, out = _lamp(tmp_path / "lamp.onnx", None), tmp_path / "models"
    usual = _adopt(network, bright_and_dark, out, "--input-range", "imagenet")
    assert usual.exit_code == 0, usual.stderr
    assert "any size (?x3x?x?); adopted for 224 x 224 pixels. Give --image-size for another" in usual.stderr
    given = _adopt(network, bright_and_dark, out, "--input-range", "imagenet", "--image-size", "28")
    assert given.exit_code == 0, given.stderr
    assert "any size" not in given.stderr
    assert read(out / "lamp.onnx").input.height == 28
    # The graph is read at that size.
    told = CliRunner().invoke(app, ["info", str(out / "lamp.onnx")])
    assert "not read" not in told.stdout and "GlobalAveragePool 1" in told.stdout


def _open_tflite(path: Path) -> Path:
    """A TFLite file that takes an image of any size and gives two logits by its mean brightness."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    weights = np.zeros((2, 3), np.float32)
    weights[1] = 1 / 8 / 3
    constants = [np.array([1, 2], np.int32), weights, np.array([0, -115 / 8], np.float32)]
    buffers = [schema.BufferT()] + [
        schema.BufferT(data=np.frombuffer(constant.tobytes(), np.uint8)) for constant in constants
    ]
    tensors = [
        schema.TensorT(shape=[1, 1, 1, 3], shapeSignature=[-1, -1, -1, 3], name="image"),
        *(
            schema.TensorT(
                shape=list(constant.shape),
                type=schema.TensorType.INT32 if constant.dtype == np.int32 else schema.TensorType.FLOAT32,
                name=f"constant{number}",
                buffer=number,
            )
            for number, constant in enumerate(constants, 1)
        ),
        schema.TensorT(shape=[1, 3], shapeSignature=[-1, 3], name="means"),
        schema.TensorT(shape=[1, 2], shapeSignature=[-1, 2], name="scores"),
    ]
    operators = [
        schema.OperatorT(
            opcodeIndex=0,
            inputs=[0, 1],
            outputs=[4],
            builtinOptionsType=schema.BuiltinOptions.ReducerOptions,
            builtinOptions=schema.ReducerOptionsT(keepDims=False),
        ),
        schema.OperatorT(
            opcodeIndex=1,
            inputs=[4, 2, 3],
            outputs=[5],
            builtinOptionsType=schema.BuiltinOptions.FullyConnectedOptions,
            builtinOptions=schema.FullyConnectedOptionsT(),
        ),
    ]
    codes = [
        schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code)
        for code in (schema.BuiltinOperator.MEAN, schema.BuiltinOperator.FULLY_CONNECTED)
    ]
    graph = schema.SubGraphT(tensors=tensors, inputs=[0], outputs=[5], operators=operators)
    model = schema.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], buffers=buffers)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    return path


def test_a_tflite_file_of_any_size_is_adopted_for_one(bright_and_dark: Path, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")
    # The ending may be in capitals, as on cameras and on Windows.
    network, out = _open_tflite(tmp_path / "lamp.TFLITE"), tmp_path / "models"
    adopted = _adopt(network, bright_and_dark, out, "--input-range", "0..255", "--image-size", "96")
    assert adopted.exit_code == 0, adopted.stderr
    path = out / "lamp.TFLITE"
    assert read(path).input.height == 96
    for name in ("OFF", "ON"):
        for image in sorted((bright_and_dark / "test" / name).iterdir()):
            assert Classifier(path).predict(image).label == name
    assert CliRunner().invoke(app, ["verify", str(path)]).exit_code == 0
    told = CliRunner().invoke(app, ["info", str(path)])
    assert "MEAN 1, FULLY_CONNECTED 1" in told.stdout
    bare = CliRunner().invoke(app, ["info", str(network)])
    assert "?x?x?x3 float32" in bare.stdout and "--input-shape image=1x224x224x3" in bare.stdout
    usual = _adopt(network, bright_and_dark, tmp_path / "usual", "--input-range", "0..255")
    assert "any size (?x?x?x3); adopted for 224 x 224 pixels. Give --image-size" in usual.stderr


def test_how_a_range_is_used_for_other_channels_is_said(bright_and_dark: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    dense = onnx.helper.make_node("Gemm", ["means", "weights", "bias"], ["scores"])
    output = onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, 2])
    weights = {"weights": [[0, 12.0]], "bias": [0, 12 * (0.485 - 115 / 255) / 0.229]}
    grey = _make(tmp_path / "grey.onnx", [dense], output, weights, channels=1)
    one = _adopt(grey, bright_and_dark, tmp_path / "one", "--input-range", "imagenet", "--accept-input-range")
    assert "takes images of 1 channel; of --input-range imagenet the numbers of red are used" in one.stderr
    weights = {"weights": [[0, 4.0]] * 3, "bias": [0, -12 * (115 / 255 - 0.5) / 0.25]}
    colour = _make(tmp_path / "colour.onnx", [dense], output, weights)
    three = _adopt(colour, bright_and_dark, tmp_path / "three", "--input-range", "mean=0.5;std=0.25")
    assert "of 3 channels; mean and standard deviation of --input-range are used for each" in three.stderr
    assert (one.exit_code, three.exit_code) == (0, 0)


def test_shares_without_validation_are_refused_with_others(
    network: Path, bright_and_dark: Path, tmp_path: Path
) -> None:
    data = tmp_path / "lamps"
    shutil.copytree(bright_and_dark / "test", data)
    result = _adopt(network, data, tmp_path / "models", "--input-range", "imagenet", "--split", "0/0/100")
    assert result.exit_code == ExitCode.FAILED
    assert "leaves nothing for train" in result.stderr
    assert result.stderr.strip().endswith("Give other shares, such as --split-shares 80/10/10.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--input-range", "imagenet", "--layout", "nhwc"), "an image of 32 channels"),
        (("--input-range", "imagenet", "--image-size", "96"), "32 x 32, which"),
        (("--input-range", "nonsense"), "the input range is 'nonsense'"),
        (("--input-range", "0..1e39"), "a factor and an addend of at most 1,000,000"),
        (("--input-range", "mean=0;std=1e-300"), "a factor and an addend of at most 1,000,000"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    network: Path, bright_and_dark: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    result = _adopt(network, bright_and_dark, tmp_path, *options)
    assert result.exit_code in (ExitCode.USAGE, ExitCode.FAILED)
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "lamp.onnx").exists()


def test_a_file_that_has_a_spec_or_other_outputs_is_refused(
    tiny_models: Path, bright_and_dark: Path, tmp_path: Path
) -> None:
    own = _adopt(tiny_models / "tiny-fp32.onnx", bright_and_dark, tmp_path, "--input-range", "0..255")
    assert "has a ModelSpec already" in own.stderr
    other = _adopt(tiny_models / "bare" / "tiny-fp32.onnx", bright_and_dark, tmp_path, "--input-range", "0..255")
    assert "outputs" in other.stderr
    assert own.exit_code == other.exit_code == ExitCode.FAILED


def _make(
    path: Path, nodes: list[Any], output: Any, initial: Mapping[str, Any], side: int = 32, channels: int = 3
) -> Path:
    """An ONNX file that takes an image, channels first, with its means in ``means``, shape (1, channels)."""
    onnx = pytest.importorskip("onnx")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["averages"]),
            helper.make_node("Flatten", ["averages"], ["means"]),
            *nodes,
        ],
        "graph",
        [helper.make_tensor_value_info("image", number, [1, channels, side, side])],
        [output],
        [onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in initial.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


_WEIGHTS = {"weights": np.array([[0, 1], [0, 0], [0, 0]]), "bias": np.array([0, -115])}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("squeezed", "a tensor of two axes, 1 x classes"),
        ("whole numbers", "a tensor of two axes, 1 x classes"),
        ("two sigmoids", "scores of 0 to 1 that do not sum to 1"),
        ("not a number", "gives a score that is not a finite number for"),
        ("too large", "takes images of 4,096 x 4,096 pixels"),
    ],
)
def test_a_file_whose_scores_are_none_is_refused(
    bright_and_dark: Path, tmp_path: Path, fault: str, message: str
) -> None:
    onnx = pytest.importorskip("onnx")
    node, number = onnx.helper.make_node, onnx.TensorProto
    dense, weights, side = node("Gemm", ["means", "weights", "bias"], ["dense"]), dict(_WEIGHTS), 32
    last, kind, shape = node("Identity", ["dense"], ["scores"]), number.FLOAT, [1, 2]
    if fault == "squeezed":
        last, shape = node("Squeeze", ["dense"], ["scores"]), [2]
    elif fault == "whole numbers":
        last, kind = node("Cast", ["dense"], ["scores"], to=number.INT64), number.INT64
    elif fault == "two sigmoids":
        last = node("Sigmoid", ["dense"], ["scores"])
    elif fault == "not a number":
        # The logarithm of what is below 0 for some images.
        last, weights["bias"] = node("Log", ["dense"], ["scores"]), np.array([1, -110])
    else:
        side = 4096
    output = onnx.helper.make_tensor_value_info("scores", kind, shape)
    path = _make(tmp_path / "odd.onnx", [dense, last], output, weights, side)
    result = _adopt(path, bright_and_dark, tmp_path / "out", "--input-range", "0..255", "--accept-input-range")
    assert result.exit_code == ExitCode.FAILED, result.output
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("ending", "step", "message"),
    [
        ("", 80, "ends in Gemm and gives scores of 0.[0-9]+ to 0.[0-9]+: they may be"),
        ("Tanh", 1, "ends in Tanh and gives scores of -0.9"),
        ("Softmax Mul", 1, "ends in Softmax and Mul and gives scores of .*, with a sum of 100 for each image"),
        ("Softmax Identity", 1, "taken as probabilities: scores of .*, and the graph ends in Softmax"),
        ("LogSoftmax", 1, "taken as logits: scores of -.*, and the graph ends in LogSoftmax"),
    ],
)
def test_the_last_operator_tells_what_the_scores_are(
    bright_and_dark: Path, tmp_path: Path, ending: str, step: float, message: str
) -> None:
    onnx = pytest.importorskip("onnx")
    scores = 1 if ending in ("", "Tanh") else 2
    weights = np.full((3, scores), 1 / 24 / step, np.float32)
    bias = np.full(scores, -115 / 8 / step, np.float32)
    if scores == 1:
        bias += 0.5 * (not ending)
    else:
        weights[:, 0], bias[0] = 0, 0
    constants, nodes, last = {"weights": weights, "bias": bias, "percent": np.array(100)}, [], "means"
    for index, name in enumerate(["Gemm", *ending.split()]):
        more = {"Gemm": ["weights", "bias"], "Mul": ["percent"]}.get(name, [])
        nodes.append(onnx.helper.make_node(name, [last, *more], [f"step{index}"]))
        last = f"step{index}"
    output = onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, [1, scores])
    path = _make(tmp_path / "odd.onnx", nodes, output, constants)
    result = _adopt(path, bright_and_dark, tmp_path / "out", "--input-range", "0..255")
    said = " ".join(result.stderr.split())
    assert re.search(message, said), said
    if "taken" in message:
        assert result.exit_code == 0, said
    else:
        assert result.exit_code == ExitCode.FAILED
        assert "Give --output logits or --output probabilities" in said


def test_scores_of_a_tflite_file_are_told_by_its_last_operator(bright_and_dark: Path, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")
    network = _open_tflite(tmp_path / "lamp.tflite")
    result = _adopt(network, bright_and_dark, tmp_path / "out", "--input-range", "0..255", "--image-size", "96")
    assert "taken as logits: scores of" in result.stderr and "ends in FULLY_CONNECTED" in result.stderr


def test_a_file_of_the_same_name_is_not_replaced(network: Path, bright_and_dark: Path, tmp_path: Path) -> None:
    other = tmp_path / network.name
    other.write_bytes(b"precious")
    result = _adopt(network, bright_and_dark, tmp_path, "--input-range", "imagenet")
    assert result.exit_code == ExitCode.FAILED
    assert "is not an adopted copy of" in result.stderr
    assert other.read_bytes() == b"precious"
    other.unlink()
    for _ in range(2):
        assert _adopt(network, bright_and_dark, tmp_path, "--input-range", "imagenet").exit_code == 0


def test_weights_in_another_file_are_refused(network: Path, bright_and_dark: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "apart.onnx"
    options = {"save_as_external_data": True, "location": "apart.data", "size_threshold": 0}
    onnx.save_model(onnx.load(str(network)), str(path), **options)
    result = _adopt(path, bright_and_dark, tmp_path / "out", "--input-range", "imagenet")
    assert result.exit_code == ExitCode.FAILED, result.output
    assert "a model in one file, with its weights inside" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_set_is_replaced_as_a_whole_or_not_at_all(
    network: Path, bright_and_dark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _adopt(network, bright_and_dark, tmp_path, "--input-range", "imagenet").exit_code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pneumo_edge.converters.adopt.Proof.__init__", fail)
    other = ("--input-range", "0..255", "--accept-input-range")
    assert _adopt(network, bright_and_dark, tmp_path, *other).exit_code != 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
