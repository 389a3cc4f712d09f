"""The measured table in docs/quantization.md, from the proofs in results/formats."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pneumo_edge import bundled
from pneumo_edge._util import files
from pneumo_edge.converters import proof
from pneumo_edge.errors import ConversionError
from pneumo_edge.formats import FORMATS
from tools import formats_page

_ROOT = Path(__file__).parents[2]
_RESULTS = _ROOT / formats_page.RESULTS
_PAGE = (_ROOT / formats_page.PAGE).read_text(encoding="utf-8")


def test_the_page_holds_the_table_that_follows_from_the_proofs() -> None:
    assert formats_page.table(_RESULTS) in (_ROOT / formats_page.PAGE).read_text(encoding="utf-8")


def test_every_format_of_both_backbones_was_measured_on_every_engine_it_promises() -> None:
    for row in FORMATS.values():
        for backbone in bundled.NAMES:
            kept = proof.load(_RESULTS / row.file_name(backbone))
            measured = replace(kept.origin.format, by_processor=row.by_processor)
            if row.id == "onnx-int8":
                assert measured.bounds == row.bounds
                assert "`onnx-int8` rows were measured with signed 8-bit weights" in _PAGE, "which it has no longer"
            else:
                assert measured == row.record, "measured with the bounds and settings of today"
            assert set(kept.verification.engines) == set(row.engines)
            assert kept.verification.images >= 500
            assert (kept.calibration is not None) == row.calibrated
            assert not kept.calibration or kept.calibration.stability is not None


def test_the_bundled_files_are_those_that_were_verified() -> None:
    for name in bundled.NAMES:
        path = bundled.path(name)
        assert proof.load(_RESULTS / path.name).sha256 == files.sha256(path)


def test_a_missing_proof_is_named(tmp_path: Path) -> None:
    kept = proof.path(_RESULTS / "mobilenetv2-fp32.tflite")
    shutil.copy(kept, tmp_path / kept.name)
    with pytest.raises(ConversionError, match=r"there is no proof .*efficientnetb0-fp32\.tflite\.proof\.json"):
        formats_page.table(tmp_path)
