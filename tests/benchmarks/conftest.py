from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo_edge.benchmarks import results
from pneumo_edge.benchmarks.protocol import MIN_PROCESSES, Settings, Unit
from pneumo_edge.benchmarks.results import (
    Calls,
    Conditions,
    LatencySamples,
    Machine,
    MemorySample,
    Model,
    Results,
    TestSet,
    Twin,
    UnitResult,
)
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.data.sources import PHANTOM_MARKER
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import DataSpec, DecisionSpec, InputSpec, ModelSpec, TrainingSpec

MakeResults = Callable[..., Results]

STAGES = ("read", "decode", "resize", "tensor", "inference", "decision")
SIDE = 224


def _make_spec(backbone: str, file_format: str) -> ModelSpec:
    return ModelSpec(
        name=f"{backbone}-{file_format}",
        backbone=backbone,
        format=file_format,
        class_names=("NORMAL", "PNEUMONIA"),
        input=InputSpec(SIDE, SIDE, 3, "float32", "bilinear"),
        decision=DecisionSpec("PNEUMONIA", 0.5, "fixed", "nothing"),
        temperature=1.0,
        data=DataSpec("phantom images", False, "none", {}, "none"),
        training=TrainingSpec("none", 0, "random", 0, {}),
        versions={},
        notice="for tests only",
    )


def _make_calls(medians_ms: float, rounds: int, seed: int, *, stages: bool) -> Calls:
    generator = np.random.default_rng(seed)
    wall = [int(1e6 * medians_ms * share) for share in generator.uniform(0.9, 1.3, rounds)]
    return Calls(
        rounds=tuple(range(rounds)),
        wall_ns=tuple(wall),
        cpu_ns=tuple(int(0.99 * sample) for sample in wall),
        stages_ms={name: tuple(generator.uniform(0.1, 1.0, rounds).tolist()) for name in STAGES} if stages else {},
    )


def _make_latency(median_ms: float, processes: int, seed: int) -> tuple[LatencySamples, ...]:
    """As many calls as the rapid preset asks for, where they take 4 ms."""
    return tuple(
        LatencySamples(
            30_000_000,
            9_000_000,
            _make_calls(median_ms, 160, 100 * seed + process, stages=False),
            _make_calls(median_ms + 1, 20, 200 * seed + process, stages=True),
        )
        for process in range(processes)
    )


def _make_results(
    *,
    real: bool = True,
    initial_weights: str = "ImageNet",
    speeds: dict[str, float] | None = None,
    processes: int = MIN_PROCESSES,
) -> Results:
    """Results of two backbones in fp32 and int8 on one engine, with samples drawn around known medians."""
    settings = Settings.of("rapid", processes=processes)
    labels = {f"test/{index}": index % 2 for index in range(40)}
    generator = np.random.default_rng(0)
    speeds = speeds or {"efficientnetb0": 8.0, "mobilenetv2": 4.0}
    models, units = [], []
    for number, (backbone, file_format) in enumerate((b, f) for b in speeds for f in ("fp32", "int8")):
        name = f"{backbone}-{file_format}.tflite"
        size = {"fp32": 8_000_000, "int8": 2_000_000}[file_format]
        models.append(
            Model(name, size, "0" * 64, backbone, file_format, 0.5, "quick", initial_weights, "some images", real)
        )
        scores = [0.3 * label + 0.7 * float(generator.uniform()) for label in labels.values()]
        units.append(
            UnitResult(
                Unit(name, "litert", 1),
                "2.3.0",
                "XNNPACK",
                1,
                dict(zip(labels, scores, strict=True)),
                tuple(MemorySample(50 * 2**20, 60 * 2**20 + number) for number in range(3)),
                _make_latency(speeds[backbone], processes, number),
            )
        )
    return Results(
        started="2026-01-02T03:04:05+00:00",
        duration_s=12.5,
        machine=Machine("A processor", "x86_64", 2, 4 * 2**30, "Linux", "CPython 3.11"),
        versions={"numpy": "1.26.4"},
        settings=settings,
        test_set=TestSet(
            "some images", real, "none", ("NORMAL", "PNEUMONIA"), labels, {name: name for name in labels}, {}, "f" * 64
        ),
        models=tuple(models),
        units=tuple(units),
        twins=(Twin(units[-1].unit, _make_latency(list(speeds.values())[-1], processes, 99)),),
        conditions=tuple(Conditions(process, "litert", 1, 60.0, 0.0, 10, 0.5, "") for process in range(processes)),
        skipped=(results.Skipped("other.onnx", "onnxruntime", "it is not installed", failed=False),),
    )


def _make_image(path: Path, brightness: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 60, (SIDE + 8, SIDE + 8)) + brightness
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def make_results() -> MakeResults:
    return _make_results


@pytest.fixture
def phantom_folder(tmp_path: Path) -> Path:
    """Class folders of noise, PNEUMONIA brighter, and one test image that is not whole."""
    root = tmp_path / "phantom"
    for split, count in (("train", 2), ("test", 6)):
        for label, class_name in enumerate(("NORMAL", "PNEUMONIA")):
            for index in range(count):
                _make_image(root / split / class_name / f"{index}.png", 40 + 100 * label, seed=index)
    whole = (root / "test" / "NORMAL" / "0.png").read_bytes()
    (root / "test" / "NORMAL" / "broken.png").write_bytes(whole[: len(whole) // 2])
    (root / PHANTOM_MARKER).write_text("not real\n")
    return root


@pytest.fixture
def fake_model(inert_tflite: Path, tmp_path: Path) -> Path:
    """A TFLite file that carries a spec, but that no engine runs."""
    model = tmp_path / "fake.tflite"
    write_spec(inert_tflite, model, _make_spec("mobilenetv2", "fp32"))
    return model


@pytest.fixture(scope="session")
def two_backbones(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Path:
    """A folder with a TFLite file for each of two backbones that are in truth the same tiny network."""
    folder = tmp_path_factory.mktemp("models")
    outputs = read_spec(tiny_models / "tiny-fp32.tflite").outputs
    for backbone in ("efficientnetb0", "mobilenetv2"):
        raw = tiny_models / "bare" / "tiny-fp32.tflite"
        write_spec(raw, folder / f"{backbone}-fp32.tflite", replace(_make_spec(backbone, "fp32"), outputs=outputs))
    return folder
