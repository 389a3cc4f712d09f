from __future__ import annotations

import pytest

from pneumo_edge.errors import ArgumentError
from pneumo_edge.formats import FORMATS, USUAL, select
from pneumo_edge.runtime.engines import ENGINES
from pneumo_edge.runtime.engines import USUAL as USUAL_ENGINES


def test_every_format_names_engines_that_run_its_kind_of_file() -> None:
    for row in FORMATS.values():
        assert row.engines
        assert all(f".{row.target}" in ENGINES[name].suffixes for name in row.engines)
        assert set(row.engines) <= set(USUAL_ENGINES), "proofs do not change when another engine is installed"


def test_file_names_are_unique() -> None:
    names = [row.file_name("mobilenetv2") for row in FORMATS.values()]
    assert len(set(names)) == len(names)
    assert "mobilenetv2-int8.tflite" in names


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["all"], list(FORMATS)),
        (["weight-only"], ["tflite-weight-only"]),
        (["fp32"], ["tflite-fp32", "onnx-fp32"]),
        (["onnx-fp16", "int8"], ["onnx-fp16", "tflite-int8", "onnx-int8"]),
        (["onnx", "tflite-int8"], ["onnx-fp32", "onnx-fp16", "onnx-dynamic", "onnx-int8", "tflite-int8"]),
        (list(USUAL), list(USUAL)),
    ],
)
def test_select(words: list[str], expected: list[str]) -> None:
    assert [row.id for row in select(words)] == expected


def test_nothing_is_chosen_twice() -> None:
    chosen = [row.id for row in select(["int8", "all", "int8"])]
    assert sorted(chosen) == sorted(FORMATS)
    assert chosen[:2] == ["tflite-int8", "onnx-int8"]


def test_an_unknown_format_is_named_with_the_known_ones() -> None:
    with pytest.raises(ArgumentError, match=r"'int4'.*tflite-int8"):
        select(["fp32", "int4"])
