"""A study whose command is killed twice ends as its runs do where each network is trained undisturbed.

By default it has two networks and two seeds. ``make kill-study`` has three of each.
"""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pneumo_edge import runs, studies
from pneumo_edge._util import extras
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.errors import ExitCode
from tests import tiny_backbone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

_REPOSITORY = Path(__file__).parents[2]
_SIZE = int(os.environ.get("PNEUMO_EDGE_STUDY_SIZE", "2"))
_NETWORKS = tuple(f"{tiny_backbone.NAME}-{number}" for number in range(_SIZE))
#: Python runs it at the start of every process, so that the processes of the runs know the networks, too.
_SITE = f"""
from dataclasses import replace
from pneumo_edge.backbones import BACKBONES
from tests import tiny_backbone
for number, name in enumerate({_NETWORKS!r}):
    BACKBONES[name] = replace(tiny_backbone.ROW, name=name, title=name, options={{"features": 16 + number}})
"""


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    if not extras.is_installed("keras"):
        pytest.skip("the extra 'train' is not installed")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_SITE)
    # As many threads in all processes: the sums of TensorFlow depend on their number.
    threads = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
    return {
        **os.environ,
        **threads,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(_REPOSITORY)]),
        "PNEUMO_EDGE_CACHE": str(tmp_path / "cache"),
    }


def _words(folder: Path, *words: str) -> list[str]:
    common = ["train", "--data", str(folder / "data"), "--recipe", "quick", "--image-size", "96"]
    return [*common, "--seeds", f"0-{_SIZE - 1}", *words]


def _study(folder: Path) -> list[str]:
    names = [word for name in _NETWORKS for word in ("--backbone", name)]
    words = _words(folder, *names, "--study", str(folder / "study"), "--cores", "1")
    return [sys.executable, "-m", "pneumo_edge", *words]


def _alone(folder: Path) -> list[str]:
    """Trains each network with its seeds, one run after the other in one process."""
    calls = [_words(folder, "--backbone", name, "--out", str(folder / "alone" / f"{name}-quick")) for name in _NETWORKS]
    code = f"from pneumo_edge.cli import app\nfor words in {calls!r}:\n    app(words, standalone_mode=False)"
    return [sys.executable, "-c", code]


def _kill_when(command: list[str], environment: Mapping[str, str], moment: Callable[[], bool]) -> None:
    """Run a command until a moment, then kill it."""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            while not moment():
                assert process.poll() is None, process.communicate()[0].decode()
                time.sleep(0.02)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL


def _content(run: Path) -> dict[str, Any]:
    """What a run says, but for times, and for hashes that follow from them."""
    import h5py

    record = json.loads((run / runs.RECORD_NAME).read_bytes())
    found: dict[str, Any] = {name: (run / name).read_bytes() for name in ("validation.csv", "split.json")}
    found["record"] = {name: value for name, value in record.items() if name not in ("model_sha256", "record_sha256")}
    with (run / "history.csv").open(newline="") as stream:
        found["history"] = [{**row, "seconds": ""} for row in csv.DictReader(stream)]
    with zipfile.ZipFile(run / runs.MODEL_NAME) as archive:
        stored = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
        stored.visititems(
            lambda name, item: found.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
        )
    return found


def test_a_study_that_is_killed_twice_ends_as_one_that_is_not(environment: Mapping[str, str], tmp_path: Path) -> None:
    make_phantom(tmp_path / "data", seed=1, train_per_class=12, test_per_class=2)
    study = tmp_path / "study"

    def finished() -> int:
        return len(list(study.glob(f"*/{runs.RECORD_NAME}")))

    _kill_when(_study(tmp_path), environment, lambda: any(study.glob("*/checkpoint/head/state.json")))
    assert not finished()
    _kill_when(_study(tmp_path), environment, lambda: finished() > 0)
    before = {path: path.stat().st_mtime_ns for path in study.glob(f"*/{runs.RECORD_NAME}")}
    assert 0 < len(before) < _SIZE**2
    done = subprocess.run(_study(tmp_path), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Study: {_SIZE**2} of {_SIZE**2} runs are finished" in done.stdout
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert not list(study.glob("*.lock")) and {run.error for run in studies.load(study).runs} == {""}

    subprocess.run(_alone(tmp_path), env=environment, capture_output=True, check=True)
    for run in studies.load(study).runs:
        assert _content(study / run.name) == _content(tmp_path / "alone" / run.name), run.name
    assert len({(study / run.name / "validation.csv").read_bytes() for run in studies.load(study).runs}) == _SIZE**2


def test_a_refused_call_leaves_the_study_as_it_was(environment: Mapping[str, str], tmp_path: Path) -> None:
    make_phantom(tmp_path / "data", seed=1, train_per_class=12, test_per_class=2)
    command = [*_study(tmp_path), "--weights", str(tmp_path / "nowhere")]
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == ExitCode.FAILED, refused.stderr
    assert "nowhere" in refused.stderr.splitlines()[-1]
    assert not (tmp_path / "study" / studies.RECORD_NAME).exists()
