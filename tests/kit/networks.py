"""Small networks in ONNX, of every kind of input and output that a kit describes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumo_edge.spec import (
    COMPONENTS,
    ConformalSpec,
    DecisionSpec,
    InputCheckSpec,
    InputSpec,
    ModelSpec,
    OutputSpec,
    ScalingSpec,
)
from pneumo_edge.spec.attaching import attach
from tests.specs import make_spec

_IMAGENET = ScalingSpec(
    tuple(1 / 255 / std for std in (0.229, 0.224, 0.225)), (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225)
)
_CLASSES = ("NORMAL", "BACTERIA", "VIRUS")


def of_another_tool(folder: Path) -> Path:
    """As PyTorch exports one: channels first, ImageNet's normalization outside, logits."""
    size = InputSpec(40, 50, 3, "float32", "bilinear", layout="nchw", scaling=_IMAGENET)
    spec = replace(make_spec("other", "adopted"), input=size, scores="logits")
    weights = np.array([[-1.0, 1.0], [0.2, 0.3], [0.0, -0.1]], np.float32)
    return _write(folder / "other.onnx", spec, weights, softmax=False)


def of_three_classes(folder: Path) -> Path:
    """With a bound for each class, and an input check."""
    size = InputSpec(48, 48, 3, "float32", "bilinear", layout="nchw")
    least = {"NORMAL": 0.2, "BACTERIA": 0.3, "VIRUS": 0.4}
    bounds = ConformalSpec(0.9, None, None, dict.fromkeys(_CLASSES, 5), "nothing", least)
    spec = replace(
        make_spec("three", "fp32"),
        class_names=_CLASSES,
        input=size,
        decision=DecisionSpec(None, None, "argmax", "nothing"),
        outputs=(OutputSpec(COMPONENTS, (3,), "The means of the channels."),),
        conformal=bounds,
        input_check=InputCheckSpec((100.0, 110.0, 120.0), (20.0, 30.0, 40.0), (1, 2), 1.5, 0.9, "nothing"),
    )
    weights = np.array([[0.01, 0.0, -0.01], [0.0, 0.005, 0.0], [0.0, 0.0, 0.004]], np.float32)
    return _write(folder / "three.onnx", spec, weights, softmax=True)


def of_integers(folder: Path) -> Path:
    """Of one channel, quantized to int8 outside, with one logit."""
    scaling = ScalingSpec((1 / 127.5,), (-1.0,), 1 / 120, -3)
    size = InputSpec(32, 56, 1, "int8", "bilinear", layout="nchw", scaling=scaling)
    spec = replace(make_spec("integers", "adopted"), input=size, scores="logit")
    return _write(folder / "integers.onnx", spec, np.array([[0.02]], np.float32), softmax=False)


def _write(path: Path, spec: ModelSpec, weights: Any, *, softmax: bool) -> Path:
    """Scores from the mean of each channel; the file carries the spec."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    size, scores = spec.input, weights.shape[1]
    kind = {"float32": number, "int8": onnx.TensorProto.INT8}[size.dtype]
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=number),
        helper.make_node("GlobalAveragePool", ["pixels"], ["means"]),
        helper.make_node("Flatten", ["means"], [COMPONENTS]),
        helper.make_node("MatMul", [COMPONENTS, "weights"], ["sums" if softmax else "scores"]),
        *([helper.make_node("Softmax", ["sums"], ["scores"])] if softmax else []),
    ]
    outputs = [helper.make_tensor_value_info("scores", number, [1, scores])]
    outputs += [helper.make_tensor_value_info(each.name, number, [1, each.size]) for each in spec.outputs]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", kind, [1, size.channels, size.height, size.width])],
        outputs,
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    bare = path.with_name(f"bare-{path.name}")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(bare))
    attach(bare, path, spec)
    return path
