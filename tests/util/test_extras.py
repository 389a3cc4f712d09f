from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pneumo_edge._util import extras
from pneumo_edge.errors import MissingExtraError


def test_what_is_installed_is_imported() -> None:
    assert extras.need("json", "none") is json


def test_what_is_not_installed_is_named_with_its_extra() -> None:
    with pytest.raises(MissingExtraError) as caught:
        extras.need("no_such_library", "bench")
    assert str(caught.value) == (
        "the Python package no_such_library is not installed; expected the extra 'bench' of pneumo-edge. "
        'Run: pip install "pneumo-edge[bench]".'
    )


def test_what_does_not_import_is_named_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_library.py").write_text("raise TypeError('made for another protobuf')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match=r"broken_library does not import \(made for another protobuf\)"):
        extras.need("broken_library", "convert")


def test_being_installed_is_found_out_without_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "untouched_library.py").write_text("raise AssertionError")
    monkeypatch.syspath_prepend(tmp_path)
    assert extras.is_installed("untouched_library")
    assert extras.is_installed("untouched_library.inside")
    assert not extras.is_installed("no_such_library")
    assert "untouched_library" not in sys.modules


def test_a_check_finds_what_is_missing_and_imports_nothing() -> None:
    extras.check("json", "train")
    with pytest.raises(MissingExtraError, match=r"pneumo-edge\[train\]"):
        extras.check("no_such_library_anywhere", "train")
