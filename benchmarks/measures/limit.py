"""Measures the highest rate of multiply-adds of this machine, to compare model files with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pneumo_edge._util import extras, native_output
from pneumo_edge.benchmarks.supplement.records import Arithmetic, Limit

#: Environment variables that set the number of threads of numpy's matrix product.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

#: Side of the matrices: a product of 2^30 multiply-adds.
_SIDE = 1024
#: A pointwise convolution of 2^28 multiply-adds: side of its square map, and channels in and out.
_MAP, _CHANNELS = 16, 1024
_LEAST_CALLS = 5


@dataclass(frozen=True)
class LimitTask:
    """Number of threads, duration in seconds, and a folder for a file."""

    threads: int
    seconds: float
    folder: str


def matrix_product(task: LimitTask) -> Limit:
    """Multiply large float32 matrices with numpy; :data:`THREAD_VARIABLES` hold the number of threads.

    The limit is the rate of the fastest call, not the average.
    """
    one, other = np.random.default_rng(0).standard_normal((2, _SIDE, _SIDE), dtype=np.float32)
    out = np.empty_like(one)
    seconds = _fastest(lambda: np.matmul(one, other, out=out), task.seconds)
    return Limit("matrix product (numpy)", "float32", task.threads, _SIDE**3 / seconds)


def int8_convolution(task: LimitTask) -> Limit:
    """Run a large pointwise convolution in int8 with LiteRT.

    Raises:
        MissingExtraError: ai-edge-litert is not installed.
    """
    return _convolution(task, "int8")


def float32_convolution(task: LimitTask) -> Limit:
    """Run a large pointwise convolution in float32 with LiteRT.

    Raises:
        MissingExtraError: ai-edge-litert is not installed.
    """
    return _convolution(task, "float32")


def _convolution(task: LimitTask, arithmetic: Arithmetic) -> Limit:
    library = extras.need("ai_edge_litert.interpreter", "litert")
    path = Path(task.folder) / f"convolution-{arithmetic}.tflite"
    write_convolution(path, arithmetic, _MAP, _CHANNELS)
    with native_output.quiet_stderr():
        interpreter = library.Interpreter(model_path=str(path), num_threads=task.threads)
        interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    generator = np.random.default_rng(0)
    interpreter.set_tensor(given["index"], generator.integers(-127, 128, given["shape"]).astype(given["dtype"]))
    seconds = _fastest(interpreter.invoke, task.seconds)
    return Limit("convolution (LiteRT)", arithmetic, task.threads, _MAP**2 * _CHANNELS**2 / seconds)


def write_convolution(path: Path, arithmetic: Arithmetic, side: int, channels: int) -> None:
    """Write a TFLite file that holds one convolution with a 1 x 1 kernel and random weights.

    Args:
        path: The file to write. Its input and output have shape (1, side, side, channels).
        arithmetic: int8 uses a scale of 1/64 for the input, 1/127 for the weights of each channel and 1 for the output,
            with zero points of 0.
        side: Height and width of the map.
        channels: Channels in and out.

    Raises:
        MissingExtraError: ai-edge-litert is not installed.
    """
    schema: Any = extras.need("ai_edge_litert.schema_py_generated", "litert")
    flatbuffers: Any = extras.need("flatbuffers", "litert")
    integer = arithmetic == "int8"
    activation = schema.TensorType.INT8 if integer else schema.TensorType.FLOAT32
    weights = np.random.default_rng(1).integers(-127, 128, (channels, 1, 1, channels))
    weights = weights.astype(np.int8 if integer else np.float32)
    bias = np.zeros(channels, np.int32 if integer else np.float32)

    def tensor(name: str, shape: list[int], kind: int, buffer: int, scales: list[float]) -> Any:
        quantization = None
        if integer:
            zeros = [0] * len(scales)
            quantization = schema.QuantizationParametersT(scale=scales, zeroPoint=zeros, quantizedDimension=0)
        return schema.TensorT(shape=shape, type=kind, buffer=buffer, name=name, quantization=quantization)

    image, per_channel = [1, side, side, channels], [1 / 127] * channels
    tensors = [
        tensor("in", image, activation, 0, [1 / 64]),
        tensor("weights", list(weights.shape), activation, 1, per_channel),
        tensor("bias", [channels], schema.TensorType.INT32 if integer else activation, 2, [1 / 64 / 127] * channels),
        tensor("out", image, activation, 0, [1.0]),
    ]
    operator = schema.OperatorT(
        inputs=[0, 1, 2],
        outputs=[3],
        builtinOptionsType=schema.BuiltinOptions.Conv2DOptions,
        builtinOptions=schema.Conv2DOptionsT(strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1),
    )
    convolution = schema.BuiltinOperator.CONV_2D
    model = schema.ModelT(
        version=3,
        operatorCodes=[
            schema.OperatorCodeT(
                builtinCode=convolution, deprecatedBuiltinCode=convolution, version=3 if integer else 1
            )
        ],
        subgraphs=[schema.SubGraphT(tensors=tensors, inputs=[0], outputs=[3], operators=[operator])],
        buffers=[
            schema.BufferT(),
            *(schema.BufferT(data=np.frombuffer(data.tobytes(), np.uint8)) for data in (weights, bias)),
        ],
    )
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())


def _fastest(call: Callable[[], object], seconds: float) -> float:
    """Wall time of the fastest call within a number of seconds, in seconds; the first call does not count."""
    call()
    walls: list[int] = []
    while len(walls) < _LEAST_CALLS or sum(walls) < 1e9 * seconds:
        started = time.perf_counter_ns()
        call()
        walls.append(time.perf_counter_ns() - started)
    return min(walls) / 1e9
