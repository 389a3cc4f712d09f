"""Preprocessing and decision in JavaScript give what Python gives; run in Node.js."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image

from pneumo_edge import web
from pneumo_edge._util import records
from pneumo_edge.runtime import pixels
from pneumo_edge.runtime.classifier import Classifier, as_probabilities
from pneumo_edge.spec import ConformalSpec, InputSpec, ModelSpec, ScalingSpec
from tests import specs

_SITE = Path(web.__file__).with_name("site")
#: Pillow before 13 has another order of passes for tall images.
_MOST_DIFFERENCE = 0 if int(PIL.__version__.split(".")[0]) >= 13 else 1
_PROGRAM = """
const { readFileSync } = require("node:fs");
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
Promise.all(["preprocess.js", "decision.js"].map((name) => import(process.argv[1] + name))).then(([p, d]) => {
  const calls = {
    resize: ([grey, ...sizes]) => Buffer.from(p.resize(bytes(grey), ...sizes)).toString("base64"),
    grey: ([rgba]) => Buffer.from(p.greyFromRgba(bytes(rgba))).toString("base64"),
    tensor: ([input, grey]) => ({ shape: p.shapeOf(input), values: Array.from(p.toTensor(input, bytes(grey))) }),
    answer: ([spec, outputs]) => d.answer(spec, outputs),
    refused: ([spec, outputs]) => {
      try { return d.answer(spec, outputs); } catch (error) { return error.message; }
    },
  };
  const asked = JSON.parse(readFileSync(0, "utf-8"));
  process.stdout.write(JSON.stringify(asked.map(([name, args]) => calls[name](args))));
});
"""


def _ask(node: str, calls: list[tuple[str, list[Any]]]) -> list[Any]:
    done = subprocess.run(
        [node, "--eval", _PROGRAM, f"{_SITE.as_uri()}/"], input=json.dumps(calls), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def _encoded(array: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def test_the_resize_is_that_of_pillow(node: str) -> None:
    random = np.random.default_rng(0)
    sizes = [tuple(random.integers(1, 600, 4).tolist()) for _ in range(60)]
    sizes += [(1, 1, 7, 9), (224, 224, 224, 224), (224, 300, 224, 224), (3000, 31, 224, 224), (28, 28, 512, 512)]
    pictures = [random.integers(0, 256, (height, width)).astype(np.uint8) for width, height, *_ in sizes]
    # Sharp edges, where a rounded intermediate value would show.
    pictures[-3:] = [np.where(picture < 128, 0, 255).astype(np.uint8) for picture in pictures[-3:]]
    found = _ask(
        node, [("resize", [_encoded(grey), *size]) for grey, size in zip(pictures, sizes, strict=True)]
    )  # fmt: skip
    for size, picture, text in zip(sizes, pictures, found, strict=True):
        expected = Image.fromarray(picture).resize(size[2:], Image.Resampling.BILINEAR)
        got = np.frombuffer(base64.b64decode(text), np.uint8).reshape(expected.size[::-1])
        difference = np.abs(got.astype(int) - np.asarray(expected, int))
        assert difference.max() <= _MOST_DIFFERENCE, size


def test_grey_is_that_of_pillow(node: str) -> None:
    rgba = np.random.default_rng(1).integers(0, 256, (200, 300, 4)).astype(np.uint8)
    rgba[0, :256, :3] = np.arange(256)[:, np.newaxis]
    (found,) = _ask(node, [("grey", [_encoded(rgba)])])
    assert base64.b64decode(found) == Image.fromarray(rgba[..., :3]).convert("L").tobytes()


def test_the_tensor_is_that_of_the_runtime(node: str) -> None:
    inputs = [
        InputSpec(5, 7, 3, "float32", "bilinear"),
        InputSpec(5, 7, 3, "uint8", "bilinear"),
        InputSpec(5, 7, 1, "float32", "bilinear", scaling=ScalingSpec((1 / 255,), (-0.5,))),
        InputSpec(5, 7, 3, "float32", "bilinear", layout="nchw",
                  scaling=ScalingSpec((0.017, 0.018, 0.019), (-2.1, -2.0, -1.8))),
        # Halves between two steps, and values beyond the type.
        InputSpec(5, 7, 3, "int8", "bilinear", scaling=ScalingSpec((0.5, 1.0, 1.5), (0.0, 0.0, -9.0), 1.0, -128)),
    ]  # fmt: skip
    grey = np.random.default_rng(2).integers(0, 256, (5, 7)).astype(np.uint8)
    found = _ask(node, [("tensor", [json.loads(records.dumps(each)), _encoded(grey)]) for each in inputs])
    for given, answered in zip(inputs, found, strict=True):
        tensor = np.empty(pixels.shape(given), given.dtype)
        pixels.filler(given)(tensor, grey)
        assert tuple(answered["shape"]) == tensor.shape
        np.testing.assert_array_equal(np.array(answered["values"], given.dtype).reshape(tensor.shape), tensor)


def _classifier(spec: ModelSpec) -> Classifier:
    """A classifier that decides, and runs nothing."""
    found = Classifier.__new__(Classifier)
    found.spec = spec
    return found


def _two_classes() -> ModelSpec:
    bounds = ConformalSpec(0.9, 0.3, 0.6, {"NORMAL": 50, "PNEUMONIA": 50}, "validation")
    return replace(specs.make_spec("tiny", "fp32"), conformal=bounds)


def _three_classes() -> ModelSpec:
    names = ("A", "B", "C")
    spec = specs.make_spec("tiny", "fp32")
    bounds = ConformalSpec(0.9, None, None, dict.fromkeys(names, 9), "validation", least={"A": 0.3, "B": 0.3, "C": 0.3})
    decision = replace(spec.decision, positive_class=None, threshold=None)
    return replace(spec, class_names=names, decision=decision, conformal=bounds)


def test_the_answer_is_that_of_the_classifier(node: str) -> None:
    random, calls, expected = np.random.default_rng(3), [], []
    for spec in (_two_classes(), _three_classes()):
        classifier, count = _classifier(spec), len(spec.class_names)
        drawn = random.dirichlet(np.ones(count), 40).astype(np.float32)
        # Exactly at the threshold, and two classes alike.
        drawn[0], drawn[1] = np.full(count, 1 / count), np.full(count, 1 / count)
        for values in drawn:
            given = dict(zip(spec.class_names, values.tolist(), strict=True))
            label = classifier.decide(given)
            kept = classifier.prediction_set(given)
            expected.append((label, list(kept or ()), kept != (label,)))
            calls.append(("answer", [json.loads(records.dumps(spec)), {"probability": values.tolist()}]))
    found = _ask(node, calls)
    assert [(each["label"], each["predictionSet"], each["uncertain"]) for each in found] == expected


@pytest.mark.parametrize("scores", ["logits", "logit", "probability"])
def test_scores_become_the_probabilities_of_the_classifier(node: str, scores: Any) -> None:
    spec = replace(specs.make_spec("tiny", "fp32"), scores=scores)
    drawn = np.random.default_rng(4).normal(0, 30, (20, spec.score_count)).astype(np.float32)
    if scores == "probability":
        np.copyto(drawn, np.abs(drawn) % 1)
    text = json.loads(records.dumps(spec))
    found = _ask(node, [("answer", [text, {"probability": values.tolist()}]) for values in drawn])
    expected = [as_probabilities(values, spec.scores) for values in drawn]
    np.testing.assert_allclose([each["probabilities"] for each in found], expected, rtol=0, atol=1e-12)


def test_the_distance_is_that_of_the_input_check(node: str, classifier: Classifier) -> None:
    check = classifier.spec.input_check
    assert check
    components = np.random.default_rng(5).normal(check.mean, check.scale, (5, len(check.mean))).astype(np.float32)
    components[4] += 5 * np.array(check.scale, np.float32)
    text = json.loads(records.dumps(classifier.spec))
    found = _ask(
        node,
        [("answer", [text, {"probability": [0.5, 0.5], "components": values.tolist()}]) for values in components],
    )
    expected = check.distances(components)
    np.testing.assert_allclose([each["distance"] for each in found], expected, rtol=1e-12)
    assert [each["outOfDistribution"] for each in found] == (expected > check.limit).tolist()
    assert found[4]["outOfDistribution"]


@pytest.mark.parametrize("values", [[0.9, 0.9], [-0.1, 1.1], [1.0], ["NaN", 0.5]])
def test_what_is_no_probability_is_refused(node: str, values: list[Any]) -> None:
    text = json.loads(records.dumps(specs.make_spec("tiny", "fp32")))
    (found,) = _ask(node, [("refused", [text, {"probability": values}])])
    assert "not 2 probabilities" in found
