"""What is added to a benchmark's results, for tests of what reads it."""

from __future__ import annotations

from dataclasses import replace

from pneumo_edge.benchmarks.instruments import OWN
from pneumo_edge.benchmarks.protocol import Unit
from pneumo_edge.benchmarks.results import Results
from pneumo_edge.benchmarks.supplement.records import (
    CrossCheck,
    EnergySample,
    Installation,
    Limit,
    ModelGraph,
    OperatorProfile,
    Reading,
    Supplement,
    ThroughputSample,
    Unavailable,
)
from pneumo_edge.runtime.engines.graph import Graph

WORK = {"efficientnetb0": 390_000_000, "mobilenetv2": 300_000_000}
OPERATORS = {"efficientnetb0": {"CONV_2D": 200, "MUL": 39}, "mobilenetv2": {"CONV_2D": 67}}


def unit(backbone: str, file_format: str = "fp32", threads: int = 1) -> Unit:
    return Unit(f"{backbone}-{file_format}.tflite", "litert", threads)


def graph(name: str) -> ModelGraph:
    backbone = name.partition("-")[0]
    operators = OPERATORS[backbone]
    return ModelGraph(name, Graph(operators, 4_000_000, WORK[backbone]), {"litert": operators["CONV_2D"]})


def readings(instrument: str, median_ms: float, **told: float) -> list[Reading]:
    return [
        Reading(instrument, number, 99, median_ms * (1 + number / 100), told, "Result is : VALID\n")
        for number in range(5)
    ]


def supplement(results: Results) -> Supplement:
    """One with every part, for results that have the file mobilenetv2-fp32.tflite."""
    measured = unit("mobilenetv2")
    return Supplement(
        installations=(Installation("litert", "ai-edge-litert", "2.3.0", 61_400_000, {"numpy": 78_000_000}),),
        limits=(
            Limit("matrix product (numpy)", "float32", 1, 100e9),
            Limit("convolution (LiteRT)", "float32", 1, 120e9),
            Limit("convolution (LiteRT)", "float32", 2, 240e9),
            Limit("convolution (LiteRT)", "int8", 1, 400e9),
        ),
        graphs=tuple(graph(model.file) for model in results.models),
        profiles=(OperatorProfile(measured, 50, {"Conv": 3.0, "Mul": 1.0}),),
        energy=(EnergySample(measured, 1000, 5.0, 60.0, 2.0, 10.0),),
        throughput=(
            ThroughputSample(measured, 1, 500, 250.0),
            ThroughputSample(replace(measured, threads=2), 1, 800, 400.0),
            ThroughputSample(measured, 2, 900, 450.0),
        ),
        cross_checks=(
            CrossCheck(
                measured,
                (
                    *readings(OWN.name, 4.0),
                    *readings("litert-benchmark", 4.2),
                    *readings("MLPerf LoadGen", 4.8, early_stopping_latency_ss=5_500_000),
                ),
            ),
        ),
        unavailable=(Unavailable("operators", "litert", "its Python package offers no profile of operators"),),
    )
