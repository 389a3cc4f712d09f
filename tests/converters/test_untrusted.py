"""Model files that crash an engine's native code, each whole by its own hash and proof, as somebody may make them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pneumo_edge._util import files, records
from pneumo_edge.converters import metadata, proof
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.runtime.engines.inspection import inspect
from pneumo_edge.spec import SPEC_NAME, model_sha256

pytestmark = pytest.mark.slow

_NAME = "tiny-int8.tflite"
#: Far behind the end of the file; tflite-runtime follows every offset unchecked.
_NOWHERE = (0x7FFFFFF0).to_bytes(4, "little")


def _crash_tflite_runtime(model: Path, target: Path) -> None:
    """Let the flatbuffer's first offset lead out of the file."""
    pytest.importorskip("tflite_runtime")
    content = model.read_bytes()
    damaged = _NOWHERE + content[4 : content.index(b"PK\x03\x04")]
    target.write_bytes(damaged)
    with zipfile.ZipFile(target, "a") as archive:
        spec = replace(read_spec(model), model_sha256=model_sha256(damaged, ".tflite"))
        archive.writestr(SPEC_NAME, records.dumps(spec))


def _crash_litert(model: Path, target: Path) -> None:
    """Give the image's quantization a zero point that no 8-bit number can be."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    builder = pytest.importorskip("flatbuffers").Builder()
    network = schema.ModelT.InitFromPackedBuf(model.read_bytes())
    (graph,) = network.subgraphs
    quantize = next(each for each in graph.operators if graph.inputs[0] in each.inputs)
    graph.tensors[quantize.outputs[0]].quantization.zeroPoint = [-2_097_280]
    builder.Finish(network.Pack(builder), b"TFL3")
    bare = target.with_name(f"bare-{target.name}")
    bare.write_bytes(bytes(builder.Output()))
    metadata.write_spec(bare, target, read_spec(model))


_CRASHES = {"tflite-runtime": _crash_tflite_runtime, "litert": _crash_litert}
_each = pytest.mark.parametrize("engine", _CRASHES)


@pytest.fixture
def hostile(engine: str, exported: Path, tmp_path: Path) -> Path:
    """A file that crashes the engine, with a proof and a reference set that fit."""
    model = tmp_path / _NAME
    _CRASHES[engine](exported / _NAME, model)
    shutil.copy(exported / "tiny-reference.npz", tmp_path)
    replace(proof.load(exported / _NAME), sha256=files.sha256(model)).save(model)
    return model


def _pneumo_edge(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pneumo_edge", *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def _without_litert(folder: Path) -> dict[str, str]:
    """An environment in which ai-edge-litert is not to be found, as on a device that has only tflite-runtime."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "finder = sys.meta_path[-1]\n"
        "class Hiding:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        return None if name.startswith('ai_edge_litert') else finder.find_spec(name, path, target)\n"
        "sys.meta_path[-1] = Hiding()\n"
    )
    found = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(found)}


@_each
def test_the_engine_does_crash(engine: str, hostile: Path) -> None:
    """Else the other tests would show nothing."""
    program = (
        "import sys; from pathlib import Path; from pneumo_edge.runtime import engines\n"
        "engines.load(Path(sys.argv[1]), engines.ENGINES[sys.argv[2]])"
    )
    done = subprocess.run([sys.executable, "-c", program, hostile, engine], capture_output=True, check=False)
    assert done.returncode == -signal.SIGSEGV


@_each
def test_info_names_the_engine_that_crashes_and_says_the_rest(engine: str, hostile: Path) -> None:
    done = _pneumo_edge("info", hostile)
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.split("  ")[0].strip(): line for line in done.stdout.splitlines()}
    assert f"{engine} on {hostile} crashed (signal SIGSEGV)" in lines[f"on {engine}"]
    assert "tiny-int8" in lines["name"]


@_each
def test_verify_ends_in_one_line(engine: str, hostile: Path, tmp_path: Path) -> None:
    environment = _without_litert(tmp_path / "site") if engine == "tflite-runtime" else {}
    done = _pneumo_edge("verify", hostile, **environment)
    assert done.returncode == 3
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: an engine on {hostile} crashed (signal SIGSEGV); expected a complete model file")


def test_a_whole_file_is_verified_without_litert_too(exported: Path, tmp_path: Path) -> None:
    done = _pneumo_edge("verify", exported / "tiny-fp32.tflite", **_without_litert(tmp_path / "site"))
    assert done.returncode == 0, done.stderr
    assert "litert:" not in done.stdout and "tflite-runtime: " in done.stdout


@pytest.mark.parametrize("wrong", ["classes", "size"])
def test_verify_refuses_a_spec_at_odds_with_its_file(
    wrong: str, exported: Path, tiny_models: Path, tmp_path: Path
) -> None:
    spec = read_spec(exported / _NAME)
    changed = {
        "classes": replace(spec, class_names=(*spec.class_names, "COVID"), conformal=None),
        "size": replace(spec, input=replace(spec.input, height=64)),
    }
    metadata.write_spec(tiny_models / "bare" / _NAME, tmp_path / _NAME, changed[wrong])
    shutil.copy(exported / "tiny-reference.npz", tmp_path)
    replace(proof.load(exported / _NAME), sha256=files.sha256(tmp_path / _NAME)).save(tmp_path / _NAME)
    done = _pneumo_edge("verify", tmp_path / _NAME)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert "as its ModelSpec says" in line


def test_damaged_files_of_every_kind_end_in_a_report(
    exported: Path, tmp_path: Path, flip: Callable[[Path, Path, int], None]
) -> None:
    for seed in range(12):
        for name in (_NAME, "tiny-fp32.onnx"):
            flip(exported / name, tmp_path / name, seed)
            inspection = inspect(tmp_path / name)
            assert all(report.error or report.delegation for report in inspection.engines.values())


@pytest.fixture(scope="session")
def flip() -> Callable[[Path, Path, int], None]:
    """Copies a file with a few bits of it flipped."""
    import random

    def copy(model: Path, target: Path, seed: int) -> None:
        content, random_ = bytearray(model.read_bytes()), random.Random(seed)
        for _ in range(3):
            content[random_.randrange(len(content))] ^= 1 << random_.randrange(8)
        target.write_bytes(content)

    return copy
