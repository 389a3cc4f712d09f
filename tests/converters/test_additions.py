"""A format or an engine is added in one place: in a copy of the package, as whoever adds one would edit it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pneumo_edge

pytestmark = pytest.mark.slow

#: Runs a command of the copy and returns what it wrote to standard output.
Command = Callable[..., str]

_ROW_OF_FORMAT = """
        Format(
            "tflite",
            "int8-lenient",
            "as int8, held to other bounds",
            "uint8",
            _TFLITE,
            replace(_QUANTIZED, mean_difference=0.06),
            quantized=True,
            calibrated=True,
            converter=".tflite:int8",
            arithmetic="int8",
        ),
"""
_FILE_OF_ENGINE = '''"""An engine that is another one under a name of its own."""

from pneumo_edge.runtime.engines import litert


def load(path, threads, given):
    engine = litert.load(path, threads, given)
    engine.name = "another"
    return engine


load_any = litert.load_any
'''
_ROW_OF_ENGINE = """
        EngineInfo("another", ".another", "ai_edge_litert", (TFLITE.suffix,), "litert"),
"""
_TABLE_OF_FORMATS, _TABLE_OF_ENGINES = "    for row in (", "ENGINES = EngineTable(\n    ("
_FEW = ("--processes", "1", "--queries", "12", "--seconds", "0")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package, in a folder of its own."""
    source = Path(pneumo_edge.__file__).parent
    return Path(shutil.copytree(source, tmp_path / "copy" / source.name, ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture
def command(copy: Path, phantom: Path, tmp_path: Path) -> Command:
    environment = {**os.environ, "PYTHONPATH": str(copy.parent), "PNEUMO_EDGE_CACHE": str(phantom / "cache")}

    def run(*words: str | Path) -> str:
        line = [sys.executable, "-m", "pneumo_edge", *map(str, words)]
        done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def _add_row(file: Path, table: str, row: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(table) == 1
    file.write_text(text.replace(table, table + row.rstrip("\n")), encoding="utf-8")


def test_a_format_is_added_by_a_row(
    copy: Path, command: Command, tiny_run: Path, phantom: Path, tmp_path: Path
) -> None:
    _add_row(copy / "formats.py", _TABLE_OF_FORMATS, _ROW_OF_FORMAT)
    model = tmp_path / "models" / "tiny-int8-lenient.tflite"
    assert f"{model}: " in command("export", tiny_run, "--format", "int8-lenient", "--out", model.parent)
    assert "(made before)" in command("export", tiny_run, "--format", "int8-lenient", "--out", model.parent)
    assert f"{model}: verified on" in command("verify", model)
    assert "int8-lenient" in command("info", model)
    command("benchmark", model, "--data", phantom / "data", "--engine", "litert", *_FEW, "--out", tmp_path / "reports")
    assert "| int8-lenient | litert |" in (tmp_path / "reports" / "report.md").read_text(encoding="utf-8")


def test_an_engine_is_added_by_a_file_and_a_row(
    copy: Path, command: Command, tiny_models: Path, phantom: Path, tmp_path: Path
) -> None:
    engines = copy / "runtime" / "engines"
    (engines / "another.py").write_text(_FILE_OF_ENGINE, encoding="utf-8")
    _add_row(engines / "__init__.py", _TABLE_OF_ENGINES, _ROW_OF_ENGINE)
    model, image = tiny_models / "tiny-fp32.tflite", next((phantom / "data" / "test").rglob("*.jpeg"))
    assert command("predict", image, "--model", model, "--engine", "another")
    assert "another" in command("info", model)
    options = ("--data", phantom / "data", "--engine", "another", *_FEW, "--out", tmp_path / "reports")
    command("benchmark", model, *options)
    assert "| fp32 | another |" in (tmp_path / "reports" / "report.md").read_text(encoding="utf-8")
