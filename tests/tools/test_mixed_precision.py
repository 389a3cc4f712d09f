"""The table of mixed precision in docs/quantization.md, from the records in results/mixed-precision."""

from __future__ import annotations

from pathlib import Path

import pytest

from pneumo_edge.formats import ON_REQUEST
from tools import mixed_precision

_ROOT = Path(__file__).parents[2]
_BOUNDS = ON_REQUEST["tflite-mixed"].bounds
_OUTCOMES = mixed_precision.load(_ROOT / mixed_precision.RESULTS)


def test_the_page_holds_the_table_that_follows_from_the_records() -> None:
    assert len(_OUTCOMES) >= 2
    assert mixed_precision.table(_OUTCOMES) in (_ROOT / mixed_precision.PAGE).read_text(encoding="utf-8")


@pytest.mark.parametrize("outcome", _OUTCOMES, ids=lambda each: each.name)
def test_int8_alone_fails_and_the_file_of_mixed_precision_passes(outcome: mixed_precision.Outcome) -> None:
    mixed = outcome.calibration.mixed_precision
    assert mixed is not None and 0 < len(mixed.in_float) < mixed.operators
    assert f"{outcome.backbone}-int8.tflite" in outcome.int8_failed
    assert set(outcome.verification.engines) == {"litert", "tflite-runtime"}
    for measured in outcome.verification.measured.values():
        assert measured["agreement"] >= _BOUNDS.min_agreement - 1 / measured["images"]
        assert measured.get("max_auc_loss", 0) <= _BOUNDS.max_auc_loss
    for ratio in (outcome.files["mixed"].as_int8, outcome.files["mixed"].as_fp32):
        assert 0 < ratio.low <= ratio.value <= ratio.high < 100
    assert outcome.files["int8"].size_bytes < outcome.files["mixed"].size_bytes < outcome.files["fp32"].size_bytes
