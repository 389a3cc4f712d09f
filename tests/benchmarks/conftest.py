from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pneumo_edge.benchmarks.protocol import MIN_PROCESSES, BenchmarkSettings, Unit
from pneumo_edge.benchmarks.results import (
    AAUnit,
    Calls,
    Conditions,
    LatencySamples,
    Machine,
    MemorySample,
    Results,
    TestSet,
    UnitResult,
)
from pneumo_edge.converters.metadata import write_spec
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.scoring.models import Model, Skipped
from tests import specs

MakeResults = Callable[..., Results]

STAGES = ("read", "decode", "resize", "tensor", "inference", "decision")


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
    settings = BenchmarkSettings.of("rapid", processes=processes)
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
        twins=(AAUnit(units[-1].unit, _make_latency(list(speeds.values())[-1], processes, 99)),),
        conditions=tuple(Conditions(process, "litert", 1, 60.0, 0.0, 10, 0.5, "") for process in range(processes)),
        skipped=(Skipped("other.onnx", "onnxruntime", "it is not installed", failed=False),),
    )


@pytest.fixture(scope="session")
def make_results() -> MakeResults:
    return _make_results


@pytest.fixture(scope="session")
def two_backbones(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Path:
    """A folder with a TFLite file for each of two backbones that are in truth the same tiny network."""
    folder = tmp_path_factory.mktemp("models")
    outputs = read_spec(tiny_models / "tiny-fp32.tflite").outputs
    for backbone in ("efficientnetb0", "mobilenetv2"):
        raw = tiny_models / "bare" / "tiny-fp32.tflite"
        write_spec(raw, folder / f"{backbone}-fp32.tflite", replace(specs.make_spec(backbone, "fp32"), outputs=outputs))
    return folder
