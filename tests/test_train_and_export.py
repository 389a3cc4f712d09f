"""Runs docs/how-to/train.md as a newcomer would: its steps, in their order, in a folder with a small data set."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pneumo_edge import runs
from pneumo_edge.benchmarks import results
from pneumo_edge.evaluation.metrics import auc
from pneumo_edge.formats import USUAL, select
from pneumo_edge.scoring import summary
from pneumo_edge.studies import Study, StudyRun
from tests import pages
from tests.present import present

_OWN = f"tests/{Path(__file__).name}"
_STEPS, _PYTHON, _STUDY = (
    [block for block in pages.blocks(pages.REPOSITORY / "docs" / page) if block.reason == _OWN]
    for page in ("how-to/train.md", "python.md", "how-to/study.md")
)


@pytest.mark.slow
def test_the_steps_work_as_written_without_a_network(workplace: Path, offline: Mapping[str, str]) -> None:
    # The first three have made the folder that this one begins with.
    assert len(_STEPS) == 3
    for step in _STEPS:
        pages.run(step, workplace, offline, few_calls=True)
    for name in ("audit.png", "reports/results.json", "reports/report.md", "reports/report.html"):
        assert (workplace / name).stat().st_size > 0
    # From the sample pack and the bundled weights: every file passed its checks, and is of use.
    measured = results.read(workplace / "reports" / "results.json")
    assert {model.file for model in measured.models} == {row.file_name("mobilenetv2") for row in select(list(USUAL))}
    assert all(model.initial_weights.startswith("bundled mobilenetv2-int8 (sha256 ") for model in measured.models)
    names = sorted(present(measured.test_set).labels)
    labels = np.array([present(measured.test_set).labels[name] for name in names])
    for unit in measured.units:
        assert auc(labels, np.array([unit.probabilities[name] for name in names])) > 0.95, unit.unit.name
    # The same from Python: what is trained and exported already is taken as it is.
    (block,) = _PYTHON
    printed = pages.run(block, workplace, offline, few_calls=True)
    assert re.fullmatch(r"AUC (0\.9\d+|1\.000) \[.*\] Report: reports.report\.md\n", printed)
    again = results.read(workplace / "reports" / "results.json")
    assert {model.file for model in again.models} == {"mobilenetv2-int8.tflite"}
    assert {model.sha256 for model in again.models} <= {model.sha256 for model in measured.models}


@pytest.mark.slow
def test_a_study_is_exported_and_evaluated(workplace: Path, offline: Mapping[str, str]) -> None:
    folder = workplace / "runs" / "study-best"
    run = runs.load(workplace / "runs" / "mobilenetv2-quick")
    row = StudyRun("mobilenetv2-quick-0", run.backbone, run.training.recipe, run.training.seed, 1, 10**9)
    Study(run.data_path, run.data.fingerprint, (row, replace(row, name="mobilenetv2-quick-1", seed=1))).save(folder)
    (workplace / "runs" / "mobilenetv2-quick").rename(folder / row.name)
    (workplace / "models").rename(folder / "models")
    for path in [*folder.glob("models/*.onnx"), *folder.glob("models/*fp*.tflite")]:
        path.unlink()
    (block,) = (
        block for block in pages.blocks(pages.REPOSITORY / "docs" / "how-to" / "study.md") if block.reason == _OWN
    )
    assert "(made before)" in pages.run(block, workplace, offline)
    (measured,) = summary.read(folder / "evaluation-test" / "metrics.json").models
    assert (measured.model.file, measured.model.seed) == ("mobilenetv2-int8.tflite", run.training.seed)


@pytest.fixture
def workplace(trained: Path, tmp_path: Path) -> Path:
    """A folder with a small chest_xray of real X-rays, which were audited, and a run trained on them and exported."""
    shutil.copytree(trained, tmp_path, symlinks=True, dirs_exist_ok=True)
    shutil.copy(next((tmp_path / "chest_xray" / "test" / "PNEUMONIA").iterdir()), tmp_path / "x-ray.jpeg")
    return tmp_path
