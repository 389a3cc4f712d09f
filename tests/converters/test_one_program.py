"""Training and exporting in one program: TensorFlow is in it, and so are the engines of the gate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pneumo_edge._util import extras

pytestmark = pytest.mark.slow

#: Not guarded by ``__name__``, as users' programs often are not.
_PROGRAM = """
import sys
from pathlib import Path
import tensorflow
from pneumo_edge.converters.export import export
from pneumo_edge.formats import FORMATS
run, out, cache = map(Path, sys.argv[1:])
print("once")
for each in export(run, [FORMATS["tflite-fp32"]], out, cache):
    print(each.missed or sorted(each.spec.verification.engines))
"""


def test_a_program_that_has_imported_tensorflow_exports_and_verifies(
    tiny_run: Path, phantom: Path, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    command = [sys.executable, str(program), str(tiny_run), str(tmp_path / "out"), str(phantom / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    names = [name for name in ("litert", "tflite-runtime") if extras.is_installed({"litert": "ai_edge_litert"}.get(
        name, "tflite_runtime"))]  # fmt: skip
    assert done.stdout.splitlines() == ["once", str(names)], done.stderr
    assert (tmp_path / "out" / "tiny-fp32.tflite").exists()
