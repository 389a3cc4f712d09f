"""Engines that report their use to their makers do not do so here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


def test_onnxruntime_keeps_no_record_of_its_use(tiny_models: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    home, scratch, image = tmp_path / "home", tmp_path / "scratch", tmp_path / "phantom.png"
    home.mkdir()
    scratch.mkdir()
    Image.new("L", (300, 300), 90).save(image)
    model = tiny_models / "tiny-fp32.onnx"
    script = f"from pneumo_edge import Classifier; Classifier({str(model)!r}).predict({str(image)!r})"
    names = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}
    kept = {name: value for name, value in os.environ.items() if name not in names}
    environment = kept | {"HOME": str(home), "TMPDIR": str(scratch)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert [*home.rglob("*"), *scratch.iterdir()] == []
