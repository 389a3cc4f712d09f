"""Verdicts on a 64-bit Arm against this machine's; ``make arm64`` makes an emulated one and says here where it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pneumo_edge import Classifier, bundled
from pneumo_edge.benchmarks import results
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.errors import ExitCode
from pneumo_edge.formats import FORMATS
from pneumo_edge.runtime.classifier import read_spec
from tests.benchmarks.ssh import sshd

pytestmark = pytest.mark.slow

_PROGRAM = Path(__file__).with_name("arm64") / "verdicts.py"
_FURTHER = Path(os.environ.get("PNEUMO_EDGE_MODELS", "models"))
#: Those of the formats that this machine's engines run fast enough for an emulated one to follow.
_FORMATS = ("fp32.tflite", "fp32.onnx", "int8.onnx")
_IMAGES = 8


@pytest.fixture(scope="module")
def arm64() -> str:
    python = os.environ.get("PNEUMO_EDGE_ARM64_PYTHON")
    if not python:
        pytest.skip("no arm64 Python in PNEUMO_EDGE_ARM64_PYTHON; `make arm64` makes one and runs this test with it")
    return python


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    make_phantom(folder / "data", seed=3, train_per_class=_IMAGES // 2, test_per_class=1)
    (folder / "some").mkdir()
    for index, path in enumerate(sorted((folder / "data" / "train").rglob("*.jpeg"))):
        shutil.copy(path, folder / "some" / f"{index}.jpeg")
    return folder / "some"


@pytest.fixture(scope="module")
def models() -> list[Path]:
    further = [_FURTHER / f"{name}-{ending}" for name in bundled.NAMES for ending in _FORMATS]
    return [*map(bundled.path, bundled.NAMES), *(path for path in further if path.exists())]


def _ask(python: str, images: Path, models: list[Path]) -> dict[str, Any]:
    command = [python, str(_PROGRAM), str(images), *map(str, models)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_verdicts_are_this_machines_within_the_bound_of_the_format(
    arm64: str, images: Path, models: list[Path]
) -> None:
    there, here = _ask(arm64, images, models), _ask(sys.executable, images, models)
    assert there["machine"] in ("aarch64", "arm64")
    for model in models:
        spec = read_spec(model)
        bounds = FORMATS[f"{model.suffix[1:]}-{spec.format}"].bounds
        on_arm, on_this = there["probabilities"][str(model)], here["probabilities"][str(model)]
        assert set(on_arm) == set(on_this)
        for engine, said in on_arm.items():
            differences = [abs(a - b) for a, b in zip(said, on_this[engine], strict=True)]
            largest, mean = max(differences), sum(differences) / len(differences)
            print(f"{model.name} on {engine}: largest difference {largest:.2g}, mean {mean:.2g}")
            assert largest <= bounds.max_difference
            assert mean <= bounds.mean_difference


def test_a_benchmark_through_ssh_answers_as_here(arm64: str, tmp_path: Path) -> None:
    make_phantom(tmp_path / "data", seed=5, train_per_class=1, test_per_class=4)
    few = ("--engine", "litert", "--processes", "1", "--queries", "12", "--seconds", "0")
    command = [
        sys.executable,
        "-m",
        "pneumo_edge",
        "benchmark",
        bundled.NAMES[0],
        "--data",
        str(tmp_path / "data"),
        *few,
    ]
    table = tmp_path / "devices.toml"
    table.write_text(f'[emulated]\nhost = "board"\npython = "{arm64}"\n')
    with sshd(tmp_path / "sshd", "127.0.0.1") as host:
        done = subprocess.run(
            [*command, "--devices", str(table), "--out", str(tmp_path / "out"), "--clean"],
            env=host.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        # pip asks rustc for its version, and rustup then makes a folder.
        assert {each.name for each in host.home.iterdir()} <= {".rustup"}
    assert done.returncode in (ExitCode.OK, ExitCode.SOME_UNJUDGED), done.stderr
    found = results.read(tmp_path / "out" / "emulated" / "results.json")
    assert (found.machine.device, found.machine.architecture) == ("emulated", "aarch64")
    (unit,) = found.units
    classifier = Classifier(bundled.NAMES[0], engine="litert")
    for name, probability in unit.probabilities.items():
        here = classifier.predict(tmp_path / "data" / name).probabilities["PNEUMONIA"]
        assert here == pytest.approx(probability, abs=0.01)
