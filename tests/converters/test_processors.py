"""Integer files on an emulated x86-64 processor with AVX2 and without VNNI, against this one."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pneumo_edge import bundled
from pneumo_edge._util import processor, records
from pneumo_edge.converters import metadata
from pneumo_edge.formats import FORMATS
from pneumo_edge.runtime import verified
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import VerificationSpec
from tools import formats_page, processors

_ELSEWHERE = "x86-64 with a set of instructions from the future"


@pytest.fixture(scope="module")
def avx2() -> list[str]:
    """A command that runs this Python on such a processor."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("the wheels of this Python are not those of x86-64")
    if not shutil.which(processors.QEMU):
        pytest.skip(f"there is no {processors.QEMU}: apt-get install qemu-user-static")
    return [*processors.AVX2, sys.executable]


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images: bright, dark and noise."""
    noise = np.random.default_rng(1).integers(0, 256, (224, 224, 1), np.uint8).repeat(3, axis=-1)
    path = tmp_path_factory.mktemp("pixels") / "pixels.npy"
    np.save(path, np.stack([np.full_like(noise, 250), np.full_like(noise, 20), noise]))
    return path


def _answers(command: list[str], pixels: Path, models: list[Path]) -> dict[str, npt.NDArray[np.float64]]:
    said = processors.ask(command, pixels, models)["probabilities"]
    return {f"{Path(model).name} on {engine}": np.array(each) for model in said for engine, each in said[model].items()}


def _with_signed_weights(path: Path, target: Path) -> Path:
    """The same network as ``onnx-int8`` had it before: weights of int8."""
    onnx = pytest.importorskip("onnx")
    proto = onnx.load(str(path))
    weights = {node.input[0] for node in proto.graph.node if node.op_type == "DequantizeLinear"}
    zero_points = {
        node.input[2]
        for node in proto.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in {each.name for each in proto.graph.initializer}
    }
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.UINT8 and tensor.name in weights | zero_points:
            values = onnx.numpy_helper.to_array(tensor).astype(np.int16) - 128
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.int8), tensor.name))
    bare = target.with_name(f"bare-{target.name}")
    onnx.save(proto, str(bare))
    metadata.write_spec(bare, target, read_spec(path))
    return target


@pytest.mark.slow
def test_onnx_int8_answers_there_as_here_and_would_not_with_signed_weights(
    avx2: list[str], pixels: Path, exported: Path, tmp_path: Path
) -> None:
    signed = _with_signed_weights(exported / "tiny-int8.onnx", tmp_path / "signed.onnx")
    models = [exported / "tiny-int8.onnx", exported / "tiny-dynamic.onnx", signed]
    here, there = _answers([sys.executable], pixels, models), _answers(avx2, pixels, models)
    for name in ("tiny-int8.onnx on onnxruntime", "tiny-dynamic.onnx on onnxruntime"):
        np.testing.assert_allclose(there[name], here[name], atol=1e-6)
    if not processor.adds_in_16_bits():
        lost = np.abs(there["signed.onnx on onnxruntime"] - here["signed.onnx on onnxruntime"])
        assert lost.max() > 0.05, "products are cut off there, so this test can fail"


@pytest.mark.slow
def test_the_bundled_files_answer_there_as_here(avx2: list[str], pixels: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.load(pixels)[2:])
    models = [bundled.path(bundled.DEFAULT)]
    here, there = (_answers(python, tmp_path / "one.npy", models) for python in ([sys.executable], avx2))
    for name, answers in here.items():
        np.testing.assert_allclose(there[name], answers, atol=1e-6)


@pytest.mark.slow
def test_predict_names_a_file_that_was_not_verified_there(avx2: list[str], exported: Path, tmp_path: Path) -> None:
    if processor.kind() == "x86-64 with AVX2":
        pytest.skip("this processor is of that kind")
    Image.new("L", (224, 224), 200).save(tmp_path / "image.png")
    command = [*avx2, "-m", "pneumo_edge", "predict", str(tmp_path / "image.png"), "--model"]
    done = subprocess.run([*command, str(exported / "tiny-int8.onnx")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("warning: tiny-int8.onnx")]
    assert "x86-64 with AVX2" in line and processor.kind() in line


@pytest.mark.slow
def test_every_file_says_where_it_was_verified(exported: Path) -> None:
    for row in FORMATS.values():
        verification = read_spec(exported / row.file_name("tiny")).verification
        assert verification
        assert (verification.processor, verification.by_processor) == (processor.kind(), row.by_processor)
        proof = json.loads((exported / f"{row.file_name('tiny')}.proof.json").read_bytes())
        assert proof["verification"]["processor"] == processor.kind()


def _spec(tiny_models: Path, **changes: Any) -> Any:
    verification = VerificationSpec({"onnxruntime": "1"}, 3, "no data", {}, {})
    spec = read_spec(tiny_models / "tiny-fp32.onnx")
    format_name = changes.pop("format", "int8")
    return replace(spec, format=format_name, verification=replace(verification, **changes))


def test_a_remark_is_made_where_the_processor_matters_and_is_another(tiny_models: Path) -> None:
    here = processor.kind()
    assert verified.remark("x", _spec(tiny_models, processor=here, by_processor=True)) is None
    assert verified.remark("x", _spec(tiny_models, processor=_ELSEWHERE, by_processor=False)) is None
    said = verified.remark("x.onnx", _spec(tiny_models, processor=_ELSEWHERE, by_processor=True))
    assert said and said.startswith("x.onnx ") and _ELSEWHERE in said and here in said


def test_of_an_older_file_it_is_made_where_it_is_onnx_int8(tiny_models: Path) -> None:
    said = verified.remark("x.onnx", _spec(tiny_models))
    assert said and "does not say" in said
    for other in ("fp32", "fp16", "dynamic"):
        assert verified.remark("x.onnx", _spec(tiny_models, format=other)) is None
    assert verified.remark("x", _spec(tiny_models, engines={"litert": "2", "tflite-runtime": "2"})) is None
    assert all(verified.remark(name, read_spec(bundled.path(name))) is None for name in bundled.NAMES)


@pytest.mark.parametrize(
    ("architecture", "features", "kind"),
    [
        ("x86-64", {"AVX512VNNI", "AVX512F", "AVX2"}, "x86-64 with AVX512-VNNI"),
        ("x86-64", {"AVX512F", "AVX2", "SSE41"}, "x86-64 with AVX512"),
        ("x86-64", {"AVX_VNNI", "AVX2"}, "x86-64 with AVX-VNNI"),
        ("x86-64", {"AVX2", "SSE41"}, "x86-64 with AVX2"),
        ("x86-64", set(), "x86-64"),
        ("arm64", {"ASIMD", "ASIMDDP"}, "arm64 with dot product"),
        ("riscv64", {"AVX2"}, "riscv64"),
    ],
)
def test_kinds_of_processors(architecture: str, features: set[str], kind: str) -> None:
    assert processor.name(architecture, features) == kind


def test_the_page_holds_the_table_of_what_was_asked() -> None:
    root = Path(__file__).parents[2]
    record = records.loads(processors.Record, (root / processors.RESULTS).read_bytes())
    assert processors.table(record) in (root / formats_page.PAGE).read_text(encoding="utf-8")
    assert not [row for row in record.compared if row.model.endswith(".onnx") and row.flips]


@pytest.mark.slow
def test_info_and_predict_remark_on_a_file_from_another_processor(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny-int8.onnx"
    spec = read_spec(exported / path.name)
    assert spec.verification
    metadata.write_spec(
        exported / path.name, path, replace(spec, verification=replace(spec.verification, processor=_ELSEWHERE))
    )
    Image.new("L", (224, 224), 200).save(tmp_path / "image.png")
    program = [sys.executable, "-m", "pneumo_edge"]
    info = subprocess.run([*program, "info", str(path)], capture_output=True, text=True, check=True)
    assert f"; {_ELSEWHERE}" in info.stdout and "NOT VERIFIED" in info.stdout
    for model, remarked in ((path, True), (exported / path.name, False)):
        command = [*program, "predict", str(tmp_path / "image.png"), "--model", str(model), "--jsonl"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert ("warning: tiny-int8.onnx was not verified" in done.stderr) == remarked
        assert json.loads(done.stdout)["label"], "the remark is not in the answers"
