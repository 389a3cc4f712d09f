"""The example, as a script from a wheel in a fresh environment, and as a notebook."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import pages

pytestmark = pytest.mark.slow

_EXAMPLES = Path(__file__).parents[2] / "examples"
_SCRIPT = _EXAMPLES / "train_export_benchmark.py"
_NOTEBOOK = _EXAMPLES / "train_export_benchmark.ipynb"
#: What the example takes, and the engine that cannot share a process with TensorFlow.
_EXTRAS = "train,convert,bench,report,tflite"


def test_the_script_runs_from_a_wheel_in_a_fresh_environment(
    wheel: Path, sample_pack: Path, tmp_path: Path, fresh_environment: Callable[[Path, str], Path]
) -> None:
    python = fresh_environment(tmp_path / "venv", f"{wheel}[{_EXTRAS}]")
    script = tmp_path / _SCRIPT.name
    script.write_text(pages.with_few_calls(_SCRIPT.read_text(encoding="utf-8")), encoding="utf-8")
    done = subprocess.run(
        [python, script, sample_pack, "out"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^mobilenetv2-int8.tflite: AUC 0\.9\d\d \[", done.stdout, re.MULTILINE)
    engines = re.findall(
        r"^mobilenetv2-int8.tflite on (\S+): [\d.]+ ms, peak memory \d+ MiB$", done.stdout, re.MULTILINE
    )
    # Whatever TensorFlow in the same process does to it.
    assert set(engines) == {"litert", "tflite-runtime"} if sys.version_info < (3, 12) else {"litert"}
    spec = json.loads((tmp_path / "out" / "models" / "mobilenetv2-int8.tflite.proof.json").read_text())
    assert set(spec["verification"]["engines"]) == set(engines)
    assert (tmp_path / "out" / "benchmark" / "report.html").is_file()


@pytest.fixture
def executed(tmp_path: Path, sample_pack: Path, trained: Path) -> list[dict[str, Any]]:
    """The cells of the notebook after it was run, in a folder beside the sample pack.

    It takes the finished run and file; the script trains and exports the same.
    """
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    folder = tmp_path / "examples"
    folder.mkdir()
    (tmp_path / sample_pack.name).symlink_to(sample_pack)
    shutil.copytree(trained / "runs" / "mobilenetv2-quick", folder / "out" / "run")
    shutil.copytree(trained / "models", folder / "out" / "models")
    notebook = nbformat.read(_NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        cell.source = pages.with_few_calls(cell.source)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(folder)}}).execute()
    return list(notebook.cells)


def test_the_notebook_runs_and_shows_progress(executed: list[dict[str, Any]]) -> None:
    shown = "\n".join(_texts(executed))
    assert "'auc': '0.9" in shown
    assert "mobilenetv2-int8.tflite on litert: " in shown
    # A bar for each job, which is full in the end, as on a terminal.
    assert re.search(r"^Timing +━+ (\d+)/\1 ", shown, re.MULTILINE)
    assert re.search(r"^Scoring the test images +━+ (\d+)/\1 ", shown, re.MULTILINE)


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads(_NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def _texts(cells: list[dict[str, Any]]) -> Iterator[str]:
    for cell in cells:
        for output in cell.get("outputs", ()):
            yield output.get("text") or output.get("data", {}).get("text/plain", "")
