"""The acceptance checks alone: on answers that are made up, with no model file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pneumo_edge.converters import acceptance
from pneumo_edge.converters.acceptance import Answers, Candidate, Loaded
from pneumo_edge.converters.reference import Reference
from pneumo_edge.errors import GateError
from pneumo_edge.evaluation.operating_point import ThresholdRule
from pneumo_edge.formats import FORMATS
from pneumo_edge.spec import COMPONENTS, HEATMAP

_IMAGES = 100
_ENGINE: Any = SimpleNamespace(name="litert", threads=2, other_shapes={HEATMAP: (1, 4)})


def _loaded(name: str) -> Loaded:
    return Loaded(Candidate(Path("x.tflite"), FORMATS[name], 1, "Do this"), [_ENGINE])


@pytest.fixture
def reference() -> Reference:
    random = np.random.default_rng(1)
    pixels = np.zeros((_IMAGES, 1, 1, 3), np.uint8)
    return Reference(
        checkpoint="",
        fingerprint="",
        sha256=np.arange(_IMAGES).astype(str),
        pixels=pixels,
        labels=np.arange(_IMAGES) % 2,
        patients=np.arange(_IMAGES),
        scores=np.linspace(0.01, 0.99, _IMAGES),
        threshold=0.5,
        rule=ThresholdRule.YOUDEN,
        red=pixels[:0],
        red_scores=np.zeros(0),
        blue_scores=np.zeros(0),
        outputs={HEATMAP: random.normal(size=(_IMAGES, 2, 2)).astype(np.float32)},
    )


def _check(name: str, reference: Reference, answers: Answers, first: Any = None) -> acceptance.Comparison:
    loaded = _loaded(name)
    comparison = acceptance.compare(loaded, reference, answers, 0.5, first)
    acceptance.check(loaded, comparison, reference, reference)
    return comparison


def test_the_same_answers_pass(reference: Reference) -> None:
    found = _check("tflite-fp32", reference, Answers(reference.scores, reference.outputs))
    assert (found.measured.max_difference, found.measured.agreement, found.measured.images) == (0, 1, _IMAGES)
    assert found.measured.output_correlation == pytest.approx(1) and not found.failed_outputs
    assert found.measured.engine_difference is None, "there is no other engine yet"


@pytest.mark.parametrize(
    ("difference", "message"),
    [
        (0.0004, "a mean difference of probability of 0.0004"),
        (np.eye(1, _IMAGES)[0] * 0.005, "a largest difference of probability of 0.005"),
    ],
)
def test_a_difference_is_told_with_engine_bound_and_remedy(difference: Any, message: str, reference: Reference) -> None:
    with pytest.raises(GateError) as caught:
        _check("tflite-fp32", reference, Answers(reference.scores + difference, reference.outputs))
    assert f"x.tflite on litert, 2 threads has {message} against the Keras model" in str(caught.value)
    assert caught.value.remedy == "Do this"


def test_a_changed_decision_counts_only_where_keras_is_decided(reference: Reference) -> None:
    scores = reference.scores.copy()
    nearest = int(np.argmin(np.abs(scores - 0.5)))
    told = replace(reference, scores=np.where(np.arange(_IMAGES) == nearest, 0.4996, scores))
    scores[nearest] = 0.5004
    found = _check("tflite-fp32", told, Answers(scores, reference.outputs))
    assert found.measured.agreement == 1


def test_further_engines_must_agree_with_the_first(reference: Reference) -> None:
    answers = Answers(reference.scores, reference.outputs)
    assert _check("tflite-fp32", reference, answers, reference.scores).measured.engine_difference == 0
    with pytest.raises(GateError, match=r"largest difference from the first engine of 0\.1"):
        _check("tflite-fp32", reference, answers, reference.scores - 0.1)


def test_an_output_that_fails_its_check_costs_a_quantized_file_that_output_alone(reference: Reference) -> None:
    other = Answers(reference.scores, {HEATMAP: -np.asarray(reference.outputs[HEATMAP])})
    assert _check("tflite-int8", reference, other).failed_outputs == {HEATMAP}
    with pytest.raises(GateError, match=f"of {HEATMAP} against"):
        _check("tflite-fp32", reference, other)


def test_an_output_that_is_missing_is_named(reference: Reference) -> None:
    more = replace(reference, outputs={**reference.outputs, COMPONENTS: np.zeros((_IMAGES, 3), np.float32)})
    with pytest.raises(GateError, match=f"has no output {COMPONENTS}"):
        _check("tflite-int8", more, Answers(reference.scores, reference.outputs))
